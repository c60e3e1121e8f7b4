import type { ClientBase } from 'pg'
import { parseTenantId, type TenantId, type TenantMode, type TenantStatus } from '../tenant.ts'
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

const FILTER = '($1::text IS NULL OR mode = $1) AND ($2::text IS NULL OR status = $2)'

/**
 * What $3 is looked for in, as one text: a comparison without case brings each text to lower case first, which costs more
 * than to put four together. No field holds a line end, so that nothing is found across two.
 */
const SEARCH = `
  (id = $4::uuid OR (tenant_key::text || E'\\n' || coalesce(name, '') || E'\\n'
    || coalesce(db_name, '') || E'\\n' || coalesce(bucket_name, '')) ILIKE $3)`

/** One page of tenants, fit to be served or not. @throws Fault VALIDATION_FAILED on a strange cursor */
export async function listTenants(
  { store }: Pick<AdminDeps, 'store'>,
  query: ListQuery,
): Promise<TenantPage> {
  const { mode = null, status = null, q, sort, limit } = query
  const after = query.cursor === undefined ? null : readCursor(query.cursor, sort)
  const page = after === null ? (query.page ?? 1) : null
  const offset = page === null ? 0 : (page - 1) * limit
  const sought = q === undefined ? null : ([`%${escapeLike(q)}%`, parseTenantId(q)] as const)
  const values = [mode, status, ...(sought ?? []), ...(after ?? []), limit + 1, offset]
  const { rows, total } = await store.use(client =>
    sought === null
      ? countAndRead(client, sort, after !== null, values)
      : search(client, sort, after !== null, values),
  )
  const last = rows.length > limit ? rows[limit - 1] : undefined
  return {
    items: rows.slice(0, limit).map(tenantItem),
    total,
    limit,
    page,
    next_cursor: last === undefined ? null : makeCursor(sort, last),
  }
}

interface Found {
  readonly rows: readonly TenantRow[]
  readonly total: number
}

/** Without a search both are read from an index: the page, where there is one in its order, and the number. */
async function countAndRead(
  client: ClientBase,
  sort: SortOrder,
  isAfter: boolean,
  values: readonly unknown[],
): Promise<Found> {
  const counted = await client.query<{ total: string }>(
    `SELECT count(*) AS total FROM tenants WHERE ${FILTER}`,
    values.slice(0, 2),
  )
  const { by } = orderOf(sort)
  const { rows } = await client.query<TenantRow>(
    `SELECT ${ADMIN_COLUMNS}, (${by})::text AS sorted_by FROM tenants
     WHERE ${FILTER}${pageOf(sort, by, isAfter, 3)}`,
    [...values],
  )
  return { rows, total: Number(counted.rows[0]?.total) }
}

/** A search reads every tenant, and so it does that once: for the number and the page, which are made of what it found. */
async function search(
  client: ClientBase,
  sort: SortOrder,
  isAfter: boolean,
  values: readonly unknown[],
): Promise<Found> {
  const { by } = orderOf(sort)
  const { rows } = await client.query<TenantRow>(
    `WITH found AS MATERIALIZED (
       SELECT id, ${by} AS sorted_by FROM tenants WHERE ${FILTER} AND ${SEARCH}
     ), page AS (
       SELECT id, sorted_by FROM found WHERE true${pageOf(sort, 'sorted_by', isAfter, 5)}
     )
     SELECT total, found_row.*
     FROM (SELECT count(*) AS total FROM found) AS counted
     LEFT JOIN (
       SELECT ${ADMIN_COLUMNS}, sorted_by::text AS sorted_by, sorted_by AS place
       FROM page JOIN tenants USING (id)
     ) AS found_row ON true${orderBy(sort, 'place')}`,
    [...values],
  )
  // Where the page is empty there is one row all the same, with the number alone.
  return { rows: rows.filter(({ id }) => id !== null), total: Number(rows[0]?.total) }
}

function orderOf(sort: SortOrder) {
  return { ...SORTS[sort.replace('-', '') as SortName], isDown: sort.startsWith('-') }
}

/** @param first number of the first value: with `isAfter` those of the cursor, then limit and offset */
function pageOf(sort: SortOrder, column: string, isAfter: boolean, first: number): string {
  const { type, isDown } = orderOf(sort)
  const [value, id] = [`$${first}::${type}`, `$${first + 1}::uuid`]
  const after = isAfter ? ` AND (${column}, id) ${isDown ? '<' : '>'} (${value}, ${id})` : ''
  const next = isAfter ? first + 2 : first
  return `${after}${orderBy(sort, column)} LIMIT $${next} OFFSET $${next + 1}`
}

function orderBy(sort: SortOrder, column: string): string {
  const direction = orderOf(sort).isDown ? 'DESC' : 'ASC'
  return ` ORDER BY ${column} ${direction}, id ${direction}`
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
