import { z } from 'zod'
import type { Actor } from '../admin/actor.ts'
import { addAudit } from '../admin/audit.ts'
import type { AdminDeps } from '../admin/deps.ts'
import { Fault } from '../lib/errors.ts'
import type { TenantId } from '../tenant.ts'
import type { TenantRow } from '../tenant-row.ts'
import type { PriceListInput, Prices } from './price-list.ts'

export interface PriceList {
  readonly plan: string
  readonly from_month: string
  readonly currency: string
  readonly prices: Prices
  readonly created_by: string
  readonly created_at: string
}

export interface Credit {
  readonly id: string
  readonly tenant_id: string
  readonly amount_minor: number
  readonly currency: string
  readonly reason: string
}

export const creditInput = z.strictObject({
  amount_minor: z.int('must be a whole number').min(1).max(1_000_000_000_000),
  currency: z.string().regex(/^[A-Z]{3}$/, 'must be a code of ISO 4217, such as EUR'),
  reason: z
    .string('must be a text')
    .min(1, 'must not be empty')
    .max(500, 'must have 500 characters at most')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
    .regex(/^[^\x00-\x1f\x7f]*$/, 'must have no control characters'),
})

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
const KNOWN = `
  SELECT EXISTS (SELECT FROM tenants WHERE id = $1)
    OR EXISTS (SELECT FROM statements WHERE tenant_id = $1) AS is_known`
const CREDIT = `
  INSERT INTO billing_credits (tenant_id, amount_minor, currency, reason, created_by)
  VALUES ($1, $2, $3, $4, $5) RETURNING id`

export async function listPrices({ store }: Deps): Promise<readonly PriceList[]> {
  return (await store.query(LIST, [])).map(readList)
}

/** Prices of a plan from a month on. Statements that are frozen keep theirs, those of later freezes take these. */
export async function setPrices(
  { store }: Deps,
  actor: Actor,
  { plan, from_month: month, currency, prices }: PriceListInput,
): Promise<PriceList> {
  return store.transaction(async client => {
    const before = (await client.query<TenantRow>(BEFORE, [plan, `${month}-01`])).rows[0]
    const values = [plan, `${month}-01`, currency, JSON.stringify(prices), actor.name]
    const [row] = (await client.query<TenantRow>(SET, values)).rows
    await addAudit(client, {
      ...{ actor, action: 'prices.set' },
      ...(before !== undefined && { before: { ...readList(before) } }),
      details: { plan_code: plan, from_month: month, currency, prices },
    })
    return readList(row as TenantRow)
  })
}

/** What a tenant gets back by its next statement. @throws Fault NOT_FOUND */
export async function giveCredit(
  { store }: Deps,
  actor: Actor,
  id: TenantId,
  credit: z.output<typeof creditInput>,
): Promise<Credit> {
  return store.transaction(async client => {
    const known = await client.query<{ is_known: boolean }>(KNOWN, [id])
    if (known.rows[0]?.is_known !== true) {
      throw new Fault('NOT_FOUND', `no tenant ${id}`, { publicMessage: 'There is no such tenant.' })
    }
    const { amount_minor, currency, reason } = credit
    const values = [id, amount_minor, currency, reason, actor.name]
    const { rows } = await client.query<{ id: string }>(CREDIT, values)
    const details = { amount_minor, currency }
    await addAudit(client, { actor, action: 'tenant.credit', tenantId: id, reason, details })
    return { id: String(rows[0]?.id), tenant_id: id, ...credit }
  })
}

function readList(row: TenantRow): PriceList {
  return {
    plan: String(row.plan),
    from_month: String(row.from_month),
    currency: String(row.currency),
    prices: row.prices as Prices,
    created_by: String(row.created_by),
    created_at: (row.created_at as Date).toISOString(),
  }
}
