-- Single tokens that are refused before they expire: a logout, or an operator's word. A row only ever adds a
-- refusal, and one whose token has expired says nothing any more: both may be told twice, and in any order.

-- No foreign key to tenants: a row dies with its token, and a write that was late because the Registry was
-- down must not fail for a tenant that is gone.
CREATE TABLE IF NOT EXISTS revoked_tokens (
  tenant_id uuid NOT NULL,
  -- The token's jti, or the hash of a token without one (registry/token-id.ts). Never the token.
  token_id text NOT NULL,
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz NOT NULL DEFAULT now(),
  changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (tenant_id, token_id),
  CONSTRAINT revoked_tokens_id_form CHECK (token_id ~ '^[A-Za-z0-9._~:-]{1,128}$')
);
CREATE INDEX IF NOT EXISTS revoked_tokens_changed_xid ON revoked_tokens (changed_xid);
CREATE INDEX IF NOT EXISTS revoked_tokens_expires_at ON revoked_tokens (expires_at);

-- As with tenants: the transaction id is what a later read finds what it missed by (registry/store-sql.ts).
CREATE OR REPLACE FUNCTION revoked_tokens_stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.changed_xid := pg_current_xact_id();
  RETURN NEW;
END
$$;
DROP TRIGGER IF EXISTS revoked_tokens_stamp ON revoked_tokens;
CREATE TRIGGER revoked_tokens_stamp BEFORE INSERT OR UPDATE ON revoked_tokens
  FOR EACH ROW EXECUTE FUNCTION revoked_tokens_stamp();

-- A channel of its own: a gateway of the version before listens to tenant_changed alone, and would warn
-- of each notice that it cannot read.
CREATE OR REPLACE FUNCTION revoked_tokens_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('token_revoked', json_build_object(
    'tenant', NEW.tenant_id, 'id', NEW.token_id, 'exp', ceil(extract(epoch FROM NEW.expires_at)))::text);
  RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS revoked_tokens_announce ON revoked_tokens;
CREATE TRIGGER revoked_tokens_announce AFTER INSERT OR UPDATE ON revoked_tokens
  FOR EACH ROW EXECUTE FUNCTION revoked_tokens_announce();
