-- Which gateways are there, and which tenants they are asked to hold.

-- One row for each serving process (each worker of a gateway is one), moved every few seconds by itself. A row
-- that has not moved for ten seconds is of a process that is gone, or cut off from the Registry.
CREATE TABLE IF NOT EXISTS gateway_instances (
  id uuid PRIMARY KEY,
  host text NOT NULL,
  pid integer NOT NULL,
  -- 0: the process is a gateway by itself, and no worker.
  worker integer NOT NULL DEFAULT 0,
  -- Of its public listener; null until it listens.
  address text,
  version text NOT NULL,
  started_at timestamptz NOT NULL,
  heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- The latest hold of each tenant. It is over when it is released or has expired, and says nothing any more
-- a few minutes later. No foreign key: a hold outlives its tenant by no more than that.
CREATE TABLE IF NOT EXISTS tenant_holds (
  tenant_id uuid PRIMARY KEY,
  hold_id uuid NOT NULL,
  -- Moves with every change of the row: of two notices of a tenant the later one is known by it.
  seq bigint NOT NULL,
  reason text,
  requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  released_at timestamptz,
  -- Operators make mistakes, and a hold stops a tenant.
  CONSTRAINT tenant_holds_bounded CHECK (expires_at <= requested_at + interval '5 minutes')
);
CREATE SEQUENCE IF NOT EXISTS tenant_holds_seq OWNED BY tenant_holds.seq;

-- What each gateway says of a hold that it has heard of. in_flight 0: it holds all, and nothing of the tenant is
-- under way there.
CREATE TABLE IF NOT EXISTS tenant_hold_acks (
  hold_id uuid NOT NULL,
  gateway_id uuid NOT NULL,
  in_flight integer NOT NULL,
  acked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (hold_id, gateway_id)
);

CREATE OR REPLACE FUNCTION tenant_holds_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.seq := nextval('tenant_holds_seq');
  RETURN NEW;
END
$$;
DROP TRIGGER IF EXISTS tenant_holds_stamp ON tenant_holds;
CREATE TRIGGER tenant_holds_stamp BEFORE INSERT OR UPDATE ON tenant_holds
  FOR EACH ROW EXECUTE FUNCTION tenant_holds_stamp();

-- rest_ms and not a time: a gateway ends a hold by its own clock, which may differ from this one.
CREATE OR REPLACE FUNCTION tenant_holds_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('tenant_held', json_build_object(
    'tenant', NEW.tenant_id, 'hold', NEW.hold_id, 'seq', NEW.seq, 'rest_ms',
    CASE WHEN NEW.released_at IS NULL
      THEN greatest(0, ceil(extract(epoch FROM NEW.expires_at - clock_timestamp()) * 1000))
      ELSE 0 END)::text);
  RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS tenant_holds_announce ON tenant_holds;
CREATE TRIGGER tenant_holds_announce AFTER INSERT OR UPDATE ON tenant_holds
  FOR EACH ROW EXECUTE FUNCTION tenant_holds_announce();
