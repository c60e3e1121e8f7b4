-- Plans: limits that many tenants share, so that a change of them moves no row of a tenant.

-- The limits that are known, each a whole or broken number within its bounds, or null: without a limit. The same table
-- stands in registry/limits.ts; a test compares the two.
CREATE OR REPLACE FUNCTION doorman_limit_problem(limits jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT name || ' must be ' || CASE WHEN name = 'quota' THEN 'soft or hard'
      WHEN is_whole THEN format('a whole number from %s to %s, or null', low, high)
      ELSE format('a number from %s to %s, or null', low, high) END
  FROM (VALUES
    ('requests_per_s', 0.01, 1000000, false),
    ('burst', 1, 10000000, true),
    ('in_flight', 1, 1000000, true),
    ('body_bytes', 0, 1099511627776, true),
    ('sockets', 0, 1000000, true),
    ('requests_per_month', 0, 1000000000000000, true),
    ('weight', 1, 1000, true),
    ('spread', 1, 64, true),
    ('quota', 0, 0, false)
  ) AS known (name, low, high, is_whole)
  WHERE limits -> name IS NOT NULL AND NOT CASE
    WHEN name = 'quota' THEN limits -> name IN ('"soft"', '"hard"')
    WHEN jsonb_typeof(limits -> name) = 'null' THEN true
    WHEN jsonb_typeof(limits -> name) = 'number' THEN (limits ->> name)::numeric BETWEEN low AND high
      AND (NOT is_whole OR trunc((limits ->> name)::numeric) = (limits ->> name)::numeric)
    ELSE false END
  ORDER BY name LIMIT 1
$$;

CREATE TABLE IF NOT EXISTS plans (
  code text PRIMARY KEY,
  name text NOT NULL,
  limits jsonb NOT NULL DEFAULT '{}',
  -- Share under pressure, against other tenants that wait too.
  weight integer NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT plans_code_form CHECK (code ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  CONSTRAINT plans_name_form CHECK (char_length(name) BETWEEN 1 AND 200),
  CONSTRAINT plans_limits_object CHECK (jsonb_typeof(limits) = 'object'),
  CONSTRAINT plans_limits_known CHECK (doorman_limit_problem(limits) IS NULL),
  CONSTRAINT plans_weight_sane CHECK (weight BETWEEN 1 AND 1000)
);

-- A tenant's own limits. By a trigger and only where they change: a CHECK would hold up every other change of a row whose
-- limits are of an older tool, its suspension too. Names that are not ours are nobody's business here.
CREATE OR REPLACE FUNCTION tenants_limits_known() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  problem text := doorman_limit_problem(NEW.limits);
BEGIN
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION 'limits: %', problem USING ERRCODE = 'check_violation', CONSTRAINT = 'tenants_limits_known';
  END IF;
  RETURN NEW;
END
$$;
DROP TRIGGER IF EXISTS tenants_limits_known ON tenants;
CREATE TRIGGER tenants_limits_known BEFORE INSERT OR UPDATE OF limits ON tenants
  FOR EACH ROW EXECUTE FUNCTION tenants_limits_known();

-- Plans that tenants name already, without any limit: what they were so far.
DO $$
DECLARE
  broken bigint;
BEGIN
  IF (SELECT atttypid FROM pg_attribute WHERE attrelid = 'tenants'::regclass AND attname = 'plan')
    NOT IN ('text'::regtype, 'varchar'::regtype) THEN
    ALTER TABLE tenants ALTER COLUMN plan TYPE text USING plan::text;
  END IF;
  INSERT INTO plans (code, name)
    SELECT DISTINCT plan::text, plan::text FROM tenants WHERE plan::text ~ '^[a-z0-9][a-z0-9_-]{0,62}$'
    ON CONFLICT DO NOTHING;
  ALTER TABLE tenants DROP CONSTRAINT IF EXISTS tenants_plan_known;
  ALTER TABLE tenants ADD CONSTRAINT tenants_plan_known
    FOREIGN KEY (plan) REFERENCES plans (code) ON DELETE RESTRICT ON UPDATE RESTRICT NOT VALID;
  SELECT count(*) INTO broken FROM tenants WHERE plan IS NOT NULL
    AND NOT EXISTS (SELECT FROM plans WHERE code = plan::text);
  IF broken = 0 THEN
    ALTER TABLE tenants VALIDATE CONSTRAINT tenants_plan_known;
  ELSE
    RAISE WARNING '% row(s) of tenants name a plan that cannot be one: they have none until it is mended', broken;
  END IF;
END
$$;
-- A plan's removal asks who has it.
CREATE INDEX IF NOT EXISTS tenants_plan ON tenants (plan) WHERE plan IS NOT NULL;

-- Every gateway reads all plans again, which are few; the row of no tenant moves.
CREATE OR REPLACE FUNCTION plans_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - 'updated_at' = to_jsonb(OLD) - 'updated_at' THEN
    RETURN NULL;
  END IF;
  PERFORM pg_notify('plan_changed', json_build_object('code', coalesce(NEW.code, OLD.code))::text);
  INSERT INTO admin_audit (actor, action, request_id, reason, before, after)
  VALUES (
    coalesce(nullif(current_setting('doorman.actor', true), ''),
      concat(session_user, '@', current_setting('application_name'))),
    CASE TG_OP WHEN 'INSERT' THEN 'plan.create' WHEN 'UPDATE' THEN 'plan.update' ELSE 'plan.delete' END,
    nullif(current_setting('doorman.request_id', true), ''),
    nullif(current_setting('doorman.reason', true), ''),
    CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - '{created_at,updated_at}'::text[] END,
    CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - '{created_at,updated_at}'::text[] END);
  RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS plans_changed ON plans;
CREATE TRIGGER plans_changed AFTER INSERT OR UPDATE OR DELETE ON plans
  FOR EACH ROW EXECUTE FUNCTION plans_changed();
