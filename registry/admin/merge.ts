import type { Keyring } from '../envelope.ts'
import { publicFault } from '../lib/errors.ts'
import type { TenantId } from '../tenant.ts'
import type { TenantRow } from '../tenant-row.ts'
import { covers, type Scope } from './actor.ts'
import { wrongField } from './fields.ts'
import type { Columns } from './row.ts'

/** Fields whose column has the same name. */
export const PLAIN = [
  ...['name', 'mode', 'db_host', 'db_port', 'db_name', 'db_user', 'db_ssl_mode', 'db_pool_max'],
  ...['bucket_provider', 'bucket_name', 'bucket_region', 'bucket_endpoint', 'bucket_prefix'],
  ...['app_url', 'plan', 'limits', 'token_issuer', 'token_jwks_url', 'token_audience'],
] as const

export const SECRETS = {
  db_password: 'db_password_encrypted',
  bucket_access_key: 'bucket_access_key_encrypted',
  bucket_secret_key: 'bucket_secret_key_encrypted',
} as const

/** Without its name a bucket is none: these go with it. */
const OF_BUCKET = [
  ...['bucket_provider', 'bucket_region', 'bucket_endpoint', 'bucket_prefix'],
  ...['bucket_access_key_encrypted', 'bucket_secret_key_encrypted'],
]

export interface MergeRules {
  readonly platformIssuer: string | null
  readonly isProduction: boolean
}

/** A body of fields.ts, as it was read. */
type Fields = Columns

/** What `fields` set, by column, secrets sealed for tenant `id`. Fields that are absent set nothing. */
export function columnsOf(keyring: Keyring, id: TenantId, fields: Fields): Columns {
  const columns: Record<string, unknown> = {}
  for (const name of PLAIN) if (fields[name] !== undefined) columns[name] = fields[name]
  for (const [name, column] of Object.entries(SECRETS) as [keyof typeof SECRETS, never][]) {
    const secret = fields[name]
    if (secret === undefined) continue
    columns[column] =
      secret === null ? null : keyring.encrypt(secret as string, { owner: id, column })
  }
  if (fields.bucket_name === null) for (const name of OF_BUCKET) columns[name] = null
  return columns
}

/**
 * Whether `columns` may be set on `row` (empty for a new tenant): rules over several fields.
 *
 * @throws Fault VALIDATION_FAILED naming the field, CONFLICT
 */
export function requireSound(row: TenantRow, columns: Columns, rules: MergeRules): void {
  const merged: TenantRow = { ...row, ...columns }
  const has = (name: string) => merged[name] != null && merged[name] !== ''
  if (row.mode === 'dedicated' && columns.mode === 'shared') {
    const text = 'mode: goes from shared to dedicated only'
    throw publicFault('CONFLICT', text)
  }
  if (!has('bucket_name')) {
    const lost = OF_BUCKET.find(name => columns[name] != null)
    if (lost !== undefined) throw wrongField('bucket_name', 'is required with the rest of a bucket')
  }
  if (has('bucket_access_key_encrypted') !== has('bucket_secret_key_encrypted')) {
    throw wrongField('bucket_access_key', 'comes with bucket_secret_key, or neither of the two')
  }
  if (has('bucket_endpoint') && !has('bucket_access_key_encrypted')) {
    throw wrongField('bucket_endpoint', 'comes with bucket_access_key and bucket_secret_key')
  }
  const issuer = ['token_issuer', 'token_jwks_url', 'token_audience']
  const missing = issuer.find(name => !has(name))
  if (missing !== undefined && issuer.some(has)) {
    throw wrongField(missing, 'token_issuer, token_jwks_url and token_audience come together')
  }
  if (columns.token_issuer != null && columns.token_issuer === rules.platformIssuer) {
    throw wrongField('token_issuer', 'JWT_ISSUER is the platform’s own')
  }
  if (rules.isProduction && /^http:/.test(String(columns.token_jwks_url ?? ''))) {
    throw wrongField('token_jwks_url', 'must be https: in production')
  }
}

/**
 * The stored password goes where an operator's key alone does not send it: to another host, or out of TLS.
 * Whoever has the password, or owns the installation, may.
 *
 * @throws Fault VALIDATION_FAILED
 */
export function requirePasswordForMove(row: TenantRow, fields: Fields, scope: Scope): void {
  if (fields.db_password !== undefined || covers(scope, 'own')) return
  const moved = (['db_host', 'db_port', 'db_ssl_mode'] as const).find(
    name => fields[name] !== undefined && fields[name] !== (row[name] ?? null),
  )
  if (moved !== undefined) throw wrongField('db_password', `is required with a new ${moved}`)
}

/** Whether `columns` say something new on where the database is, or what opens it. */
export function movesDatabase(columns: Columns): boolean {
  const names = ['db_host', 'db_port', 'db_name', 'db_user', 'db_password_encrypted', 'db_ssl_mode']
  return names.some(name => columns[name] !== undefined)
}

export function movesBucket(columns: Columns): boolean {
  return [...OF_BUCKET, 'bucket_name'].some(name => columns[name] !== undefined)
}
