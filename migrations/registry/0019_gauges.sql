-- What a tenant stores, as it was measured: levels, which are never summed over days.

-- storage_gb is both together in GB of 10^9 bytes. storage_measured_at is NULL where nobody measured on that day: a
-- storage_gb of 0 then says nothing. What an older tool wrote has no time either, and counts where it is not 0.
ALTER TABLE customer_usage_daily
  ADD COLUMN IF NOT EXISTS database_bytes bigint,
  ADD COLUMN IF NOT EXISTS bucket_bytes bigint,
  ADD COLUMN IF NOT EXISTS storage_measured_at timestamptz;

-- Who sweeps. One row; whoever says nothing for a minute has lost it.
CREATE TABLE IF NOT EXISTS usage_sweeps (
  is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
  holder uuid NOT NULL,
  host text NOT NULL,
  expires_at timestamptz NOT NULL
);
