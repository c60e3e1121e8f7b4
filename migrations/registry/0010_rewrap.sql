-- A secret that is encrypted anew under another master key means what it meant: the row is not changed by it.
-- So a rotation of the master key moves no config_version (the app refuses a version below one that it has seen, so
-- gateways must not hold different ones for one meaning), and tells nobody: 10,000 tenants are not read anew at once.
-- `tenant rotate-master-key` says by a setting of its transaction that this is what it does.

CREATE OR REPLACE FUNCTION tenants_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  secrets text[] :=
    ARRAY['db_password_encrypted', 'bucket_access_key_encrypted', 'bucket_secret_key_encrypted'];
BEGIN
  IF TG_OP = 'UPDATE' THEN
    NEW.config_version := OLD.config_version;
    NEW.changed_xid := OLD.changed_xid;
    NEW.updated_at := OLD.updated_at;
    -- As jsonb: a row with a json column of somebody's own has no equality.
    IF to_jsonb(NEW) = to_jsonb(OLD) THEN
      RETURN NEW;
    END IF;
    IF current_setting('doorman.rewrap', true) = 'on'
      AND to_jsonb(NEW) - secrets = to_jsonb(OLD) - secrets THEN
      RETURN NEW;
    END IF;
  END IF;
  NEW.config_version := nextval('tenants_config_version_seq');
  NEW.changed_xid := pg_current_xact_id();
  NEW.updated_at := clock_timestamp();
  RETURN NEW;
END
$$;
