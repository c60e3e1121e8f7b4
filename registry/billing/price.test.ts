import fc from 'fast-check'
import t from 'tap'
import { formatDecimal, parseDecimal } from './decimal.ts'
import { METRICS } from './metrics.ts'
import { adjustmentsOf, amountOf, type BilledUse, priceOf, totalOf } from './price.ts'
import { type PriceLine, type Prices, priceListInput, pricesInput } from './price-list.ts'

const MILLION = 1_000_000n
const lineOf = (line: object): PriceLine =>
  pricesInput.parse({ lines: [{ metric: 'api_requests', ...line }] }).lines[0] as PriceLine

/** As text, with up to 6 places. */
const decimal = (max: number) =>
  fc
    .tuple(fc.integer({ min: 0, max }), fc.integer({ min: 0, max: 999_999 }))
    .map(([whole, fraction]) => formatDecimal(BigInt(whole) * MILLION + BigInt(fraction)))

const tiers = fc
  .tuple(
    fc.uniqueArray(fc.integer({ min: 1, max: 5000 }), { maxLength: 4 }),
    fc.array(decimal(500), { minLength: 5, maxLength: 5 }),
  )
  .map(([ends, prices]) =>
    [...ends.sort((a, b) => a - b), null].map((end, i) => ({
      ...(end !== null && { up_to: String(end) }),
      price: prices[i] as string,
    })),
  )
const line = fc
  .record({ included: decimal(2000), per: fc.constantFrom('1', '10', '1000', '0.5', '3'), tiers })
  .map(lineOf)

t.test('the steps of a price are each for their own units', async t => {
  const steps = [{ up_to: '100', price: '3' }, { up_to: '200', price: '2' }, { price: '0.5' }]
  const price = lineOf({ included: '10', tiers: steps })
  const cases: [string, bigint][] = [
    ['0', 0n],
    ['10', 0n],
    ['11', 3n],
    ['110', 300n],
    ['111', 302n],
    ['210', 500n],
    ['211', 500n],
    ['212', 501n],
    ['1000000', 500n + 499_895n],
  ]
  for (const [units, cost] of cases) t.equal(amountOf(price, parseDecimal(units)), cost, units)
  const thousands = lineOf({ per: '1000', tiers: [{ price: '12.5' }] })
  t.equal(amountOf(thousands, parseDecimal('1999')), 24n, 'rounded once, down')
  t.equal(amountOf(thousands, parseDecimal('999999999999999')), 12_499_999_999_999n, 'exactly')
})

t.test('property: an amount is the exact sum over single units, rounded once, down', async t => {
  fc.assert(
    fc.property(line, fc.integer({ min: 0, max: 8000 }), (price, units) => {
      // Unit by unit, each in millionths: what is included first, then step by step.
      let cost = 0n
      const included = parseDecimal(price.included)
      for (let i = 0n; i < BigInt(units); i++) {
        for (let part = i * MILLION; part < (i + 1n) * MILLION; ) {
          const step = price.tiers.find(
            ({ up_to }) => up_to === undefined || part - included < parseDecimal(up_to),
          )
          const edges = [
            included,
            ...price.tiers.flatMap(({ up_to }) => (up_to ? [included + parseDecimal(up_to)] : [])),
          ]
          const next = edges
            .filter(edge => edge > part)
            .reduce((a, b) => (b < a ? b : a), (i + 1n) * MILLION)
          const taken = (next < (i + 1n) * MILLION ? next : (i + 1n) * MILLION) - part
          if (part >= included) cost += taken * parseDecimal(step?.price as string)
          part += taken
        }
      }
      const exact = cost / (parseDecimal(price.per) * MILLION)
      return amountOf(price, BigInt(units) * MILLION) === exact
    }),
    { numRuns: 30 },
  )
  t.pass()
})

t.test('property: more use never costs less, and nothing costs nothing', async t => {
  fc.assert(
    fc.property(line, decimal(100_000), decimal(100_000), (price, a, b) => {
      const [less, more] = [parseDecimal(a), parseDecimal(a) + parseDecimal(b)]
      return amountOf(price, less) <= amountOf(price, more) && amountOf(price, 0n) === 0n
    }),
  )
  t.pass()
})

const prices = fc.record({ base_fee: fc.integer({ min: 0, max: 1e9 }), a: line, b: line }).map(
  ({ base_fee, a, b }): Prices => ({
    base_fee,
    lines: [a, { ...b, metric: 'storage_gb' }],
  }),
)
const use = fc
  .record({ active_days: fc.integer({ min: 0, max: 30 }), a: decimal(1e6), b: decimal(1e6) })
  .map(
    ({ active_days, a, b }): BilledUse => ({
      ...{ active_days, days_in_month: 30 },
      quantities: { api_requests: a, storage_gb: b },
    }),
  )

t.test('property: a statement and its adjustments come to what the last use costs', async t => {
  fc.assert(
    fc.property(prices, fc.array(use, { minLength: 1, maxLength: 5 }), (list, uses) => {
      let billed = totalOf(priceOf(list, uses[0] as BilledUse))
      for (const [i, now] of uses.slice(1).entries()) {
        billed += totalOf(adjustmentsOf('2026-01', list, uses[i] as BilledUse, now))
      }
      return billed === totalOf(priceOf(list, uses.at(-1) as BilledUse))
    }),
  )
  const same: BilledUse = { active_days: 1, days_in_month: 30, quantities: {} }
  t.strictSame(adjustmentsOf('2026-01', { base_fee: 100, lines: [] }, same, same), [])
})

t.test('the base fee is for active days, and rounded down', async t => {
  const of = (active_days: number) =>
    priceOf({ base_fee: 1000, lines: [] }, { active_days, days_in_month: 31, quantities: {} })
  t.strictSame(
    of(31).map(({ amount_minor: amount }) => amount),
    [1000],
  )
  t.strictSame(
    of(10).map(({ amount_minor: amount }) => amount),
    [322],
  )
  t.strictSame(
    of(0).map(({ amount_minor: amount }) => amount),
    [0],
  )
})

t.test('prices that make no sense are refused', async t => {
  const list = (prices: object) =>
    priceListInput.safeParse({ plan: 'gold', from_month: '2026-01', currency: 'EUR', prices })
      .success
  const line = (change: object) =>
    list({ lines: [{ metric: 'storage_gb', tiers: [{ price: '1' }], ...change }] })
  t.ok(line({}))
  for (const metric of METRICS) t.ok(line({ metric }))
  t.ok(line({ metric: 'counter:emails' }))
  for (const wrong of [
    { metric: 'emails' },
    { metric: 'counter:E' },
    { tiers: [] },
    { tiers: [{ price: '1', up_to: '5' }] },
    { tiers: [{ price: '1' }, { price: '2' }] },
    { tiers: [{ price: '1', up_to: '5' }, { price: '1', up_to: '5' }, { price: '2' }] },
    { tiers: [{ price: 1 }] },
    { tiers: [{ price: '-1' }] },
    { tiers: [{ price: '1e3' }] },
    { tiers: [{ price: '0.1234567' }] },
    { per: '0' },
    { included: '-1' },
    { more: 1 },
  ]) {
    t.notOk(line(wrong), JSON.stringify(wrong))
  }
  t.notOk(list({ base_fee: 1.5 }))
  t.notOk(list({ base_fee: -1 }))
  const twice = { metric: 'storage_gb', tiers: [{ price: '1' }] }
  t.notOk(list({ lines: [twice, twice] }))
})
