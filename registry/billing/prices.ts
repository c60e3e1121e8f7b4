import type { ClientBase } from 'pg'
import type { Actor } from '../admin/actor.ts'
import { addAudit } from '../admin/audit.ts'
import type { Expected } from '../admin/change.ts'
import type { AdminDeps } from '../admin/deps.ts'
import { etagOf, requireTag } from '../admin/etag.ts'
import { Fault } from '../lib/errors.ts'
import type { TenantRow } from '../tenant-row.ts'
import type { PriceListInput, Prices } from './price-list.ts'

export interface PriceList {
  readonly plan: string
  readonly from_month: string
  readonly currency: string
  readonly prices: Prices
  readonly created_by: string
  readonly created_at: string
  /** Of what may be set, for If-Match. */
  readonly etag: string
}

type Deps = Pick<AdminDeps, 'store'>

const LISTS_MAX = 10_000
const COLUMNS = `plan, to_char(from_month, 'YYYY-MM') AS from_month, currency, prices, created_by, created_at`
const LIST = `SELECT ${COLUMNS} FROM price_lists ORDER BY plan, price_lists.from_month LIMIT ${LISTS_MAX}`
const BEFORE = `SELECT ${COLUMNS} FROM price_lists WHERE plan = $1 AND price_lists.from_month = $2::date FOR UPDATE`
const SET = `
  INSERT INTO price_lists (plan, from_month, currency, prices, created_by)
  VALUES ($1, $2, $3, $4, $5)
  ON CONFLICT (plan, from_month) DO UPDATE SET currency = excluded.currency, prices = excluded.prices,
    created_by = excluded.created_by, created_at = now()
  RETURNING ${COLUMNS}`
const REMOVE = 'DELETE FROM price_lists WHERE plan = $1 AND from_month = $2::date'
/** Of two who set the first prices of a plan and month, one sees those of the other. */
const LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('doorman_prices ' || $1, 0))"

export async function listPrices({ store }: Deps): Promise<readonly PriceList[]> {
  return (await store.query(LIST, [])).map(readList)
}

/**
 * Prices of a plan from a month on. Statements that are frozen keep theirs, those of later freezes take these.
 *
 * @throws Fault PRECONDITION_FAILED
 */
export async function setPrices(
  { store }: Deps,
  actor: Actor,
  { plan, from_month: month, currency, prices }: PriceListInput,
  expected: Expected = {},
): Promise<PriceList> {
  return store.transaction(async client => {
    const before = await readBefore(client, plan, month, expected)
    const values = [plan, `${month}-01`, currency, JSON.stringify(prices), actor.name]
    const [row] = (await client.query<TenantRow>(SET, values)).rows
    await addAudit(client, {
      ...{ actor, action: 'prices.set' },
      ...(before !== null && { before: { ...before } }),
      details: { plan_code: plan, from_month: month, currency, prices },
    })
    return readList(row as TenantRow)
  })
}

/**
 * From that month on the prices of before hold again, or those of all plans. Frozen statements keep theirs.
 *
 * @throws Fault NOT_FOUND, PRECONDITION_FAILED
 */
export async function removePrices(
  { store }: Deps,
  actor: Actor,
  { plan, from_month: month }: Pick<PriceListInput, 'plan' | 'from_month'>,
  expected: Expected = {},
): Promise<void> {
  await store.transaction(async client => {
    const before = await readBefore(client, plan, month, expected)
    if (before === null) {
      const publicMessage = 'There are no such prices.'
      throw new Fault('NOT_FOUND', `no prices of ${plan} from ${month}`, { publicMessage })
    }
    await client.query(REMOVE, [plan, `${month}-01`])
    const details = { plan_code: plan, from_month: month }
    await addAudit(client, { actor, action: 'prices.remove', before: { ...before }, details })
  })
}

/** Nobody else sets them before this transaction ends. */
async function readBefore(
  client: ClientBase,
  plan: string,
  month: string,
  expected: Expected,
): Promise<PriceList | null> {
  await client.query(LOCK, [`${plan} ${month}`])
  const [row] = (await client.query<TenantRow>(BEFORE, [plan, `${month}-01`])).rows
  const before = row === undefined ? null : readList(row)
  requireTag(`the price list of ${plan} from ${month}`, before?.etag ?? null, expected)
  return before
}

function readList(row: TenantRow): PriceList {
  const [plan, from_month, currency] = [row.plan, row.from_month, row.currency].map(String) as [
    ...[string, string, string],
  ]
  const prices = row.prices as Prices
  return {
    ...{ plan, from_month, currency, prices },
    created_by: String(row.created_by),
    created_at: (row.created_at as Date).toISOString(),
    etag: etagOf([plan, from_month, currency, prices]),
  }
}
