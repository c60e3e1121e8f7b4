-- The tables that every user of the older schema has. Each statement leaves what exists as it is:
-- the older tool kept no record of its migrations, so this file also runs on a Registry it made.

CREATE TABLE IF NOT EXISTS tenants (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_key text NOT NULL UNIQUE,
  mode text NOT NULL DEFAULT 'shared',
  status text NOT NULL DEFAULT 'active',
  db_host text,
  db_port integer DEFAULT 5432,
  db_name text,
  db_user text,
  db_password_encrypted text,
  bucket_provider text,
  bucket_name text,
  bucket_access_key_encrypted text,
  bucket_secret_key_encrypted text,
  bucket_region text,
  bucket_endpoint text,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Older Registries may lack some of these.
ALTER TABLE tenants
  ADD COLUMN IF NOT EXISTS mode text NOT NULL DEFAULT 'shared',
  ADD COLUMN IF NOT EXISTS status text NOT NULL DEFAULT 'active',
  ADD COLUMN IF NOT EXISTS db_host text,
  ADD COLUMN IF NOT EXISTS db_port integer DEFAULT 5432,
  ADD COLUMN IF NOT EXISTS db_name text,
  ADD COLUMN IF NOT EXISTS db_user text,
  ADD COLUMN IF NOT EXISTS db_password_encrypted text,
  ADD COLUMN IF NOT EXISTS bucket_provider text,
  ADD COLUMN IF NOT EXISTS bucket_name text,
  ADD COLUMN IF NOT EXISTS bucket_access_key_encrypted text,
  ADD COLUMN IF NOT EXISTS bucket_secret_key_encrypted text,
  ADD COLUMN IF NOT EXISTS bucket_region text,
  ADD COLUMN IF NOT EXISTS bucket_endpoint text,
  ADD COLUMN IF NOT EXISTS created_at timestamptz NOT NULL DEFAULT now();

-- No foreign key to tenants: usage outlives a deleted tenant (it is billed afterwards), and one
-- unknown id must not fail the flush of all others.
CREATE TABLE IF NOT EXISTS customer_usage_daily (
  tenant_id uuid NOT NULL,
  date date NOT NULL,
  api_requests bigint NOT NULL DEFAULT 0,
  pdf_generated bigint NOT NULL DEFAULT 0,
  active_users integer NOT NULL DEFAULT 0,
  storage_gb numeric(14, 6) NOT NULL DEFAULT 0,
  PRIMARY KEY (tenant_id, date)
);

ALTER TABLE customer_usage_daily
  ADD COLUMN IF NOT EXISTS api_requests bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS pdf_generated bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS active_users integer NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS storage_gb numeric(14, 6) NOT NULL DEFAULT 0;

CREATE TABLE IF NOT EXISTS user_activity_daily (
  tenant_id uuid NOT NULL,
  date date NOT NULL,
  user_id text NOT NULL,
  UNIQUE (tenant_id, date, user_id)
);
