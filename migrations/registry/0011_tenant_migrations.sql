-- What the fleet runner knows of each tenant's database, one row per tenant. A table of its own: a note of
-- progress moves no config_version, and so costs no gateway a look-up. tenants.schema_version alone does, once
-- for each tenant and release.

-- No foreign key to tenants: a batch of notes must not fail for one tenant that was deleted meanwhile. The
-- runner removes rows of tenants that are gone.
CREATE TABLE IF NOT EXISTS tenant_migrations (
  tenant_id uuid PRIMARY KEY,
  -- Version of the database after the last attempt, as the database itself told; null: none, or not known.
  version text,
  state text NOT NULL,
  -- Why it failed. The runner writes messages only, never values of rows.
  error text,
  -- Connections made for it in the last run: more than one where it was tried again.
  attempts integer NOT NULL DEFAULT 0,
  -- Files applied in the last run.
  applied integer NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL,
  duration_ms integer,
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT tenant_migrations_state_known CHECK (state IN ('running', 'ok', 'failed'))
);
