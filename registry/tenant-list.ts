import { Fault } from './lib/errors.ts'
import type { RegistryStore } from './store.ts'
import { parseTenantId, type Tenant, type TenantMode, type TenantStatus } from './tenant.ts'
import { parseTenantRow, TENANT_COLUMNS, type TenantRow } from './tenant-row.ts'

export interface TenantFilter {
  readonly mode?: TenantMode
  readonly status?: TenantStatus
}

/** A row of a listing: shown even where it is not fit to be served, which `problem` then tells. */
export interface ListedTenant {
  readonly id: string
  readonly key: string
  readonly name: string | null
  readonly mode: string
  readonly status: string
  readonly statusReason: string | null
  readonly configVersion: number
  /** As the row has it, which may be little. */
  readonly db: ListedDb
  readonly tenant: Tenant | null
  readonly problem: string | null
}

export interface ListedDb {
  readonly host: string | null
  readonly port: number | null
  readonly name: string | null
  readonly user: string | null
  readonly passwordEncrypted: string | null
  readonly sslMode: string | null
  readonly poolMax: number | null
}

type Store = Pick<RegistryStore, 'query'>

const LIST_PAGE = 500

/** One page of the CLI's list and of the fleet runner. $1 after which key, $2 mode, $3 status. */
const LIST = `
  SELECT ${TENANT_COLUMNS}, status_reason FROM tenants
  WHERE ($1::text IS NULL OR tenant_key::text > $1)
    AND ($2::text IS NULL OR mode = $2) AND ($3::text IS NULL OR status = $3)
  ORDER BY tenant_key::text LIMIT $4`

/** The CLI's look-up of one tenant, fit to be served or not, by id. Primary key. */
const FIND_LISTED_BY_ID = `
  SELECT ${TENANT_COLUMNS}, status_reason FROM tenants WHERE id = $1`

/** The same by key, in whatever case it stands there. Index tenants_key_lower. */
const FIND_LISTED_BY_KEY = `
  SELECT ${TENANT_COLUMNS}, status_reason FROM tenants WHERE lower(tenant_key::text) = $1
  ORDER BY (tenant_key::text = $1) DESC, id LIMIT 1`

/** All tenants in order of their keys, page by page, so that ten thousand need no memory at once. */
export async function* eachTenant(
  store: Store,
  filter: TenantFilter = {},
): AsyncGenerator<ListedTenant, void, undefined> {
  let after: string | null = null
  for (;;) {
    const rows: readonly TenantRow[] = await store.query(LIST, [
      after,
      filter.mode ?? null,
      filter.status ?? null,
      LIST_PAGE,
    ])
    for (const row of rows) yield listedTenant(row)
    if (rows.length < LIST_PAGE) return
    after = String(rows.at(-1)?.tenant_key)
  }
}

/** One row by id or key, shown even where it is not fit to be served. Keys are compared without case. */
export async function findListedTenant(store: Store, name: string): Promise<ListedTenant | null> {
  const id = parseTenantId(name)
  const byId = id === null ? [] : await store.query(FIND_LISTED_BY_ID, [id])
  const [row] =
    byId.length > 0 ? byId : await store.query(FIND_LISTED_BY_KEY, [name.trim().toLowerCase()])
  return row === undefined ? null : listedTenant(row)
}

export function listedTenant(row: TenantRow): ListedTenant {
  const shown = {
    id: String(row.id),
    key: String(row.tenant_key),
    name: row.name === null ? null : String(row.name),
    mode: String(row.mode),
    status: String(row.status),
    statusReason: row.status_reason === null ? null : String(row.status_reason),
    configVersion: Number(row.config_version),
    db: {
      host: textOf(row.db_host),
      port: row.db_port === null ? null : Number(row.db_port),
      name: textOf(row.db_name),
      user: textOf(row.db_user),
      passwordEncrypted: textOf(row.db_password_encrypted),
      sslMode: textOf(row.db_ssl_mode),
      poolMax: row.db_pool_max === null ? null : Number(row.db_pool_max),
    },
  }
  try {
    return { ...shown, tenant: parseTenantRow(row), problem: null }
  } catch (error) {
    const problem = error instanceof Fault ? error.reason : 'the row cannot be read'
    return { ...shown, tenant: null, problem }
  }
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}
