import type { TenantId, TenantMode, TenantStatus } from '../tenant.ts'
import type { TenantRow } from '../tenant-row.ts'
import type { AdminDeps } from './deps.ts'
import { wrongField } from './fields.ts'
import { type TenantItem, tenantItem } from './item.ts'
import { ADMIN_COLUMNS, requireRow } from './row.ts'

export interface ListQuery {
  readonly mode?: TenantMode | undefined
  readonly status?: TenantStatus | undefined
  /** Part of key, name, database or bucket, without case; or a whole id. */
  readonly q?: string | undefined
  readonly sort: SortOrder
  readonly limit: number
  /** From 1; instead of a cursor. */
  readonly page?: number | undefined
  /** Of the page before. */
  readonly cursor?: string | undefined
}

export interface TenantPage {
  readonly items: readonly TenantItem[]
  /** Of all pages. */
  readonly total: number
  readonly limit: number
  /** null where the page was asked for by cursor. */
  readonly page: number | null
  /** null on the last page. */
  readonly next_cursor: string | null
}

/** What a listing is sorted by. Ties go by id, so that pages neither repeat a tenant nor leave one out. */
const SORTS = {
  tenant_key: { by: 'tenant_key::text', type: 'text' },
  name: { by: "coalesce(name, '')", type: 'text' },
  mode: { by: 'mode', type: 'text' },
  status: { by: 'status', type: 'text' },
  created_at: { by: 'created_at', type: 'timestamptz' },
  updated_at: { by: 'updated_at', type: 'timestamptz' },
} as const
type SortName = keyof typeof SORTS
export type SortOrder = SortName | `-${SortName}`
export const SORT_ORDERS = (Object.keys(SORTS) as SortName[]).flatMap(
  name => [name, `-${name}`] as const,
)

const FILTER = `
  ($1::text IS NULL OR mode = $1) AND ($2::text IS NULL OR status = $2)
  AND ($3::text IS NULL OR tenant_key::text ILIKE $3 OR name ILIKE $3 OR db_name ILIKE $3
    OR bucket_name ILIKE $3 OR id::text = $4)`

/** One page of tenants, fit to be served or not. @throws Fault VALIDATION_FAILED on a strange cursor */
export async function listTenants(
  { store }: Pick<AdminDeps, 'store'>,
  query: ListQuery,
): Promise<TenantPage> {
  const { mode = null, status = null, q, sort, limit } = query
  const isDown = sort.startsWith('-')
  const { by, type } = SORTS[sort.replace('-', '') as SortName]
  const after = query.cursor === undefined ? null : readCursor(query.cursor, sort)
  const page = after === null ? (query.page ?? 1) : null
  const filter = [
    mode,
    status,
    q === undefined ? null : `%${escapeLike(q)}%`,
    q?.toLowerCase() ?? null,
  ]
  const order = isDown ? 'DESC' : 'ASC'
  const select = `
    SELECT ${ADMIN_COLUMNS}, (${by})::text AS sorted_by FROM tenants
    WHERE ${FILTER} AND ($5::text IS NULL OR (${by}, id) ${isDown ? '<' : '>'} ($5::${type}, $6::uuid))
    ORDER BY ${by} ${order}, id ${order} LIMIT $7 OFFSET $8`
  const offset = page === null ? 0 : (page - 1) * limit
  const values = [...filter, ...(after ?? [null, null]), limit + 1, offset]
  const { rows, total } = await store.use(async client => {
    const counted = await client.query<{ total: string }>(
      `SELECT count(*) AS total FROM tenants WHERE ${FILTER}`,
      filter,
    )
    const { rows } = await client.query<TenantRow>(select, values)
    return { rows, total: Number(counted.rows[0]?.total) }
  })
  const last = rows.length > limit ? rows[limit - 1] : undefined
  return {
    items: rows.slice(0, limit).map(tenantItem),
    total,
    limit,
    page,
    next_cursor: last === undefined ? null : makeCursor(sort, last),
  }
}

/** @throws Fault NOT_FOUND */
export async function getTenant(
  { store }: Pick<AdminDeps, 'store'>,
  id: TenantId,
): Promise<TenantItem> {
  return tenantItem(await requireRow(store, id))
}

export function escapeLike(text: string): string {
  return text.replace(/[\\%_]/g, '\\$&')
}

function makeCursor(sort: SortOrder, row: TenantRow): string {
  return Buffer.from(JSON.stringify([sort, row.sorted_by, row.id])).toString('base64url')
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
/** As PostgreSQL writes it. */
const TIME = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?[+-]\d\d(:\d\d)?$/

function readCursor(cursor: string, sort: SortOrder): [string, string] {
  try {
    const [of, value, id] = JSON.parse(
      Buffer.from(cursor, 'base64url').toString('utf8'),
    ) as string[]
    const isTime = SORTS[sort.replace('-', '') as SortName].type === 'timestamptz'
    const isValue = typeof value === 'string' && (!isTime || TIME.test(value))
    if (of === sort && isValue && UUID.test(String(id))) return [value, String(id)]
  } catch {
    // Not one of ours.
  }
  throw wrongField('cursor', 'must be next_cursor of a page in the same order')
}
