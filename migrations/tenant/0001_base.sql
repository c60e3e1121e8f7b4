-- What the app keeps per tenant. Also runs on a database that an older tool made: tables that exist
-- stay, and columns that are missing are added. Works on PostgreSQL 13 and later.

CREATE TABLE IF NOT EXISTS users (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  email text NOT NULL UNIQUE CONSTRAINT users_email_is_lower_case CHECK (email = lower(email)),
  name text,
  role_id integer NOT NULL DEFAULT 2,
  password_hash text,
  first_login boolean NOT NULL DEFAULT true,
  is_active boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE users
  ADD COLUMN IF NOT EXISTS name text,
  ADD COLUMN IF NOT EXISTS role_id integer NOT NULL DEFAULT 2,
  ADD COLUMN IF NOT EXISTS password_hash text,
  ADD COLUMN IF NOT EXISTS first_login boolean NOT NULL DEFAULT true,
  ADD COLUMN IF NOT EXISTS is_active boolean NOT NULL DEFAULT true,
  ADD COLUMN IF NOT EXISTS created_at timestamptz NOT NULL DEFAULT now(),
  ADD COLUMN IF NOT EXISTS updated_at timestamptz NOT NULL DEFAULT now();

-- One row per refresh token that was ever given out and has not expired. The token itself is never
-- stored: a dump of this table opens no session. user_id is text, without a foreign key, because the
-- users table of an older tool may have another key type; the app joins on it at every use.
CREATE TABLE IF NOT EXISTS refresh_tokens (
  token_sha256 bytea PRIMARY KEY,
  -- All tokens that descend from one login.
  family uuid NOT NULL,
  user_id text NOT NULL,
  used_at timestamptz,
  revoked_at timestamptz,
  expires_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Revoking a family, or all of a user.
CREATE INDEX IF NOT EXISTS refresh_tokens_family ON refresh_tokens (family);
CREATE INDEX IF NOT EXISTS refresh_tokens_user_id ON refresh_tokens (user_id);
-- Deleting what has expired.
CREATE INDEX IF NOT EXISTS refresh_tokens_expires_at ON refresh_tokens (expires_at);

CREATE TABLE IF NOT EXISTS projects (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL,
  description text,
  created_by text,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

-- The order of the list.
CREATE INDEX IF NOT EXISTS projects_created_at ON projects (created_at DESC, id);
