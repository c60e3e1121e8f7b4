import { Fault } from '../lib/errors.ts'
import { parseTenantRow, type TenantRow } from '../tenant-row.ts'

/** A tenant as the control plane shows it. Field by field, so that no secret slips in with a new column. */
export interface TenantItem {
  readonly id: string
  readonly tenant_key: string
  readonly name: string | null
  readonly mode: string
  readonly status: string
  readonly status_reason: string | null
  readonly config_version: number
  readonly db_host: string | null
  readonly db_port: number | null
  readonly db_name: string | null
  readonly db_user: string | null
  /** Whether there is one; never the password. */
  readonly has_db_password: boolean
  readonly db_ssl_mode: string | null
  readonly db_pool_max: number | null
  readonly bucket_provider: string | null
  readonly bucket_name: string | null
  readonly bucket_region: string | null
  readonly bucket_endpoint: string | null
  readonly bucket_prefix: string | null
  readonly has_bucket_keys: boolean
  readonly app_url: string | null
  readonly plan: string | null
  readonly limits: unknown
  readonly token_issuer: string | null
  readonly token_jwks_url: string | null
  readonly token_audience: string | null
  readonly tokens_valid_after: string | null
  readonly schema_version: string | null
  /** Until then each of its requests is logged; null: not so now. */
  readonly debug_until: string | null
  readonly created_at: string | null
  readonly updated_at: string | null
  readonly archived_at: string | null
  /** By what the tenant is billed: shared ones by usage, dedicated ones by their deployment. */
  readonly billing_readiness: {
    readonly shared_billing: boolean
    readonly dedicated_billing: boolean
  }
  /** Why the tenant cannot be served, in words; null: nothing is wrong with its row. */
  readonly problem: string | null
}

export function tenantItem(row: TenantRow): TenantItem {
  return {
    id: String(row.id),
    tenant_key: String(row.tenant_key),
    name: text(row.name),
    mode: String(row.mode),
    status: String(row.status),
    status_reason: text(row.status_reason),
    config_version: Number(row.config_version),
    db_host: text(row.db_host),
    db_port: number(row.db_port),
    db_name: text(row.db_name),
    db_user: text(row.db_user),
    has_db_password: text(row.db_password_encrypted) !== null,
    db_ssl_mode: text(row.db_ssl_mode),
    db_pool_max: number(row.db_pool_max),
    bucket_provider: text(row.bucket_provider),
    bucket_name: text(row.bucket_name),
    bucket_region: text(row.bucket_region),
    bucket_endpoint: text(row.bucket_endpoint),
    bucket_prefix: text(row.bucket_prefix),
    has_bucket_keys:
      text(row.bucket_access_key_encrypted) !== null &&
      text(row.bucket_secret_key_encrypted) !== null,
    app_url: text(row.app_url),
    plan: text(row.plan),
    limits: row.limits ?? {},
    token_issuer: text(row.token_issuer),
    token_jwks_url: text(row.token_jwks_url),
    token_audience: text(row.token_audience),
    tokens_valid_after: moment(row.tokens_valid_after),
    schema_version: text(row.schema_version),
    debug_until: comingMoment(row.debug_until),
    created_at: moment(row.created_at),
    updated_at: moment(row.updated_at),
    archived_at: moment(row.archived_at),
    billing_readiness: {
      shared_billing: row.mode === 'shared',
      dedicated_billing: row.mode === 'dedicated',
    },
    problem: problemOf(row),
  }
}

function problemOf(row: TenantRow): string | null {
  try {
    parseTenantRow(row)
    return null
  } catch (error) {
    return error instanceof Fault ? error.reason : 'the row cannot be read'
  }
}

function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}

function number(value: unknown): number | null {
  return value === null || value === undefined ? null : Number(value)
}

/** What has passed is over. */
function comingMoment(value: unknown): string | null {
  return value instanceof Date && value.getTime() > Date.now() ? moment(value) : null
}

function moment(value: unknown): string | null {
  return value instanceof Date && !Number.isNaN(value.getTime()) ? value.toISOString() : null
}
