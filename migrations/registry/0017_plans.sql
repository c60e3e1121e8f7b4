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
    ('requests_per_month', 0, 999999999999999, true),
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

-- The part of every tenant's limits that a gateway process uses. Of all live ones together they are never more than 1: who
-- takes more asks here first, who gives up tells it here afterwards.
ALTER TABLE gateway_instances ADD COLUMN IF NOT EXISTS share double precision NOT NULL DEFAULT 0;
-- The same for one limit of one tenant, where its load comes unevenly; without a row the part above holds.
CREATE TABLE IF NOT EXISTS admission_shares (
  tenant_id uuid NOT NULL,
  -- rate, in_flight or sockets.
  kind text NOT NULL,
  instance uuid NOT NULL REFERENCES gateway_instances (id) ON DELETE CASCADE,
  share double precision NOT NULL,
  -- What its clients ask for, in parts of the limit.
  demand double precision NOT NULL,
  PRIMARY KEY (tenant_id, kind, instance)
);
CREATE INDEX IF NOT EXISTS admission_shares_instance ON admission_shares (instance);

-- One process's turn. `present` is what it uses now, of every limit; a wish is {t: tenant, k: kind, d: demand, u: what it
-- uses now, w: what it wants, null: what it has of every limit}. What it is granted it may use as soon as it hears of it; what
-- it uses already stays its own until it says that it uses less. One at a time, so that no two are granted the same part.
CREATE OR REPLACE FUNCTION doorman_exchange_shares(
  me uuid, present double precision, live_ms double precision, is_urgent boolean, wishes jsonb
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  live uuid[];
  base double precision[];
  others double precision;
  granted double precision;
  wish record;
  rest double precision;
  got double precision;
  grants jsonb := '[]';
  is_short boolean;
  rows jsonb;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('doorman shares', 0));
  SELECT array_agg(id ORDER BY id), array_agg(share ORDER BY id),
    coalesce(sum(share) FILTER (WHERE id <> me), 0)
  INTO live, base, others FROM gateway_instances
  WHERE id = me OR heartbeat_at > clock_timestamp() - live_ms * interval '1 ms';
  IF live IS NULL OR NOT me = ANY(live) THEN
    RETURN NULL;
  END IF;
  granted := least(1.0 / cardinality(live), greatest(present, 1 - others));
  is_short := granted < 1.0 / cardinality(live) - 0.001;
  IF granted > present THEN
    -- What others took of one tenant's limit they took while this one had less of it.
    INSERT INTO admission_shares (tenant_id, kind, instance, share, demand)
      SELECT DISTINCT tenant_id, kind, me, present, 0 FROM admission_shares WHERE instance = ANY(live)
      ON CONFLICT DO NOTHING;
  END IF;
  UPDATE gateway_instances SET share = greatest(present, granted)
    WHERE id = me AND share <> greatest(present, granted);
  base[array_position(live, me)] := greatest(present, granted);

  FOR wish IN SELECT * FROM jsonb_to_recordset(wishes)
    AS w (t uuid, k text, d double precision, u double precision, w double precision)
  LOOP
    SELECT coalesce(sum(coalesce(s.share, g.share)), 0) INTO rest
    FROM unnest(live, base) AS g (id, share)
    LEFT JOIN admission_shares s ON s.instance = g.id AND s.tenant_id = wish.t AND s.kind = wish.k
    WHERE g.id <> me;
    IF wish.w IS NULL THEN
      got := least(greatest(present, granted), greatest(wish.u, 1 - rest));
      IF wish.u <= greatest(present, granted) AND got >= greatest(present, granted) THEN
        DELETE FROM admission_shares WHERE tenant_id = wish.t AND kind = wish.k AND instance = me;
        grants := grants || 'null'::jsonb;
        CONTINUE;
      END IF;
    ELSE
      got := least(wish.w, greatest(wish.u, 1 - rest));
      is_short := is_short OR got < 0.95 * wish.w;
    END IF;
    INSERT INTO admission_shares AS present_row (tenant_id, kind, instance, share, demand)
      VALUES (wish.t, wish.k, me, greatest(wish.u, got), wish.d)
      ON CONFLICT (tenant_id, kind, instance) DO UPDATE SET share = excluded.share, demand = excluded.demand;
    grants := grants || to_jsonb(got);
  END LOOP;

  SELECT coalesce(jsonb_agg(jsonb_build_array(tenant_id, kind, array_position(live, instance) - 1, share, demand)), '[]')
  INTO rows FROM (
    SELECT * FROM admission_shares WHERE instance = ANY(live) ORDER BY tenant_id, kind, instance LIMIT 5000
  ) AS known;
  IF is_short AND is_urgent THEN
    PERFORM pg_notify('share_wanted', me::text);
  END IF;
  RETURN jsonb_build_object('grant', granted, 'live', cardinality(live),
    'at', array_position(live, me) - 1, 'base', to_jsonb(base), 'grants', grants, 'rows', rows, 'short', is_short);
END
$$;
