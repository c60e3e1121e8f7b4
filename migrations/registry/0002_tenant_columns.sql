-- New columns, and mode/status as text with a check. In older Registries the two are varchar, text with
-- a narrower check, or enum types that know only shared|dedicated and active|suspended.

DO $$
DECLARE
  col record;
  con record;
  standard text;
BEGIN
  FOR col IN
    SELECT a.attname AS name, a.attnum AS num, a.atttypid AS type
    FROM pg_attribute a
    WHERE a.attrelid = 'tenants'::regclass AND a.attname IN ('mode', 'status')
  LOOP
    -- Checks on this column alone: narrower than ours, or ours from a run that was cut short.
    FOR con IN
      SELECT conname AS name FROM pg_constraint
      WHERE conrelid = 'tenants'::regclass AND contype = 'c' AND conkey = ARRAY[col.num]
    LOOP
      EXECUTE format('ALTER TABLE tenants DROP CONSTRAINT %I', con.name);
    END LOOP;
    IF col.type <> 'text'::regtype THEN
      -- The default is of the old type and would not convert by itself.
      EXECUTE format('ALTER TABLE tenants ALTER COLUMN %I DROP DEFAULT', col.name);
      EXECUTE format('ALTER TABLE tenants ALTER COLUMN %I TYPE text USING %I::text', col.name, col.name);
    END IF;
    standard := CASE col.name WHEN 'mode' THEN 'shared' ELSE 'active' END;
    EXECUTE format('ALTER TABLE tenants ALTER COLUMN %I SET DEFAULT %L', col.name, standard);
  END LOOP;
END
$$;

CREATE SEQUENCE IF NOT EXISTS tenants_config_version_seq AS bigint;

-- config_version orders two copies of one row. changed_xid is what the watch reads by: sequence values
-- commit out of order, while a transaction id against an earlier snapshot loses no row (registry/store-sql.ts).
ALTER TABLE tenants
  ADD COLUMN IF NOT EXISTS name text,
  ADD COLUMN IF NOT EXISTS config_version bigint NOT NULL DEFAULT nextval('tenants_config_version_seq'),
  ADD COLUMN IF NOT EXISTS changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  ADD COLUMN IF NOT EXISTS updated_at timestamptz NOT NULL DEFAULT now(),
  ADD COLUMN IF NOT EXISTS status_reason text,
  ADD COLUMN IF NOT EXISTS bucket_prefix text,
  ADD COLUMN IF NOT EXISTS db_ssl_mode text,
  ADD COLUMN IF NOT EXISTS db_pool_max integer,
  ADD COLUMN IF NOT EXISTS app_url text,
  ADD COLUMN IF NOT EXISTS plan text,
  ADD COLUMN IF NOT EXISTS limits jsonb NOT NULL DEFAULT '{}',
  ADD COLUMN IF NOT EXISTS tokens_valid_after timestamptz,
  ADD COLUMN IF NOT EXISTS schema_version text;

-- A check holds for new and changed rows from now on. Where an older row breaks it, it stays NOT VALID:
-- the data is kept, the gateway refuses that one tenant, and the next change of the row must mend it.
DO $$
DECLARE
  rule record;
  broken bigint;
BEGIN
  FOR rule IN
    SELECT * FROM (VALUES
      ('tenants_mode_known', $c$mode IS NOT NULL AND mode IN ('shared', 'dedicated')$c$),
      ('tenants_status_known', $c$status IS NOT NULL AND status IN
        ('provisioning', 'active', 'maintenance', 'suspended', 'archived')$c$),
      ('tenants_db_ssl_mode_known', $c$db_ssl_mode IN ('disable', 'require', 'verify-full')$c$),
      ('tenants_db_pool_max_sane', $c$db_pool_max BETWEEN 1 AND 1000$c$),
      ('tenants_db_port_sane', $c$db_port BETWEEN 1 AND 65535$c$),
      -- The slash at the end keeps "a/" from being the beginning of "ab/".
      ('tenants_bucket_prefix_form', $c$bucket_prefix ~ '^([A-Za-z0-9_][A-Za-z0-9._-]*/)+$'$c$),
      ('tenants_limits_object', $c$jsonb_typeof(limits) = 'object'$c$)
    ) AS rules (name, condition)
  LOOP
    EXECUTE format('ALTER TABLE tenants DROP CONSTRAINT IF EXISTS %I', rule.name);
    EXECUTE format('ALTER TABLE tenants ADD CONSTRAINT %I CHECK (%s) NOT VALID', rule.name, rule.condition);
    EXECUTE format('SELECT count(*) FROM tenants WHERE NOT (%s)', rule.condition) INTO broken;
    IF broken = 0 THEN
      EXECUTE format('ALTER TABLE tenants VALIDATE CONSTRAINT %I', rule.name);
    ELSE
      RAISE WARNING '% row(s) of tenants break %', broken, rule.name;
    END IF;
  END LOOP;
END
$$;

CREATE INDEX IF NOT EXISTS tenants_changed_xid ON tenants (changed_xid);

-- Keys are looked up in lower case; older rows may hold capitals.
DO $$
BEGIN
  IF EXISTS (SELECT FROM tenants GROUP BY lower(tenant_key::text) HAVING count(*) > 1) THEN
    RAISE WARNING 'tenant keys that differ only in case: the one in lower case wins at login';
    CREATE INDEX IF NOT EXISTS tenants_key_lower ON tenants (lower(tenant_key::text));
  ELSE
    CREATE UNIQUE INDEX IF NOT EXISTS tenants_key_lower ON tenants (lower(tenant_key::text));
  END IF;
END
$$;
