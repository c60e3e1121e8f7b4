-- What gateways count of each tenant's use. One statement brings in a batch, and the same batch a second time
-- changes nothing: a flush whose answer was lost is simply sent again (registry/usage-batch.ts).

-- Older Registries: usage outlives its tenant, user ids are whatever the tokens say, and counts grow.
DO $$
DECLARE
  found record;
BEGIN
  FOR found IN
    SELECT conrelid::regclass AS "table", conname AS name FROM pg_constraint
    WHERE contype = 'f' AND conrelid IN ('customer_usage_daily'::regclass, 'user_activity_daily'::regclass)
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', found."table", found.name);
  END LOOP;
  FOR found IN
    SELECT attrelid::regclass AS "table", attname AS name, wanted FROM pg_attribute
    JOIN (VALUES ('customer_usage_daily'::regclass, 'api_requests', 'bigint'),
      ('customer_usage_daily'::regclass, 'pdf_generated', 'bigint'),
      ('customer_usage_daily'::regclass, 'active_users', 'integer'),
      ('user_activity_daily'::regclass, 'user_id', 'text')) AS columns (relation, name, wanted)
      ON attrelid = relation AND attname = columns.name
    WHERE atttypid <> wanted::regtype
  LOOP
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %2$I::%3$s',
      found."table", found.name, found.wanted);
  END LOOP;
END
$$;

-- Not every older Registry has the key that a count is added by.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = 'customer_usage_daily'::regclass AND indisunique
    AND indnkeyatts = 2 AND pg_get_indexdef(indexrelid) LIKE '%(tenant_id, date)') THEN
    CREATE UNIQUE INDEX customer_usage_daily_day ON customer_usage_daily (tenant_id, date);
  END IF;
  IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = 'user_activity_daily'::regclass AND indisunique
    AND indnkeyatts = 3 AND pg_get_indexdef(indexrelid) LIKE '%(tenant_id, date, user_id)') THEN
    CREATE UNIQUE INDEX user_activity_daily_user ON user_activity_daily (tenant_id, date, user_id);
  END IF;
END
$$;

-- api_requests = responses_2xx + responses_3xx + responses_4xx + websockets. What each column counts stands
-- in ARCHITECTURE.md; all are sums over the day, but for active_users and storage_gb.
ALTER TABLE customer_usage_daily
  ADD COLUMN IF NOT EXISTS responses_2xx bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS responses_3xx bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS responses_4xx bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS responses_5xx bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS requests_refused bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS requests_aborted bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS bytes_in bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS bytes_out bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS duration_ms bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS websockets bigint NOT NULL DEFAULT 0,
  ADD COLUMN IF NOT EXISTS websocket_ms bigint NOT NULL DEFAULT 0,
  -- Users of the day that are named in user_activity_daily by gateways; active_users is never below.
  ADD COLUMN IF NOT EXISTS users_named integer NOT NULL DEFAULT 0;

-- Where a user falls in the sketch: register * 64 + rank. NULL: written by an older tool.
ALTER TABLE user_activity_daily ADD COLUMN IF NOT EXISTS user_mark integer;

-- Counters that the app names itself in x-usage; pdf_generated has its column.
CREATE TABLE IF NOT EXISTS customer_usage_counters (
  tenant_id uuid NOT NULL,
  date date NOT NULL,
  name text NOT NULL,
  value bigint NOT NULL,
  PRIMARY KEY (tenant_id, date, name),
  CONSTRAINT customer_usage_counters_name_form CHECK (name ~ '^[a-z][a-z0-9_]{0,31}$')
);

-- The users of a day beyond those that are named: a HyperLogLog of 16,384 registers, one byte each. It holds
-- no user's id. With the marks of the named ones it is the union of all gateways.
CREATE TABLE IF NOT EXISTS user_sketch_daily (
  tenant_id uuid NOT NULL,
  date date NOT NULL,
  registers bytea NOT NULL CHECK (length(registers) = 16384),
  is_counted boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant_id, date)
);
CREATE INDEX IF NOT EXISTS user_sketch_daily_uncounted ON user_sketch_daily (date) WHERE NOT is_counted;

-- The last batch of each serving process. Its row is moved by that process alone, so that none is hot.
CREATE TABLE IF NOT EXISTS usage_instances (
  instance uuid PRIMARY KEY,
  last_sequence bigint NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS usage_instances_applied_at ON usage_instances (applied_at);

-- Brings in batch `sequence` of `instance`, unless it or a later one is in already.
--
-- Answers 'applied', 'known' (nothing was changed) or 'late': batches older than 30 days are refused, for rows
-- of usage_instances go after 60, and nobody could say any more whether such a batch is in.
CREATE OR REPLACE FUNCTION usage_apply(
  from_instance uuid, sequence bigint, sealed_at timestamptz, batch jsonb
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  part record;
  merged bytea;
BEGIN
  IF sealed_at < now() - interval '30 days' THEN
    RETURN 'late';
  END IF;
  IF sealed_at > now() + interval '1 day' THEN
    RAISE EXCEPTION 'the clock of the gateway is more than a day ahead of the Registry';
  END IF;
  INSERT INTO usage_instances AS known (instance, last_sequence, applied_at)
  VALUES (from_instance, sequence, now())
  ON CONFLICT (instance) DO UPDATE SET last_sequence = excluded.last_sequence, applied_at = now()
    WHERE known.last_sequence < excluded.last_sequence;
  IF NOT FOUND THEN
    RETURN 'known';
  END IF;

  -- Every part in the order of its key, and the parts in this order: two gateways never wait for each other.
  WITH named AS (
    INSERT INTO user_activity_daily (tenant_id, date, user_id, user_mark)
    SELECT tenant_id, date, user_id, user_mark FROM jsonb_to_recordset(batch -> 'users')
      AS users (tenant_id uuid, date date, user_id text, user_mark integer)
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
      AS sketches (tenant_id uuid, date date, marks integer[]) ORDER BY tenant_id, date
  LOOP
    INSERT INTO user_sketch_daily (tenant_id, date, registers)
    VALUES (part.tenant_id, part.date, decode(repeat('00', 16384), 'hex')) ON CONFLICT DO NOTHING;
    SELECT registers INTO merged FROM user_sketch_daily
    WHERE tenant_id = part.tenant_id AND date = part.date FOR UPDATE;
    merged := usage_sketch_merge(merged, part.marks);
    UPDATE user_sketch_daily SET registers = merged, is_counted = false
    WHERE tenant_id = part.tenant_id AND date = part.date AND registers <> merged;
  END LOOP;
  RETURN 'applied';
END
$$;

-- The same sketch with further marks: of each register the highest rank stays.
CREATE OR REPLACE FUNCTION usage_sketch_merge(registers bytea, marks integer[]) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  mark integer;
BEGIN
  FOREACH mark IN ARRAY coalesce(marks, '{}') LOOP
    IF mark & 63 > get_byte(registers, mark >> 6) THEN
      registers := set_byte(registers, mark >> 6, mark & 63);
    END IF;
  END LOOP;
  RETURN registers;
END
$$;

-- How many users ranks by register stand for, three standard errors (of 0.81 % each) below the estimate: an
-- invoice is made of it, and one estimate in a thousand is above the truth. $1 holds how many registers have
-- rank 0, 1, … 33. Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6.
CREATE OR REPLACE FUNCTION usage_sketch_estimate(counts bigint[]) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  m constant double precision := 16384;
  x double precision := counts[1] / m;
  y double precision := 1;
  sigma double precision := counts[1] / m;
  before double precision;
  z double precision := 0;
BEGIN
  IF counts[1] >= m THEN
    RETURN 0;
  END IF;
  LOOP
    x := CASE WHEN x < 1e-150 THEN 0 ELSE x * x END;
    before := sigma;
    sigma := sigma + x * y;
    y := y + y;
    EXIT WHEN sigma = before;
  END LOOP;
  FOR rank IN REVERSE 33 .. 1 LOOP
    z := 0.5 * (z + counts[rank + 1]);
  END LOOP;
  RETURN floor(m * m / (2 * ln(2)) / (z + m * sigma) * (1 - 3 * 1.04 / sqrt(m)));
END
$$;

-- People of a tenant from one day until before another, each once however many days they came. Exact while
-- all are named; else of the union of names and sketches, and never below the names.
CREATE OR REPLACE FUNCTION usage_people(of_tenant uuid, from_day date, until_day date) RETURNS integer
LANGUAGE plpgsql STABLE AS $$
DECLARE
  named integer;
  counts bigint[];
BEGIN
  SELECT count(DISTINCT user_id) INTO named FROM user_activity_daily
  WHERE tenant_id = of_tenant AND date >= from_day AND date < until_day;
  IF NOT EXISTS (SELECT FROM user_sketch_daily
    WHERE tenant_id = of_tenant AND date >= from_day AND date < until_day) THEN
    RETURN named;
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
  RETURN greatest(named, usage_sketch_estimate(counts));
END
$$;

-- Brings active_users of some days with a sketch up to date. Whichever gateway comes first does it: the other
-- passes those rows by. The day is taken before its sketch, as a batch takes them, and nothing is waited for while
-- something is held: what a batch has taken comes next time.
CREATE OR REPLACE FUNCTION usage_count_people(days_max integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  day record;
  done integer := 0;
BEGIN
  FOR day IN
    SELECT tenant_id, date FROM user_sketch_daily JOIN customer_usage_daily AS daily USING (tenant_id, date)
    WHERE NOT is_counted ORDER BY date, tenant_id LIMIT days_max FOR UPDATE OF daily SKIP LOCKED
  LOOP
    UPDATE user_sketch_daily SET is_counted = true WHERE tenant_id = day.tenant_id AND date = day.date;
    UPDATE customer_usage_daily
    SET active_users = greatest(active_users, usage_people(day.tenant_id, day.date, day.date + 1))
    WHERE tenant_id = day.tenant_id AND date = day.date;
    done := done + 1;
  END LOOP;
  RETURN done;
END
$$;
