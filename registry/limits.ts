import { z } from 'zod'

/**
 * What one tenant may use, of the whole fleet; a number that is Infinity is no limit. Parsed once per tenant, so that
 * the hot path compares numbers.
 */
export interface Limits {
  readonly requestsPerS: number
  /** Requests at once after a pause. */
  readonly burst: number
  readonly inFlightMax: number
  readonly bodyBytesMax: number
  /** WebSockets and event streams. */
  readonly socketsMax: number
  /** Requests in a month (UTC). */
  readonly requestsPerMonth: number
  /** Beyond the month's quota requests are refused, and not only told of. */
  readonly isQuotaHard: boolean
  /** Share under pressure, against other tenants that wait too. */
  readonly weight: number
}

interface Rule {
  readonly min: number
  readonly max: number
  readonly isWhole: boolean
}

/** The numbers among the limits, by their names in JSON; 0017_plans.sql has the same table. */
export const LIMIT_RULES = {
  requests_per_s: { min: 0.01, max: 1_000_000, isWhole: false },
  burst: { min: 1, max: 10_000_000, isWhole: true },
  in_flight: { min: 1, max: 1_000_000, isWhole: true },
  body_bytes: { min: 0, max: 2 ** 40, isWhole: true },
  sockets: { min: 0, max: 1_000_000, isWhole: true },
  /** 15 digits: as many as an integer of a structured field has (RFC 9651 section 3.3.1). */
  requests_per_month: { min: 0, max: 999_999_999_999_999, isWhole: true },
  weight: { min: 1, max: 1000, isWhole: true },
  /** Replicas that serve the tenant, see gateway/fleet/tenant-spread.ts. */
  spread: { min: 1, max: 64, isWhole: true },
} as const satisfies Record<string, Rule>
type LimitName = keyof typeof LIMIT_RULES

export const QUOTA_KINDS = ['soft', 'hard'] as const

/** Limits as they stand in the Registry, or in the environment: of another party, nothing is taken for granted. */
export type LimitLayer = Readonly<Record<string, unknown>>

const number = ({ min, max, isWhole }: Rule) => {
  const what = isWhole ? 'a whole number' : 'a number'
  const message = `must be ${what} from ${min} to ${max}, or null for no limit`
  const bounded = z.number(message).min(min, message).max(max, message)
  return (isWhole ? bounded.refine(Number.isInteger, message) : bounded).nullable().optional()
}

const numbers = {
  requests_per_s: number(LIMIT_RULES.requests_per_s),
  burst: number(LIMIT_RULES.burst),
  in_flight: number(LIMIT_RULES.in_flight),
  body_bytes: number(LIMIT_RULES.body_bytes),
  sockets: number(LIMIT_RULES.sockets),
  requests_per_month: number(LIMIT_RULES.requests_per_month),
}
const quota = z.enum(QUOTA_KINDS, 'must be soft or hard').optional()

/** Limits of a plan, and of the environment. */
export const planLimitsInput = z.strictObject({ ...numbers, quota }, 'must be an object')
/** A tenant's own; `weight` stands beside the limits in a plan, and `spread` is the tenant's alone. */
export const tenantLimitsInput = z.strictObject(
  { ...numbers, quota, weight: number(LIMIT_RULES.weight), spread: number(LIMIT_RULES.spread) },
  'must be an object',
)
export type LimitsInput = z.output<typeof tenantLimitsInput>

/**
 * What holds: of each limit the first layer that says something of it (the tenant's own, its plan's, the
 * deployment's); null there is no limit, whatever stands behind it.
 *
 * @param complain hears of each value that is none: it counts as not said, for a wrong number must neither take a
 *   tenant down nor set it free of its plan
 */
export function effectiveLimits(
  layers: readonly LimitLayer[],
  complain: (name: string) => void = () => {},
): Limits {
  const said = (name: LimitName, upTo = layers.length): Said => {
    for (const [at, layer] of layers.entries()) {
      if (at >= upTo) break
      const value = Object.hasOwn(layer, name) ? layer[name] : undefined
      if (value === undefined) continue
      if (value === null) return { at, value: Number.POSITIVE_INFINITY }
      if (isWithin(value, LIMIT_RULES[name])) return { at, value }
      complain(name)
    }
    return { at: layers.length, value: Number.POSITIVE_INFINITY }
  }
  const rate = said('requests_per_s')
  // A burst belongs to the rate that it was given with: a plan's does not fit the tenant's own rate.
  const burst = said('burst', rate.at + 1)
  const weight = said('weight').value
  return {
    requestsPerS: rate.value,
    burst: Number.isFinite(burst.value) ? burst.value : Math.max(1, Math.ceil(rate.value)),
    inFlightMax: said('in_flight').value,
    bodyBytesMax: said('body_bytes').value,
    socketsMax: said('sockets').value,
    requestsPerMonth: said('requests_per_month').value,
    isQuotaHard: quotaKind(layers, complain) === 'hard',
    weight: Number.isFinite(weight) ? weight : 1,
  }
}

interface Said {
  /** Which layer. */
  readonly at: number
  readonly value: number
}

function quotaKind(layers: readonly LimitLayer[], complain: (name: string) => void): unknown {
  for (const layer of layers) {
    const kind = Object.hasOwn(layer, 'quota') ? layer.quota : undefined
    if ((QUOTA_KINDS as readonly unknown[]).includes(kind)) return kind
    if (kind !== undefined) complain('quota')
  }
  return 'hard'
}

function isWithin(value: unknown, { min, max, isWhole }: Rule): value is number {
  if (typeof value !== 'number' || !(value >= min && value <= max)) return false
  return !isWhole || Number.isInteger(value)
}
