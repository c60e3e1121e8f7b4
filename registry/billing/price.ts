import { parseDecimal, SCALE, toSafeNumber } from './decimal.ts'
import type { PriceLine, Prices } from './price-list.ts'

/** What of a month is paid for. Quantities are decimals as texts; a metric that is missing is 0. */
export interface BilledUse {
  readonly active_days: number
  readonly days_in_month: number
  readonly quantities: Readonly<Record<string, string>>
}

export interface StatementLine {
  readonly kind: 'base_fee' | 'usage' | 'adjustment' | 'credit'
  readonly metric: string
  /** The month that an adjustment mends, YYYY-MM; null: that of the statement. */
  readonly of_month: string | null
  readonly quantity: string
  /** In the currency's minor unit. */
  readonly amount_minor: number
  readonly text: string | null
}

/**
 * What a use costs. Each line is worked out exactly and rounded once, down to the minor unit: in favour of the
 * tenant. The base fee is for the days on which the tenant was active.
 */
export function priceOf(prices: Prices, use: BilledUse): readonly StatementLine[] {
  const { active_days: active, days_in_month: days } = use
  const base = (BigInt(prices.base_fee) * BigInt(active)) / BigInt(days)
  const line = { of_month: null, text: null }
  const lines: StatementLine[] = [
    {
      ...{ kind: 'base_fee', metric: 'base_fee', of_month: null },
      ...{ quantity: String(active), amount_minor: toSafeNumber(base) },
      text: `days of ${days}`,
    },
  ]
  for (const price of prices.lines) {
    const quantity = use.quantities[price.metric] ?? '0'
    lines.push({
      ...{ kind: 'usage', metric: price.metric, ...line },
      ...{ quantity, amount_minor: toSafeNumber(amountOf(price, parseDecimal(quantity))) },
    })
  }
  return lines
}

/** @param units millionths @returns whole minor units */
export function amountOf({ included, per, tiers }: PriceLine, units: bigint): bigint {
  let left = units - parseDecimal(included)
  if (left <= 0n) return 0n
  let cost = 0n
  let from = 0n
  for (const { up_to, price } of tiers) {
    const room = up_to === undefined ? left : parseDecimal(up_to) - from
    const taken = left < room ? left : room
    cost += taken * parseDecimal(price)
    left -= taken
    from += taken
    if (left === 0n) break
  }
  // Millionths × millionths, by millionths: one division, and so one rounding.
  return cost / (parseDecimal(per) * SCALE)
}

/**
 * What has changed of a month that was billed before: both uses by the same prices. Billed after each other, a
 * statement and its adjustments come to what the last use costs.
 */
export function adjustmentsOf(
  month: string,
  prices: Prices,
  before: BilledUse,
  now: BilledUse,
): readonly StatementLine[] {
  const old = priceOf(prices, before)
  return priceOf(prices, now).flatMap((line, i): StatementLine[] => {
    const was = old[i] as StatementLine
    const amount_minor = line.amount_minor - was.amount_minor
    if (amount_minor === 0) return []
    const text = `${was.quantity} was billed, ${line.quantity} it is`
    return [{ ...line, kind: 'adjustment', of_month: month, amount_minor, text }]
  })
}

export function totalOf(lines: readonly StatementLine[]): number {
  return toSafeNumber(lines.reduce((sum, line) => sum + BigInt(line.amount_minor), 0n))
}
