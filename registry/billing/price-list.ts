import { z } from 'zod'
import { DECIMAL, parseDecimal } from './decimal.ts'
import { METRICS } from './metrics.ts'

const METRIC = new RegExp(`^(?:${METRICS.join('|')}|counter:[a-z][a-z0-9_]{0,31})$`)

const decimal = z
  .string('must be a decimal as a text, such as "0.25"')
  .regex(DECIMAL, 'must be a decimal with up to 6 places, such as "0.25"')
const positive = decimal.refine(text => parseSafely(text) > 0n, 'must be above 0')

/** Refinements run also where the text is none. */
function parseSafely(text: string): bigint {
  return DECIMAL.test(text) ? parseDecimal(text) : 0n
}

/**
 * What units up to `up_to` cost, counted from the first that is not included; the last step has no end. Each unit is
 * priced by the step that it falls into, and not all by the last one.
 */
const tier = z.strictObject({ up_to: positive.optional(), price: decimal })

const priceLine = z
  .strictObject({
    metric: z.string().regex(METRIC, `must be one of ${METRICS.join(', ')} or counter:NAME`),
    /** Units that the base fee covers. */
    included: decimal.default('0'),
    /** A price is for so many units, in the minor unit of the currency. */
    per: positive.default('1'),
    tiers: z.array(tier).min(1, 'must have a step').max(20, 'must have 20 steps at most'),
  })
  .refine(
    ({ tiers }) =>
      tiers.every(({ up_to }, i) => {
        if (i === tiers.length - 1) return up_to === undefined
        const before = i === 0 ? 0n : parseSafely(tiers[i - 1]?.up_to ?? '')
        return up_to !== undefined && parseSafely(up_to) > before
      }),
    { path: ['tiers'], message: 'up_to must rise, and the last step must have none' },
  )

export const pricesInput = z.strictObject({
  /** Of a whole month, in the minor unit of the currency. */
  base_fee: z.int().min(0).max(1_000_000_000_000).default(0),
  lines: z
    .array(priceLine)
    .max(50, 'must have 50 lines at most')
    .refine(
      lines => new Set(lines.map(({ metric }) => metric)).size === lines.length,
      'must have one line for a metric',
    )
    .default([]),
})
export type Prices = z.output<typeof pricesInput>
export type PriceLine = Prices['lines'][number]

export const priceListInput = z.strictObject({
  plan: z
    .string()
    .regex(/^(?:\*|[a-z0-9][a-z0-9_-]{0,62})$/, 'must be the code of a plan, or * for all others'),
  from_month: z.string().regex(/^20\d\d-(0[1-9]|1[0-2])$/, 'must be a month such as 2026-01'),
  currency: z.string().regex(/^[A-Z]{3}$/, 'must be a code of ISO 4217, such as EUR'),
  prices: pricesInput,
})
export type PriceListInput = z.output<typeof priceListInput>
