-- The control plane: named keys of the admin API, a trace of every change, and rotations under way.

-- Only the SHA-256 of a key is kept: keys are 32 random bytes, so that nothing can be guessed from it.
CREATE TABLE IF NOT EXISTS admin_keys (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  scope text NOT NULL,
  key_hash text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  revoked_at timestamptz,
  CONSTRAINT admin_keys_scope_known CHECK (scope IN ('read', 'operate', 'own')),
  CONSTRAINT admin_keys_name_form CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$')
);
-- A name may be given again once its key is revoked; the audit tells the two apart by time.
CREATE UNIQUE INDEX IF NOT EXISTS admin_keys_name_live ON admin_keys (name) WHERE revoked_at IS NULL;

-- Who did what, when. No foreign key: the trace outlives its tenant.
CREATE TABLE IF NOT EXISTS admin_audit (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor text NOT NULL,
  action text NOT NULL,
  outcome text NOT NULL DEFAULT 'done',
  tenant_id uuid,
  tenant_key text,
  request_id text,
  reason text,
  -- Only what changed, by column; a secret shows as [secret] on both sides.
  before jsonb,
  after jsonb
);
CREATE INDEX IF NOT EXISTS admin_audit_tenant ON admin_audit (tenant_id, id);

CREATE OR REPLACE FUNCTION admin_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit is append-only: % is refused', TG_OP;
END
$$;
DROP TRIGGER IF EXISTS admin_audit_append_only ON admin_audit;
CREATE TRIGGER admin_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON admin_audit
  FOR EACH STATEMENT EXECUTE FUNCTION admin_audit_append_only();

-- The columns of a tenant that the audit tells. By name: a column of somebody's own may hold anything.
CREATE OR REPLACE FUNCTION admin_audit_view(tenant jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(tenant)
  WHERE key IN ('tenant_key', 'name', 'mode', 'status', 'status_reason', 'db_host', 'db_port', 'db_name',
    'db_user', 'db_ssl_mode', 'db_pool_max', 'bucket_provider', 'bucket_name', 'bucket_region',
    'bucket_endpoint', 'bucket_prefix', 'app_url', 'plan', 'limits', 'tokens_valid_after',
    'schema_version', 'token_issuer', 'token_jwks_url', 'token_audience', 'db_password_encrypted',
    'bucket_access_key_encrypted', 'bucket_secret_key_encrypted')
$$;

-- A ciphertext is no secret to who reads this table, but tells nothing either.
CREATE OR REPLACE FUNCTION admin_audit_hide(changes jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(jsonb_object_agg(
    regexp_replace(key, '_encrypted$', ''),
    CASE WHEN key LIKE '%\_encrypted' AND value <> 'null' THEN '"[secret]"' ELSE value END), '{}')
  FROM jsonb_each(changes)
$$;

-- By a trigger, so that no change goes unseen: not one by the command line, nor by SQL. What the admin API
-- knows more (who, why, which request) it tells by settings of its transaction.
CREATE OR REPLACE FUNCTION tenants_audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  old_view jsonb := '{}';
  new_view jsonb := '{}';
  tenant record;
BEGIN
  IF TG_OP = 'UPDATE' AND OLD.config_version = NEW.config_version THEN
    RETURN NULL;
  END IF;
  IF TG_OP <> 'INSERT' THEN
    old_view := admin_audit_view(to_jsonb(OLD));
    tenant := OLD;
  END IF;
  IF TG_OP <> 'DELETE' THEN
    new_view := admin_audit_view(to_jsonb(NEW));
    tenant := NEW;
  END IF;
  INSERT INTO admin_audit (actor, action, tenant_id, tenant_key, request_id, reason, before, after)
  SELECT
    coalesce(nullif(current_setting('doorman.actor', true), ''),
      concat(session_user, '@', current_setting('application_name'))),
    coalesce(nullif(current_setting('doorman.action', true), ''), 'tenant.' || lower(TG_OP)),
    tenant.id, tenant.tenant_key::text,
    nullif(current_setting('doorman.request_id', true), ''),
    nullif(current_setting('doorman.reason', true), ''),
    CASE WHEN TG_OP <> 'INSERT' THEN (SELECT admin_audit_hide(coalesce(jsonb_object_agg(key, value), '{}'))
      FROM jsonb_each(old_view) WHERE value IS DISTINCT FROM new_view -> key) END,
    CASE WHEN TG_OP <> 'DELETE' THEN (SELECT admin_audit_hide(coalesce(jsonb_object_agg(key, value), '{}'))
      FROM jsonb_each(new_view) WHERE value IS DISTINCT FROM old_view -> key AND NOT (TG_OP = 'INSERT' AND value = 'null')) END;
  RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS tenants_audit ON tenants;
CREATE TRIGGER tenants_audit AFTER INSERT OR UPDATE OR DELETE ON tenants
  FOR EACH ROW EXECUTE FUNCTION tenants_audit();

-- Since when a tenant is archived: it may be deleted a while after that, and not earlier.
ALTER TABLE tenants ADD COLUMN IF NOT EXISTS archived_at timestamptz;
CREATE OR REPLACE FUNCTION tenants_archived_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.status IS DISTINCT FROM 'archived' THEN
    NEW.archived_at := NULL;
  ELSIF TG_OP = 'INSERT' OR OLD.status IS DISTINCT FROM 'archived' OR NEW.archived_at IS NULL THEN
    NEW.archived_at := now();
  END IF;
  RETURN NEW;
END
$$;
DROP TRIGGER IF EXISTS tenants_archived_at ON tenants;
CREATE TRIGGER tenants_archived_at BEFORE INSERT OR UPDATE ON tenants
  FOR EACH ROW EXECUTE FUNCTION tenants_archived_at();
-- Those that are archived already: from now on, for nobody knows since when.
UPDATE tenants SET archived_at = now() WHERE status = 'archived' AND archived_at IS NULL;

-- A password on its way from a database to the Registry: whichever of the two holds it after a crash, this
-- row and the tenant's together open the database (registry/admin/rotate.ts).
CREATE TABLE IF NOT EXISTS tenant_rotations (
  tenant_id uuid PRIMARY KEY,
  db_password_encrypted text NOT NULL,
  actor text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS tenants_created_at ON tenants (created_at, id);
