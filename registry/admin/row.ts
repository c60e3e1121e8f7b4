import type { ClientBase } from 'pg'
import { Fault } from '../lib/errors.ts'
import type { RegistryStore } from '../store.ts'
import type { TenantId } from '../tenant.ts'
import { TENANT_COLUMNS, type TenantRow } from '../tenant-row.ts'

/** What the control plane reads of a tenant: fit to be served or not. */
export const ADMIN_COLUMNS = `${TENANT_COLUMNS}, status_reason, archived_at`

/** Columns that a change may set. Names of statements come from here, never from a request. */
const SETTABLE = [
  ...['name', 'mode', 'status', 'status_reason', 'db_host', 'db_port', 'db_name', 'db_user'],
  ...['db_password_encrypted', 'db_ssl_mode', 'db_pool_max', 'bucket_provider', 'bucket_name'],
  ...['bucket_region', 'bucket_endpoint', 'bucket_prefix', 'bucket_access_key_encrypted'],
  ...['bucket_secret_key_encrypted', 'app_url', 'plan', 'limits', 'token_issuer'],
  ...['token_jwks_url', 'token_audience', 'tokens_valid_after', 'debug_until'],
] as const

/** Values by column. */
export type Columns = Readonly<Record<string, unknown>>

const FIND = `SELECT ${ADMIN_COLUMNS} FROM tenants WHERE id = $1`

/** @throws Fault NOT_FOUND */
export async function requireRow(store: RegistryStore, id: TenantId): Promise<TenantRow> {
  return store.use(client => readRow(client, id))
}

/** The same within a piece of work. @throws Fault NOT_FOUND */
export async function readRow(client: ClientBase, id: TenantId): Promise<TenantRow> {
  const [row] = (await client.query<TenantRow>(FIND, [id])).rows
  if (row !== undefined) return row
  throw new Fault('NOT_FOUND', `no tenant ${id}`, { publicMessage: 'There is no such tenant.' })
}

/** @returns the row as it is now; null where it is not at `version` any more */
export async function updateRow(
  client: ClientBase,
  id: TenantId,
  version: number,
  columns: Columns,
): Promise<TenantRow | null> {
  const names = settable(columns)
  const set = names.map((name, i) => `${name} = $${i + 3}`).join(', ')
  const { rows } = await client.query<TenantRow>(
    `UPDATE tenants SET ${set} WHERE id = $1 AND config_version = $2 RETURNING ${ADMIN_COLUMNS}`,
    [id, version, ...names.map(name => columns[name])],
  )
  return rows[0] ?? null
}

export async function insertRow(
  client: ClientBase,
  id: TenantId,
  key: string,
  columns: Columns,
): Promise<TenantRow> {
  const names = settable(columns)
  const places = names.map((_, i) => `$${i + 3}`)
  const { rows } = await client.query<TenantRow>(
    `INSERT INTO tenants (${['id', 'tenant_key', ...names].join(', ')})
     VALUES ($1, $2, ${places.join(', ')}) RETURNING ${ADMIN_COLUMNS}`,
    [id, key, ...names.map(name => columns[name])],
  )
  return rows[0] as TenantRow
}

export function versionOf(row: TenantRow): number {
  return Number(row.config_version)
}

function settable(columns: Columns): string[] {
  const names = Object.keys(columns)
  for (const name of names) {
    if (!(SETTABLE as readonly string[]).includes(name)) throw new Error(`no such column: ${name}`)
  }
  return names
}
