-- Usage that comes in in parts, usage that the Registry refuses, and names of users that do not stay for ever.

-- A batch may come in in parts, of which each counts once (registry/usage-parts.ts): a batch of a day's outage takes longer
-- than a statement may. 0: it came whole. The columns are of the batch last_sequence. taken_with_rest: a process that was
-- taken for dead was brought in up to here with all that its file held; what its memory has left of it is void.
ALTER TABLE usage_instances
  ADD COLUMN IF NOT EXISTS parts integer NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS parts_done integer NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS parts_digest text,
  ADD COLUMN IF NOT EXISTS taken_with_rest bigint;

-- Usage that the Registry does not take as it is: a count that overflows its column, a rule that somebody added to a table. It
-- stays here for whoever mends that, see usage_readmit. As text: not all that may be wrong with it can stand in a jsonb.
CREATE TABLE IF NOT EXISTS usage_refused (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  instance uuid NOT NULL,
  sequence bigint NOT NULL,
  -- 0: the whole batch.
  part integer NOT NULL,
  -- SQLSTATE, or `late`.
  code text NOT NULL,
  reason text NOT NULL,
  batch text NOT NULL,
  refused_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT usage_refused_once UNIQUE (instance, sequence, part)
);

-- People of a month whose names and sketches are gone, or go: what statements of it are made of from then on.
CREATE TABLE IF NOT EXISTS user_people_monthly (
  tenant_id uuid NOT NULL,
  month date NOT NULL,
  people integer NOT NULL,
  kept_at timestamptz NOT NULL DEFAULT now(),
  -- NULL: its names are not all gone yet.
  pruned_at timestamptz,
  PRIMARY KEY (tenant_id, month),
  CONSTRAINT user_people_monthly_month CHECK (extract(day FROM month) = 1)
);

CREATE INDEX IF NOT EXISTS user_people_monthly_unpruned ON user_people_monthly (kept_at) WHERE pruned_at IS NULL;

-- Gateways that run already need both tables, under whatever role they run.
DO $$
DECLARE
  role_name text;
BEGIN
  FOR role_name IN
    SELECT DISTINCT grantee::regrole::text FROM pg_class, aclexplode(relacl)
    WHERE oid = 'usage_instances'::regclass AND privilege_type = 'INSERT' AND grantee <> 0 AND grantee <> relowner
  LOOP
    EXECUTE format('GRANT SELECT, INSERT ON usage_refused TO %s', role_name);
    EXECUTE format('GRANT SELECT ON user_people_monthly TO %s', role_name);
  END LOOP;
END
$$;

-- Adds what a batch holds, or a part of one. Who calls it has seen to it that it counts once.
CREATE OR REPLACE FUNCTION usage_add(batch jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  part record;
  merged bytea;
BEGIN
  -- Every part in the order of its key, and the parts in this order: two gateways never wait for each other.
  WITH named AS (
    INSERT INTO user_activity_daily (tenant_id, date, user_id, user_mark)
    SELECT tenant_id, date, user_id, user_mark FROM jsonb_to_recordset(batch -> 'users')
      AS users (tenant_id uuid, date date, user_id text, user_mark integer)
    -- Who was named in a month whose names are gone, or go, would be counted a second time.
    WHERE NOT EXISTS (SELECT FROM user_people_monthly AS kept
      WHERE kept.tenant_id = users.tenant_id AND kept.month = date_trunc('month', users.date)::date)
    ORDER BY tenant_id, date, user_id
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, date
  ), fresh AS (
    SELECT tenant_id, date, count(*)::integer AS users FROM named GROUP BY tenant_id, date
  ), days AS (
    SELECT * FROM jsonb_to_recordset(batch -> 'days') AS days (tenant_id uuid, date date,
      pdf_generated bigint, responses_2xx bigint, responses_3xx bigint, responses_4xx bigint,
      responses_5xx bigint, requests_refused bigint, requests_aborted bigint, bytes_in bigint,
      bytes_out bigint, duration_ms bigint, websockets bigint, websocket_ms bigint)
  )
  INSERT INTO customer_usage_daily AS daily (tenant_id, date, api_requests, pdf_generated,
    responses_2xx, responses_3xx, responses_4xx, responses_5xx, requests_refused, requests_aborted,
    bytes_in, bytes_out, duration_ms, websockets, websocket_ms, users_named, active_users)
  SELECT tenant_id, date,
    coalesce(responses_2xx, 0) + coalesce(responses_3xx, 0) + coalesce(responses_4xx, 0)
      + coalesce(websockets, 0),
    coalesce(pdf_generated, 0), coalesce(responses_2xx, 0), coalesce(responses_3xx, 0),
    coalesce(responses_4xx, 0), coalesce(responses_5xx, 0), coalesce(requests_refused, 0),
    coalesce(requests_aborted, 0), coalesce(bytes_in, 0), coalesce(bytes_out, 0),
    coalesce(duration_ms, 0), coalesce(websockets, 0), coalesce(websocket_ms, 0),
    coalesce(fresh.users, 0), coalesce(fresh.users, 0)
  FROM days FULL JOIN fresh USING (tenant_id, date)
  ORDER BY tenant_id, date
  ON CONFLICT (tenant_id, date) DO UPDATE SET
    api_requests = coalesce(daily.api_requests, 0) + excluded.api_requests,
    pdf_generated = coalesce(daily.pdf_generated, 0) + excluded.pdf_generated,
    responses_2xx = daily.responses_2xx + excluded.responses_2xx,
    responses_3xx = daily.responses_3xx + excluded.responses_3xx,
    responses_4xx = daily.responses_4xx + excluded.responses_4xx,
    responses_5xx = daily.responses_5xx + excluded.responses_5xx,
    requests_refused = daily.requests_refused + excluded.requests_refused,
    requests_aborted = daily.requests_aborted + excluded.requests_aborted,
    bytes_in = daily.bytes_in + excluded.bytes_in,
    bytes_out = daily.bytes_out + excluded.bytes_out,
    duration_ms = daily.duration_ms + excluded.duration_ms,
    websockets = daily.websockets + excluded.websockets,
    websocket_ms = daily.websocket_ms + excluded.websocket_ms,
    users_named = daily.users_named + excluded.users_named,
    active_users = greatest(daily.active_users, daily.users_named + excluded.users_named);

  INSERT INTO customer_usage_counters AS counters (tenant_id, date, name, value)
  SELECT tenant_id, date, name, value FROM jsonb_to_recordset(batch -> 'counters')
    AS counted (tenant_id uuid, date date, name text, value bigint)
  ORDER BY tenant_id, date, name
  ON CONFLICT (tenant_id, date, name) DO UPDATE SET value = counters.value + excluded.value;

  FOR part IN
    SELECT tenant_id, date, marks FROM jsonb_to_recordset(batch -> 'sketches')
      AS sketches (tenant_id uuid, date date, marks integer[])
    WHERE NOT EXISTS (SELECT FROM user_people_monthly AS kept
      WHERE kept.tenant_id = sketches.tenant_id AND kept.month = date_trunc('month', sketches.date)::date)
    ORDER BY tenant_id, date
  LOOP
    INSERT INTO user_sketch_daily (tenant_id, date, registers)
    VALUES (part.tenant_id, part.date, decode(repeat('00', 16384), 'hex')) ON CONFLICT DO NOTHING;
    SELECT registers INTO merged FROM user_sketch_daily
    WHERE tenant_id = part.tenant_id AND date = part.date FOR UPDATE;
    merged := usage_sketch_merge(merged, part.marks);
    UPDATE user_sketch_daily SET registers = merged, is_counted = false
    WHERE tenant_id = part.tenant_id AND date = part.date AND registers <> merged;
  END LOOP;
END
$$;

-- 'late' where nobody could say any more whether such a batch is in: rows of usage_instances go after 60 days.
CREATE OR REPLACE FUNCTION usage_is_late(sealed_at timestamptz) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF sealed_at > now() + interval '1 day' THEN
    RAISE EXCEPTION 'the clock of the gateway is more than a day ahead of the Registry' USING ERRCODE = 'DM001';
  END IF;
  RETURN sealed_at < now() - interval '30 days';
END
$$;

-- As in 0018, and 'taken' where it is in by a file that held more than this batch; and a batch of a process whose last one is coming in in parts waits for these: after it nobody would take them. Who
-- brings them in may be gone, so that it waits no longer than that.
CREATE OR REPLACE FUNCTION usage_apply(
  from_instance uuid, sequence bigint, sealed_at timestamptz, batch jsonb
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  known usage_instances;
BEGIN
  IF usage_is_late(sealed_at) THEN
    RETURN 'late';
  END IF;
  INSERT INTO usage_instances (instance, last_sequence) VALUES (from_instance, 0) ON CONFLICT DO NOTHING;
  SELECT * INTO known FROM usage_instances WHERE instance = from_instance FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the row of this process has just gone' USING ERRCODE = 'serialization_failure';
  END IF;
  IF known.last_sequence <= sequence AND known.parts_done < known.parts
    AND known.applied_at > now() - interval '10 minutes' THEN
    RAISE EXCEPTION 'batch % of this process is coming in in parts', known.last_sequence
      USING ERRCODE = 'object_in_use';
  END IF;
  IF known.last_sequence >= sequence THEN
    RETURN CASE WHEN known.taken_with_rest = sequence THEN 'taken' ELSE 'known' END;
  END IF;
  UPDATE usage_instances SET last_sequence = usage_apply.sequence, parts = 0, parts_done = 0, parts_digest = NULL,
    applied_at = now() WHERE instance = from_instance;
  PERFORM usage_add(batch);
  RETURN 'applied';
END
$$;

-- Brings in part `part` (from 1) of `of_parts` of a batch; parts come in order. `digest` says how the batch was divided: who goes on
-- with what another one began has to divide it in the same way, or a tenant could be in two parts. `takes_rest`: the batch is a file
-- with all that a process had counted. `rest_of`: it begins with what that batch left out. `refused_code`: this part is put aside.
--
-- Answers 'applied', 'known', 'late', 'taken', 'void' (another batch has it), or 'other DIGEST': it was begun in another way.
CREATE OR REPLACE FUNCTION usage_apply_part(
  from_instance uuid, sequence bigint, sealed_at timestamptz, part integer, of_parts integer, digest text,
  takes_rest boolean, rest_of bigint, batch text, refused_code text, refused_reason text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  known usage_instances;
BEGIN
  IF usage_is_late(sealed_at) THEN
    RETURN 'late';
  END IF;
  INSERT INTO usage_instances (instance, last_sequence) VALUES (from_instance, 0) ON CONFLICT DO NOTHING;
  SELECT * INTO known FROM usage_instances WHERE instance = from_instance FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the row of this process has just gone' USING ERRCODE = 'serialization_failure';
  END IF;
  IF known.taken_with_rest = rest_of THEN
    RETURN 'void';
  END IF;
  IF known.taken_with_rest = sequence AND NOT takes_rest THEN
    IF known.last_sequence = sequence AND known.parts_done < known.parts
      AND known.applied_at > now() - interval '10 minutes' THEN
      RAISE EXCEPTION 'batch % of this process is coming in in parts', sequence USING ERRCODE = 'object_in_use';
    END IF;
    RETURN 'taken';
  END IF;
  IF known.last_sequence > sequence OR known.last_sequence = sequence AND known.parts = 0 THEN
    RETURN 'known';
  END IF;
  IF known.last_sequence < sequence THEN
    IF known.parts_done < known.parts AND known.applied_at > now() - interval '10 minutes' THEN
      RAISE EXCEPTION 'batch % of this process is coming in in parts', known.last_sequence
        USING ERRCODE = 'object_in_use';
    END IF;
    known.parts_done := 0;
    UPDATE usage_instances SET last_sequence = usage_apply_part.sequence, parts = of_parts, parts_digest = digest,
      taken_with_rest = CASE WHEN takes_rest THEN usage_apply_part.sequence ELSE taken_with_rest END
    WHERE instance = from_instance;
  ELSIF known.parts_digest IS DISTINCT FROM digest THEN
    RETURN 'other ' || known.parts_digest;
  END IF;
  IF part <= known.parts_done THEN
    RETURN 'known';
  ELSIF part > known.parts_done + 1 THEN
    RAISE EXCEPTION 'part % before part %', part, known.parts_done + 1;
  END IF;
  UPDATE usage_instances SET parts_done = part, applied_at = now() WHERE instance = from_instance;
  IF refused_code IS NULL THEN
    PERFORM usage_add(batch::jsonb);
  ELSE
    INSERT INTO usage_refused (instance, sequence, part, code, reason, batch)
    VALUES (from_instance, usage_apply_part.sequence, part, refused_code, refused_reason, batch);
  END IF;
  RETURN 'applied';
END
$$;

-- Brings in what was refused, once what refused it is mended: SELECT usage_readmit(id) FROM usage_refused WHERE code <> 'late'. It
-- counts once: what is in is not in the table any more.
CREATE OR REPLACE FUNCTION usage_readmit(of_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  refused text;
BEGIN
  DELETE FROM usage_refused WHERE id = of_id RETURNING batch INTO refused;
  IF refused IS NULL THEN
    RETURN false;
  END IF;
  PERFORM usage_add(refused::jsonb);
  RETURN true;
END
$$;

-- As in 0018, but that names are told apart by their hash and not by sorting them, and that what was kept of a month stays.
CREATE OR REPLACE FUNCTION usage_people(of_tenant uuid, from_day date, until_day date) RETURNS integer
LANGUAGE plpgsql STABLE AS $$
DECLARE
  kept integer;
  named integer;
  counts bigint[];
BEGIN
  SELECT coalesce(max(people), 0) INTO kept FROM user_people_monthly
  WHERE tenant_id = of_tenant AND month >= from_day AND month + interval '1 month' <= until_day;
  SELECT count(*) INTO named FROM (SELECT DISTINCT user_id FROM user_activity_daily
    WHERE tenant_id = of_tenant AND date >= from_day AND date < until_day) AS names;
  IF NOT EXISTS (SELECT FROM user_sketch_daily
    WHERE tenant_id = of_tenant AND date >= from_day AND date < until_day) THEN
    RETURN greatest(kept, named);
  END IF;
  WITH sketches AS MATERIALIZED (
    -- A copy, or get_byte would read the whole of it from its TOAST table for each register.
    SELECT registers || ''::bytea AS registers FROM user_sketch_daily
    WHERE tenant_id = of_tenant AND date >= from_day AND date < until_day
  ), marks AS (
    SELECT register, get_byte(registers, register) AS rank
    FROM sketches, generate_series(0, 16383) AS register
    UNION ALL
    SELECT user_mark >> 6, user_mark & 63 FROM user_activity_daily
    WHERE tenant_id = of_tenant AND date >= from_day AND date < until_day AND user_mark IS NOT NULL
  ), ranks AS (
    SELECT max(rank) AS rank FROM marks GROUP BY register
  ), amounts AS (
    SELECT rank, count(*) AS amount FROM ranks GROUP BY rank
  )
  SELECT array_agg(coalesce(amount, 0) ORDER BY wanted) INTO counts
  FROM generate_series(0, 33) AS wanted LEFT JOIN amounts ON rank = wanted;
  RETURN greatest(kept, named, usage_sketch_estimate(counts));
END
$$;
