-- A known text under each master key: a wrong key is one clear error at start (registry/key-check.ts).
CREATE TABLE IF NOT EXISTS doorman_key_check (
  key_id text PRIMARY KEY,
  ciphertext text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
