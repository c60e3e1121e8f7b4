-- Every change of a tenant gets a version, leaves a trace that a later read finds, and is announced.

-- Deleted tenants, so that a gateway whose listener was cut notices them too. Kept for 30 days; a reader
-- that was away longer must read everything anew (registry/watch.ts does after one day).
CREATE TABLE IF NOT EXISTS tenant_tombstones (
  id uuid PRIMARY KEY,
  tenant_key text NOT NULL,
  config_version bigint NOT NULL,
  changed_xid xid8 NOT NULL,
  deleted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS tenant_tombstones_changed_xid ON tenant_tombstones (changed_xid);

-- Whatever a client writes into these columns is overwritten. An UPDATE that changes nothing is no change.
CREATE OR REPLACE FUNCTION tenants_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    NEW.config_version := OLD.config_version;
    NEW.changed_xid := OLD.changed_xid;
    NEW.updated_at := OLD.updated_at;
    -- As jsonb: a row with a json column of somebody's own has no equality.
    IF to_jsonb(NEW) = to_jsonb(OLD) THEN
      RETURN NEW;
    END IF;
  END IF;
  NEW.config_version := nextval('tenants_config_version_seq');
  NEW.changed_xid := pg_current_xact_id();
  NEW.updated_at := clock_timestamp();
  RETURN NEW;
END
$$;
-- "zz": triggers fire in the order of their names, and this one must see what the others did.
DROP TRIGGER IF EXISTS zz_tenants_stamp ON tenants;
CREATE TRIGGER zz_tenants_stamp BEFORE INSERT OR UPDATE ON tenants
  FOR EACH ROW EXECUTE FUNCTION tenants_stamp();

CREATE OR REPLACE FUNCTION tenants_announce(id uuid, key text, version bigint, op text)
RETURNS void LANGUAGE sql AS $$
  SELECT pg_notify('tenant_changed',
    json_build_object('id', id, 'key', key, 'version', version, 'op', lower(op))::text)
$$;

CREATE OR REPLACE FUNCTION tenants_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  version bigint;
BEGIN
  IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.id IS DISTINCT FROM NEW.id) THEN
    version := nextval('tenants_config_version_seq');
    INSERT INTO tenant_tombstones (id, tenant_key, config_version, changed_xid)
      VALUES (OLD.id, OLD.tenant_key, version, pg_current_xact_id())
      ON CONFLICT (id) DO UPDATE SET tenant_key = excluded.tenant_key, changed_xid = excluded.changed_xid,
        config_version = excluded.config_version, deleted_at = excluded.deleted_at;
    DELETE FROM tenant_tombstones WHERE deleted_at < now() - interval '30 days';
    PERFORM tenants_announce(OLD.id, OLD.tenant_key, version, 'delete');
  END IF;
  IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND OLD.config_version <> NEW.config_version) THEN
    PERFORM tenants_announce(NEW.id, NEW.tenant_key, NEW.config_version, TG_OP);
  END IF;
  RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS tenants_changed ON tenants;
CREATE TRIGGER tenants_changed AFTER INSERT OR UPDATE OR DELETE ON tenants
  FOR EACH ROW EXECUTE FUNCTION tenants_changed();

-- TRUNCATE fires no row triggers: the gateways would go on serving what is gone.
CREATE OR REPLACE FUNCTION tenants_refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'TRUNCATE tenants is refused: the gateways would not notice. Use DELETE.';
END
$$;
DROP TRIGGER IF EXISTS tenants_refuse_truncate ON tenants;
CREATE TRIGGER tenants_refuse_truncate BEFORE TRUNCATE ON tenants
  FOR EACH STATEMENT EXECUTE FUNCTION tenants_refuse_truncate();
