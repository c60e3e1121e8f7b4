import { z } from 'zod'
import {
  type Credit,
  type CreditItem,
  creditInput,
  giveCredit,
  listCredits,
} from '../../billing/credits.ts'
import type { StatementLine } from '../../billing/price.ts'
import { priceListInput, pricesInput } from '../../billing/price-list.ts'
import { listPrices, type PriceList, removePrices, setPrices } from '../../billing/prices.ts'
import {
  type Frozen,
  freezeMonth,
  listStatements,
  type Statement,
  statementOf,
} from '../../billing/statements.ts'
import { type Operation, operation } from './operation.ts'
import { freezeBody, statementQuery, statementsQuery } from './queries.ts'

const text = z.string()
const maybe = z.string().nullable()
const count = z.int()

const priceListResult = z.strictObject({
  plan: text,
  from_month: text,
  currency: text,
  prices: pricesInput,
  created_by: text,
  created_at: z.iso.datetime(),
  etag: text,
}) satisfies z.ZodType<PriceList>

const lineResult = z.strictObject({
  kind: z.enum(['base_fee', 'usage', 'adjustment', 'credit']),
  metric: text,
  of_month: maybe,
  quantity: text,
  amount_minor: count,
  text: maybe,
}) satisfies z.ZodType<StatementLine>

const useResult = z.strictObject({
  tenant_id: z.uuid(),
  tenant_key: text,
  name: maybe,
  mode: maybe,
  plan: maybe,
  active_days: count,
  days_in_month: count,
  quantities: z.record(text, text),
})

const statementResult = z.strictObject({
  id: z.uuid().nullable(),
  tenant_id: z.uuid(),
  tenant_key: text,
  month: text,
  currency: text,
  total_minor: count,
  lines: z.array(lineResult),
  inputs: z.strictObject({
    use: useResult,
    price_list: z.strictObject({ plan: text, from_month: text, prices: pricesInput }),
    restated: z.record(text, useResult),
    credits: z.array(z.strictObject({ id: z.uuid(), amount_minor: count })),
  }),
  frozen_by: maybe,
  frozen_at: z.iso.datetime().nullable(),
}) satisfies z.ZodType<Statement>

const statementsResult = z.strictObject({
  items: z.array(statementResult),
  limit: count,
  next_cursor: maybe,
})

const frozenResult = z.strictObject({
  month: text,
  frozen: count,
  empty: count,
  failed: z.array(z.strictObject({ tenant_id: z.uuid(), problem: text })),
  next: maybe,
}) satisfies z.ZodType<Frozen>

const creditResult = z.strictObject({
  id: z.uuid(),
  tenant_id: z.uuid(),
  amount_minor: count,
  currency: text,
  reason: text,
}) satisfies z.ZodType<Credit>

const pricesQuery = priceListInput.pick({ plan: true, from_month: true })

const creditItem = z.strictObject({
  ...creditResult.shape,
  created_by: text,
  created_at: z.iso.datetime(),
  month: maybe,
}) satisfies z.ZodType<CreditItem>

/** Of one call: as much as a request may wait for. */
const FREEZE_MAX = 50

/** Prices, and what tenants are billed. Amounts are in the minor unit of their currency. */
export const BILLING_OPERATIONS: readonly Operation[] = [
  operation({
    ...{ name: 'listPrices', method: 'GET', path: '/prices', scope: 'read' },
    summary: 'Prices of all plans, by the month from which they hold',
    result: z.strictObject({ items: z.array(priceListResult) }),
    run: async ({ deps }) => ({ message: 'Prices.', result: { items: await listPrices(deps) } }),
  }),
  operation({
    ...{ name: 'setPrices', method: 'POST', path: '/prices', scope: 'own' },
    summary: 'Set the prices of a plan from a month on; frozen statements stay as they are',
    body: priceListInput,
    result: priceListResult,
    isVersioned: true,
    run: async ({ deps, actor, body, expected }) => ({
      message: 'Prices set.',
      result: await setPrices(deps, actor, body, expected),
    }),
  }),
  operation({
    ...{ name: 'listStatements', method: 'GET', path: '/statements', scope: 'read' },
    summary: 'Frozen statements of a month, a page of them',
    query: statementsQuery,
    result: statementsResult,
    run: async ({ deps, query: { month, limit, cursor = null } }) => ({
      message: 'Statements.',
      result: await listStatements(deps, month, limit, cursor),
    }),
  }),
  operation({
    ...{ name: 'freezeStatements', method: 'POST', path: '/statements', scope: 'own' },
    summary:
      'Freeze statements of a month that is over, some of them; again with next until it is null',
    body: freezeBody,
    result: frozenResult,
    run: async ({ deps, actor, body: { month, after } }) => ({
      message: 'Statements frozen.',
      result: await freezeMonth(deps, actor, month, after, Date.now(), FREEZE_MAX),
    }),
  }),
  operation({
    ...{ name: 'getStatement', method: 'GET', path: '/tenants/:id/statement', scope: 'read' },
    summary: 'Its statement of a month; before it is frozen a draft, whose id is null',
    query: statementQuery,
    result: statementResult,
    run: async ({ deps, id, query: { month } }) => ({
      message: 'Statement.',
      result: await statementOf(deps, id, month),
    }),
  }),
  operation({
    ...{ name: 'giveCredit', method: 'POST', path: '/tenants/:id/credits', scope: 'own' },
    summary: 'Give it something back by its next statement',
    body: creditInput,
    result: creditResult,
    status: 201,
    run: async ({ deps, actor, id, body, idempotencyKey }) => ({
      message: 'Credit given.',
      result: await giveCredit(deps, actor, id, body, idempotencyKey),
      location: `/tenants/${id}/statement`,
    }),
  }),
  operation({
    ...{ name: 'listCredits', method: 'GET', path: '/tenants/:id/credits', scope: 'read' },
    summary: 'What it was given back, the newest first, 100 at most; also of one that is deleted',
    result: z.strictObject({ items: z.array(creditItem) }),
    run: async ({ deps, id }) => ({
      message: 'Credits.',
      result: { items: await listCredits(deps, id) },
    }),
  }),
  operation({
    ...{ name: 'removePrices', method: 'DELETE', path: '/prices', scope: 'own' },
    summary: 'Take back the prices of a plan from a month on; frozen statements stay as they are',
    query: pricesQuery,
    result: pricesQuery,
    run: async ({ deps, actor, query, expected }) => {
      await removePrices(deps, actor, query, expected)
      return { message: 'Prices removed.', result: query }
    },
  }),
]
