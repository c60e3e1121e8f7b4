-- Tenants are made by the admin API too: who works at a run, how it ended, and what the first user signs in with.

ALTER TABLE provisioning_runs
  -- The process that works at it, and until when it is believed without a further word. NULL, or past: nobody does.
  ADD COLUMN IF NOT EXISTS runner uuid,
  ADD COLUMN IF NOT EXISTS leased_until timestamptz,
  -- A code of registry/lib/errors.ts beside `problem`; NULL: the step is under way, or was interrupted.
  ADD COLUMN IF NOT EXISTS error_code text,
  -- The hash (never the password) of the first user, sealed like all secrets; it goes with the row.
  ADD COLUMN IF NOT EXISTS first_user_hash_encrypted text,
  -- Set before the bucket is made: only such a bucket is taken away by an undo, and only if it is empty.
  ADD COLUMN IF NOT EXISTS bucket_made boolean NOT NULL DEFAULT false,
  ADD COLUMN IF NOT EXISTS started_at timestamptz NOT NULL DEFAULT now();

ALTER TABLE database_hosts ADD COLUMN IF NOT EXISTS updated_at timestamptz NOT NULL DEFAULT now();

-- Append-only but for `tenant -- audit-prune`, which says so in its transaction and leaves a row of itself.
CREATE OR REPLACE FUNCTION admin_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND current_setting('doorman.audit_prune', true) = 'on' THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION 'the audit is append-only: % is refused', TG_OP;
END
$$;
