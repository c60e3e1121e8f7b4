-- A tenant may bring its own identity provider: whose tokens (claim iss), where its keys are, and for whom
-- a token must be (claim aud). All three or none. Gateways of the release before read none of them.
ALTER TABLE tenants
  ADD COLUMN IF NOT EXISTS token_issuer text,
  ADD COLUMN IF NOT EXISTS token_jwks_url text,
  ADD COLUMN IF NOT EXISTS token_audience text;

DO $$
DECLARE
  rule record;
BEGIN
  FOR rule IN
    SELECT * FROM (VALUES
      ('tenants_token_issuer_whole',
       $c$num_nonnulls(token_issuer, token_jwks_url, token_audience) IN (0, 3)$c$),
      -- One spelling each: blanks and control bytes would make two issuers look like one.
      ('tenants_token_issuer_form', $c$token_issuer ~ '^[\x21-\x7e]{1,255}$'$c$),
      ('tenants_token_audience_form', $c$token_audience ~ '^[\x21-\x7e]{1,255}$'$c$),
      ('tenants_token_jwks_url_form', $c$token_jwks_url ~ '^https?://[\x21-\x7e]+$' AND length(token_jwks_url) <= 2048$c$)
    ) AS rules (name, condition)
  LOOP
    EXECUTE format('ALTER TABLE tenants DROP CONSTRAINT IF EXISTS %I', rule.name);
    EXECUTE format('ALTER TABLE tenants ADD CONSTRAINT %I CHECK (%s)', rule.name, rule.condition);
  END LOOP;
END
$$;

-- Two tenants can not claim one issuer: a token would then be good for both. Also the look-up by `iss`.
CREATE UNIQUE INDEX IF NOT EXISTS tenants_token_issuer_unique ON tenants (token_issuer)
  WHERE token_issuer IS NOT NULL;
