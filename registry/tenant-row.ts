import { Fault } from './lib/errors.ts'
import {
  parseIssuer,
  parseTenantId,
  parseTenantKey,
  SSL_MODES,
  type SslMode,
  TENANT_STATUSES,
  type Tenant,
  type TenantStatus,
} from './tenant.ts'

/** The columns that `parseTenantRow` reads, as a SELECT list. */
export const TENANT_COLUMNS = `
  id, tenant_key, name, mode, status, config_version, db_host, db_port, db_name, db_user,
  db_password_encrypted, db_ssl_mode, db_pool_max, bucket_provider, bucket_endpoint, bucket_region,
  bucket_name, bucket_prefix, bucket_access_key_encrypted, bucket_secret_key_encrypted, app_url,
  plan, limits, tokens_valid_after, schema_version, created_at, updated_at, token_issuer,
  token_jwks_url, token_audience, debug_until`

/** A row as node-postgres hands it over. */
export type TenantRow = Readonly<Record<string, unknown>>

/**
 * A row of `tenants` as a Tenant. The Registry is data of another party (an older tool, an operator's
 * SQL): nothing is taken for granted, and a half-configured row never becomes a connection.
 *
 * @throws Fault TENANT_CONFIG_INVALID naming the tenant and the column, never the value
 */
export function parseTenantRow(row: TenantRow): Tenant {
  const id = parseTenantId(row.id)
  const wrong = (column: string) =>
    new Fault(
      'TENANT_CONFIG_INVALID',
      `tenant ${id ?? '(no id)'}: ${column} is missing or not valid`,
    )
  const text = (column: string): string => {
    const value = row[column]
    if (typeof value !== 'string' || value === '') throw wrong(column)
    return value
  }
  const optional = (column: string): string | null => {
    const value = row[column]
    return value === null || value === undefined || value === '' ? null : text(column)
  }
  const whole = (column: string, min: number, max: number): number => {
    const value = Number(row[column] ?? Number.NaN)
    if (!Number.isSafeInteger(value) || value < min || value > max) throw wrong(column)
    return value
  }
  const moment = (column: string): Date => {
    const value = row[column]
    if (!(value instanceof Date)) throw wrong(column)
    return value
  }

  const key = parseTenantKey(row.tenant_key)
  const { mode, limits } = row
  if (id === null) throw wrong('id')
  if (key === null) throw wrong('tenant_key')
  if (mode !== 'shared' && mode !== 'dedicated') throw wrong('mode')
  if (!isStatus(row.status)) throw wrong('status')
  const sslMode = optional('db_ssl_mode')
  if (sslMode !== null && !isSslMode(sslMode)) throw wrong('db_ssl_mode')
  if (limits === null || typeof limits !== 'object' || Array.isArray(limits)) throw wrong('limits')
  const bucketName = optional('bucket_name')
  const issuer = row.token_issuer == null ? null : parseIssuer(row.token_issuer)
  if (row.token_issuer != null && issuer === null) throw wrong('token_issuer')

  return {
    id,
    key,
    name: optional('name'),
    mode,
    status: row.status,
    configVersion: whole('config_version', 0, Number.MAX_SAFE_INTEGER),
    db: {
      host: text('db_host'),
      port: whole('db_port', 1, 65_535),
      name: text('db_name'),
      user: text('db_user'),
      passwordEncrypted: text('db_password_encrypted'),
      sslMode,
      poolMax: row.db_pool_max === null ? null : whole('db_pool_max', 1, 1000),
    },
    bucket:
      bucketName === null
        ? null
        : {
            provider: optional('bucket_provider'),
            endpoint: optional('bucket_endpoint'),
            region: optional('bucket_region'),
            name: bucketName,
            prefix: optional('bucket_prefix'),
            accessKeyEncrypted: optional('bucket_access_key_encrypted'),
            secretKeyEncrypted: optional('bucket_secret_key_encrypted'),
          },
    appUrl: optional('app_url'),
    plan: optional('plan'),
    limits: limits as Readonly<Record<string, unknown>>,
    tokenIssuer:
      issuer === null
        ? null
        : { issuer, jwksUrl: text('token_jwks_url'), audience: text('token_audience') },
    tokensValidAfterMs:
      row.tokens_valid_after === null ? null : moment('tokens_valid_after').getTime(),
    schemaVersion: optional('schema_version'),
    debugUntilMs: row.debug_until == null ? 0 : moment('debug_until').getTime(),
    createdAt: moment('created_at'),
    updatedAt: moment('updated_at'),
  }
}

function isStatus(value: unknown): value is TenantStatus {
  return (TENANT_STATUSES as readonly unknown[]).includes(value)
}

function isSslMode(value: string): value is SslMode {
  return (SSL_MODES as readonly string[]).includes(value)
}
