-- No two tenants may reach the same objects: within one bucket, no tenant's prefix may equal another's or
-- begin with it; no prefix means the whole bucket. Rows that exist are left alone, for older tenants
-- may share a bucket already; the rule holds from their next change of bucket on.

CREATE OR REPLACE FUNCTION tenants_bucket_place(provider text, endpoint text)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
  -- The endpoint says where a bucket is; without one the provider's name does.
  SELECT coalesce(nullif(lower(rtrim(endpoint, '/')), ''), 'provider:' || lower(coalesce(provider, '')))
$$;

CREATE OR REPLACE FUNCTION tenants_check_bucket() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  place text := tenants_bucket_place(NEW.bucket_provider, NEW.bucket_endpoint);
  prefix text := coalesce(NEW.bucket_prefix, '');
  other text;
BEGIN
  IF NEW.bucket_name IS NULL THEN
    RETURN NEW;
  END IF;
  IF TG_OP = 'UPDATE'
    AND (OLD.bucket_name, coalesce(OLD.bucket_prefix, ''),
         tenants_bucket_place(OLD.bucket_provider, OLD.bucket_endpoint))
      IS NOT DISTINCT FROM (NEW.bucket_name, prefix, place) THEN
    RETURN NEW;
  END IF;
  -- Two transactions that take the same bucket at once wait for each other; the query after the
  -- lock sees what the first one committed.
  PERFORM pg_advisory_xact_lock(hashtextextended('doorman bucket ' || NEW.bucket_name, 0));
  SELECT t.tenant_key INTO other FROM tenants t
    WHERE t.id <> NEW.id
      AND t.bucket_name = NEW.bucket_name
      AND tenants_bucket_place(t.bucket_provider, t.bucket_endpoint) = place
      AND (starts_with(prefix, coalesce(t.bucket_prefix, ''))
        OR starts_with(coalesce(t.bucket_prefix, ''), prefix))
    LIMIT 1;
  IF other IS NOT NULL THEN
    RAISE EXCEPTION 'bucket % with prefix "%" overlaps that of tenant %', NEW.bucket_name, prefix, other
      USING ERRCODE = 'unique_violation', CONSTRAINT = 'tenants_bucket_prefix_unique', TABLE = 'tenants';
  END IF;
  RETURN NEW;
END
$$;
DROP TRIGGER IF EXISTS tenants_check_bucket ON tenants;
CREATE TRIGGER tenants_check_bucket BEFORE INSERT OR UPDATE ON tenants
  FOR EACH ROW EXECUTE FUNCTION tenants_check_bucket();

CREATE INDEX IF NOT EXISTS tenants_bucket_name ON tenants (bucket_name) WHERE bucket_name IS NOT NULL;
