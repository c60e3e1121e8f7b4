-- Runs of the fleet runner, written by the runner itself: one that the command line started is seen by every
-- gateway's admin API, and one whose process is gone is known by its heartbeat.

CREATE TABLE IF NOT EXISTS migration_runs (
  id uuid PRIMARY KEY,
  state text NOT NULL,
  -- Name of the admin key, or who typed the command.
  started_by text NOT NULL,
  -- Of the fleet, or begun by the admin API: it begins none while such a one is under way. The others are of tenants
  -- that the command line named, as when one is made.
  is_fleet boolean NOT NULL,
  -- As they were given (registry/migrate/runs.ts).
  options jsonb NOT NULL,
  -- No foreign key: the older one may be gone.
  retry_of uuid,
  -- Tenants that it is for; null: not chosen yet.
  selection uuid[],
  -- Version that it leads to.
  target text,
  wave text,
  ok integer NOT NULL DEFAULT 0,
  failed integer NOT NULL DEFAULT 0,
  skipped integer NOT NULL DEFAULT 0,
  -- Moves with everything that is shown.
  revision bigint NOT NULL DEFAULT 0,
  -- Host name and process id.
  runner text,
  -- Why it did not go on; never a value of a row.
  problem text,
  cancelled_by text,
  started_at timestamptz NOT NULL DEFAULT now(),
  -- When the runner took it over.
  began_at timestamptz,
  heartbeat_at timestamptz NOT NULL DEFAULT now(),
  ended_at timestamptz,
  CONSTRAINT migration_runs_state_known
    CHECK (state IN ('starting', 'running', 'done', 'stopped', 'cancelled', 'interrupted'))
);
CREATE INDEX IF NOT EXISTS migration_runs_started_at ON migration_runs (started_at);

-- Goes with its run. No foreign key to tenants: a batch must not fail for one that was deleted meanwhile.
CREATE TABLE IF NOT EXISTS migration_failures (
  run_id uuid NOT NULL REFERENCES migration_runs ON DELETE CASCADE,
  tenant_id uuid NOT NULL,
  -- In the order of writing: streams go on by it.
  seq bigint GENERATED ALWAYS AS IDENTITY,
  version text,
  -- SQLSTATE, errno, or a word of the runner.
  code text NOT NULL,
  error text NOT NULL,
  attempts integer NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (run_id, tenant_id)
);
CREATE INDEX IF NOT EXISTS migration_failures_seq ON migration_failures (run_id, seq);

-- The last run that had something to tell of the tenant; a runner of an earlier release leaves it as it is.
ALTER TABLE tenant_migrations ADD COLUMN IF NOT EXISTS run_id uuid;
