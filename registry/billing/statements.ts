import type { ClientBase } from 'pg'
import type { Actor } from '../admin/actor.ts'
import { addAudit } from '../admin/audit.ts'
import type { AdminDeps } from '../admin/deps.ts'
import { Fault, publicFault } from '../lib/errors.ts'
import { NIL_ID, type TenantId } from '../tenant.ts'
import type { TenantRow } from '../tenant-row.ts'
import { toSafeNumber } from './decimal.ts'
import { peopleOf } from './month-people.ts'
import { type Month, type MonthUse, monthOf, monthsBefore, monthUse } from './month-use.ts'
import { adjustmentsOf, priceOf, type StatementLine, totalOf } from './price.ts'
import type { Prices } from './price-list.ts'

/** A month's bill of a tenant. Frozen it never changes; until then it is worked out anew each time. */
export interface Statement {
  /** null: a draft. */
  readonly id: string | null
  readonly tenant_id: string
  readonly tenant_key: string
  readonly month: string
  readonly currency: string
  readonly total_minor: number
  readonly lines: readonly StatementLine[]
  readonly inputs: StatementInputs
  readonly frozen_by: string | null
  readonly frozen_at: string | null
}

/** All that the lines were made of: by them they can be made again. */
export interface StatementInputs {
  readonly use: MonthUse
  readonly price_list: {
    readonly plan: string
    readonly from_month: string
    readonly prices: Prices
  }
  /** Uses of earlier months as they stand now, where they are adjusted; by month. */
  readonly restated: Readonly<Record<string, MonthUse>>
  readonly credits: readonly { readonly id: string; readonly amount_minor: number }[]
}

type Deps = Pick<AdminDeps, 'store'>

export interface Frozen {
  readonly month: string
  readonly frozen: number
  /** Not active, nothing used, nothing to mend: there is no statement of them. */
  readonly empty: number
  readonly failed: readonly { readonly tenant_id: string; readonly problem: string }[]
  /** Where to go on; null: all are done. */
  readonly next: string | null
}

/** Gateways write within seconds; what comes later than this is for the next statement. */
export const GRACE_MS = 3_600_000
/** Months before that a statement mends. */
const ADJUSTED_MONTHS = 3
const FREEZE_MAX = 100

/** Whoever may have something on a statement of the month, in the order of their ids. */
const CANDIDATES = `
  SELECT id FROM (
    SELECT id FROM tenants
      WHERE coalesce(created_at < $2::date::timestamp AT TIME ZONE 'UTC', true) AND status <> 'provisioning'
    UNION SELECT tenant_id FROM customer_usage_daily WHERE date >= $1::date AND date < $2::date
    UNION SELECT tenant_id FROM billing_credits WHERE statement_id IS NULL
    UNION SELECT tenant_id FROM statements
      WHERE month < $1::date AND month >= $1::date - interval '${ADJUSTED_MONTHS} months'
  ) AS ids
  WHERE id > $3::uuid
    AND NOT EXISTS (SELECT FROM statements WHERE tenant_id = ids.id AND month = $1::date)
  ORDER BY id LIMIT $4`

const PRICES = `
  SELECT plan, to_char(from_month, 'YYYY-MM') AS from_month, currency, prices FROM price_lists
  WHERE plan IN ($1, '*') AND from_month <= $2::date ORDER BY plan = '*', from_month DESC LIMIT 1`

const COLUMNS = `id, tenant_id, tenant_key, to_char(month, 'YYYY-MM') AS month, currency,
  total_minor, lines, inputs, frozen_by, frozen_at`

/**
 * In the order in which they were frozen, later months too: months may be frozen in any order, and what one has mended is
 * not to be mended again.
 */
const BILLED = `
  SELECT ${COLUMNS} FROM statements WHERE tenant_id = $1
    AND statements.month >= $2::date - interval '${ADJUSTED_MONTHS} months'
  ORDER BY frozen_at, id`

const FIND = `SELECT ${COLUMNS} FROM statements WHERE tenant_id = $1 AND statements.month = $2::date`

const LIST = `
  SELECT ${COLUMNS} FROM statements
  WHERE statements.month = $1::date AND tenant_id > $2::uuid ORDER BY tenant_id LIMIT $3`

const CREDITS = `
  SELECT id, amount_minor, currency, reason FROM billing_credits
  WHERE tenant_id = $1 AND statement_id IS NULL ORDER BY created_at, id FOR UPDATE`

/** Two who freeze at one moment wait for each other, and the second finds it done. */
const LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('doorman_statement ' || $1, 0))"

const INSERT = `
  INSERT INTO statements
    (tenant_id, month, tenant_key, currency, total_minor, lines, inputs, frozen_by)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id`

const GIVE_CREDITS = 'UPDATE billing_credits SET statement_id = $1 WHERE id = ANY($2::uuid[])'

/**
 * Freezes the statements of a month, some at a time: call it again with `next`. Those that are frozen already stay as
 * they are, so that a run that was cut short is simply run again.
 *
 * @throws Fault CONFLICT while the month is not over for an hour
 */
export async function freezeMonth(
  deps: Deps,
  actor: Actor,
  monthText: string,
  after: string | null = null,
  nowMs = Date.now(),
  max = FREEZE_MAX,
): Promise<Frozen> {
  const month = monthOf(monthText)
  if (nowMs < month.endMs + GRACE_MS) {
    const publicMessage = `${monthText} can be frozen an hour after its end.`
    throw new Fault('CONFLICT', 'the month is not over', { publicMessage })
  }
  const values = [dayOf(month.startMs), dayOf(month.endMs), after ?? NIL_ID, max]
  const ids = (await deps.store.query(CANDIDATES, values)).map(({ id }) => String(id))
  const counts = { frozen: 0, empty: 0 }
  const failed: { tenant_id: string; problem: string }[] = []
  for (const id of ids) {
    try {
      const people = await billedPeople(deps, id, month)
      const isFrozen = await deps.store.transaction(client =>
        freezeOne(client, actor, id, month, nowMs, people).catch(asFault),
      )
      counts[isFrozen ? 'frozen' : 'empty']++
    } catch (error) {
      if (!(error instanceof Fault) || error.code === 'REGISTRY_UNAVAILABLE') throw error
      failed.push({ tenant_id: id, problem: error.reason })
    }
  }
  return {
    month: monthText,
    ...counts,
    failed,
    next: ids.length < max ? null : (ids.at(-1) ?? null),
  }
}

/** The frozen statement, or what it would be now. @throws Fault NOT_FOUND */
export async function statementOf(
  { store }: Deps,
  id: TenantId,
  monthText: string,
  nowMs = Date.now(),
): Promise<Statement> {
  const month = monthOf(monthText)
  const [frozen] = await store.query(FIND, [id, dayOf(month.startMs)])
  if (frozen !== undefined) return readStatement(frozen)
  const people = await billedPeople({ store }, id, month)
  return store.transaction(async client => {
    const { rows } = await client.query<TenantRow>(FIND, [id, dayOf(month.startMs)])
    if (rows[0] !== undefined) return readStatement(rows[0])
    const draft = await draftOf(client, id, month, nowMs, people)
    if (draft !== null) return draft
    throw new Fault('NOT_FOUND', `no tenant ${id}`, { publicMessage: 'There is no such tenant.' })
  })
}

/** Frozen statements of a month, in the order of their tenants' ids. */
export async function listStatements(
  { store }: Deps,
  monthText: string,
  limit: number,
  cursor: string | null,
): Promise<{ items: readonly Statement[]; limit: number; next_cursor: string | null }> {
  const values = [dayOf(monthOf(monthText).startMs), cursor ?? NIL_ID, limit + 1]
  const rows = await store.query(LIST, values)
  const items = rows.slice(0, limit).map(readStatement)
  return {
    items,
    limit,
    next_cursor: rows.length > limit ? (items.at(-1)?.tenant_id ?? null) : null,
  }
}

type People = ReadonlyMap<string, number>

/**
 * Of the month and of those that its statement mends. Outside of its transaction, for that ends within one time-out; who comes
 * meanwhile is, as all that comes later, for the next statement.
 */
function billedPeople({ store }: Deps, id: string, month: Month): Promise<People> {
  return peopleOf(store, id, [...monthsBefore(month, ADJUSTED_MONTHS), month.text])
}

/** @returns false: there is nothing to bill, or it is frozen already @throws Fault CONFLICT */
async function freezeOne(
  client: ClientBase,
  actor: Actor,
  id: string,
  month: Month,
  nowMs: number,
  people: People,
): Promise<boolean> {
  await client.query(LOCK, [id])
  const { rowCount } = await client.query(FIND, [id, dayOf(month.startMs)])
  if (rowCount !== 0) return false
  const draft = await draftOf(client, id, month, nowMs, people)
  if (draft === null || isEmpty(draft)) return false
  const { tenant_key: tenantKey, currency, total_minor, lines, inputs } = draft
  const { rows } = await client.query<{ id: string }>(INSERT, [
    ...[id, dayOf(month.startMs), tenantKey, currency, total_minor],
    ...[JSON.stringify(lines), JSON.stringify(inputs), actor.name],
  ])
  await client.query(GIVE_CREDITS, [rows[0]?.id, inputs.credits.map(credit => credit.id)])
  await addAudit(client, {
    ...{ actor, action: 'statement.freeze', tenantId: id, tenantKey },
    details: { month: month.text, currency, total_minor },
  })
  return true
}

function isEmpty({ lines, inputs: { use } }: Statement): boolean {
  const isUnused = Object.values(use.quantities).every(quantity => Number(quantity) === 0)
  return (
    use.active_days === 0 &&
    isUnused &&
    lines.every(({ kind }) => kind !== 'adjustment' && kind !== 'credit')
  )
}

/** @throws Fault CONFLICT where it has no prices, or two currencies meet */
async function draftOf(
  client: ClientBase,
  id: string,
  month: Month,
  nowMs: number,
  people: People,
): Promise<Statement | null> {
  const use = await monthUse(client, id, month, nowMs, people.get(month.text) ?? 0)
  if (use === null) return null
  const list = (await client.query<TenantRow>(PRICES, [use.plan ?? '*', dayOf(month.startMs)]))
    .rows[0]
  if (list === undefined)
    throw publicFault('CONFLICT', `no prices of plan ${use.plan ?? '*'} in ${month.text}`)
  const currency = String(list.currency)
  const prices = list.prices as Prices
  const lines = [...priceOf(prices, use)]
  const restated: Record<string, MonthUse> = {}
  for (const { before, was } of await billedBefore(client, id, month)) {
    const counted = people.get(before.month) ?? 0
    const now = await monthUse(client, id, monthOf(before.month), nowMs, counted)
    if (now === null) continue
    const mended = adjustmentsOf(before.month, before.inputs.price_list.prices, was, now)
    if (mended.length === 0) continue
    if (before.currency !== currency) {
      throw publicFault(
        'CONFLICT',
        `${before.month} was billed in ${before.currency}, and is to be mended`,
      )
    }
    lines.push(...mended)
    restated[before.month] = now
  }
  const credits = (await client.query<TenantRow>(CREDITS, [id])).rows
  for (const credit of credits) {
    if (credit.currency !== currency)
      throw publicFault('CONFLICT', `a credit is in ${credit.currency}`)
    lines.push({
      ...{ kind: 'credit', metric: 'credit', of_month: null, quantity: '1' },
      ...{ amount_minor: -Number(credit.amount_minor), text: String(credit.reason) },
    })
  }
  return {
    ...{ id: null, tenant_id: id, tenant_key: use.tenant_key, month: month.text, currency },
    ...{ total_minor: totalOf(lines), lines },
    inputs: {
      use,
      price_list: { plan: String(list.plan), from_month: String(list.from_month), prices },
      restated,
      credits: credits.map(credit => ({
        id: String(credit.id),
        amount_minor: Number(credit.amount_minor),
      })),
    },
    ...{ frozen_by: null, frozen_at: null },
  }
}

/** Statements that are mended, each with the use that was last billed of its month. */
async function billedBefore(client: ClientBase, id: string, month: Month) {
  const { rows } = await client.query<TenantRow>(BILLED, [id, dayOf(month.startMs)])
  const all = rows.map(readStatement)
  return all
    .filter(statement => statement.month < month.text)
    .map(before => {
      const later = all.findLast(({ inputs }) => inputs.restated[before.month] !== undefined)
      return { before, was: later?.inputs.restated[before.month] ?? before.inputs.use }
    })
}

function readStatement(row: TenantRow): Statement {
  return {
    id: String(row.id),
    tenant_id: String(row.tenant_id),
    tenant_key: String(row.tenant_key),
    month: String(row.month),
    currency: String(row.currency),
    total_minor: toSafeNumber(BigInt(String(row.total_minor))),
    lines: row.lines as StatementLine[],
    inputs: row.inputs as StatementInputs,
    frozen_by: String(row.frozen_by),
    frozen_at: (row.frozen_at as Date).toISOString(),
  }
}

/**
 * What cannot be worked out, such as a count below 0 that somebody wrote by hand, is that tenant's own: it must not look like
 * a Registry that is down, at which the whole run ends.
 */
function asFault(error: unknown): never {
  const isOurs = error instanceof Error && !(error instanceof Fault) && !('code' in error)
  throw isOurs ? publicFault('CONFLICT', `cannot be worked out: ${error.message}`) : error
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
