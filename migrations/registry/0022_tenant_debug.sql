-- Until when every request of a tenant is logged and its traces are kept; it ends by itself. Compatible with gateways of the
-- release before, which do not read it.
ALTER TABLE tenants ADD COLUMN IF NOT EXISTS debug_until timestamptz;

-- The columns of a tenant that the audit tells, with this one.
CREATE OR REPLACE FUNCTION admin_audit_view(tenant jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(tenant)
  WHERE key IN ('tenant_key', 'name', 'mode', 'status', 'status_reason', 'db_host', 'db_port', 'db_name',
    'db_user', 'db_ssl_mode', 'db_pool_max', 'bucket_provider', 'bucket_name', 'bucket_region',
    'bucket_endpoint', 'bucket_prefix', 'app_url', 'plan', 'limits', 'tokens_valid_after',
    'schema_version', 'token_issuer', 'token_jwks_url', 'token_audience', 'db_password_encrypted',
    'bucket_access_key_encrypted', 'bucket_secret_key_encrypted', 'debug_until')
$$;
