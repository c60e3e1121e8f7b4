-- Servers on which tenants' databases are made, and how far the making of each tenant has come.

CREATE TABLE IF NOT EXISTS database_hosts (
  name text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  host text NOT NULL,
  port integer NOT NULL DEFAULT 5432 CHECK (port BETWEEN 1 AND 65535),
  -- A role that may make roles and databases; its password like all secrets, see registry/envelope.ts.
  admin_user text NOT NULL,
  admin_db text NOT NULL DEFAULT 'postgres',
  admin_password_encrypted text NOT NULL,
  ssl_mode text CHECK (ssl_mode IN ('disable', 'require', 'verify-full')),
  created_at timestamptz NOT NULL DEFAULT now()
);

-- One row from the first step to the last; it goes when the tenant is there, or when all is undone.
CREATE TABLE IF NOT EXISTS provisioning_runs (
  tenant_key text PRIMARY KEY,
  tenant_id uuid NOT NULL UNIQUE,
  -- What was asked for, without secrets: a second run must ask for the same.
  spec jsonb NOT NULL,
  is_undoing boolean NOT NULL DEFAULT false,
  -- The step under way or failed, and why; for the operator alone, each step looks itself what is there.
  step text,
  problem text,
  updated_at timestamptz NOT NULL DEFAULT now()
);
