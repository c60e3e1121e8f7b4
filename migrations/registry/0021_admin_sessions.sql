-- Sessions of the admin console: in the Registry, so that every gateway knows them and a sign-out holds at all
-- of them. Who reads this table can take over none: of the id there is a hash, and of the key no trace.

CREATE TABLE IF NOT EXISTS admin_sessions (
  -- SHA-256 of what the cookie holds, in hex.
  id_hash text PRIMARY KEY,
  -- The named key; NULL: the first key, of a gateway's environment.
  admin_key_id uuid REFERENCES admin_keys (id) ON DELETE CASCADE,
  -- Of the first key: HMAC-SHA256 of its hash by the cookie's value, in hex, so that a session ends with the key.
  first_key_tag text,
  -- The browser came over TLS: such a session is taken from a __Host- cookie alone.
  is_secure boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- The last request that a person made; polling does not count.
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT admin_sessions_of_one_key CHECK ((admin_key_id IS NULL) <> (first_key_tag IS NULL))
);
CREATE INDEX IF NOT EXISTS admin_sessions_created_at ON admin_sessions (created_at);
CREATE INDEX IF NOT EXISTS admin_sessions_admin_key_id ON admin_sessions (admin_key_id);
