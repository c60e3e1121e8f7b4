import type { ShareKind } from '../../registry/admission-shares.ts'
import { Fault } from '../../registry/lib/errors.ts'
import type { Limits } from '../../registry/limits.ts'
import type { Tenant, TenantId } from '../../registry/tenant.ts'
import { Asked } from './asked.ts'
import { type Bucket, makeBucket, secondsToToken, settle, takeToken } from './bucket.ts'
import { type Part, wholePart } from './share.ts'

/** From a refusal until the part by demand is there, see shares.ts. */
const PART_GROWS_S = 2
/** Refusals of one tenant in a second, and in one go, that are answered at once. */
const PROMPT_PER_S = 100

/** What one tenant uses of this process, and what of its limits is this process's part. */
export class Slot {
  readonly id: TenantId
  /** The row that `limits` were made from; another one by identity means that they are old. */
  tenant: Tenant
  /** Of the plans and shares that they were made from. */
  epoch = -1
  limits: Limits
  /** Tokens per millisecond; 0: no limit. */
  perMs = 0
  capacity = 0
  readonly bucket: Bucket
  inFlight = 0
  inFlightMax = Number.POSITIVE_INFINITY
  /** WebSockets and event streams. */
  sockets = 0
  socketsMax = Number.POSITIVE_INFINITY
  /** Whether an answer tells of limits. */
  isTold = false
  /** `RateLimit-Policy` of the rate; empty where there is none. */
  policy = ''
  lastSeenMs: number
  /** A refusal is logged no sooner. */
  nextLineAtMs = 0
  /** What its clients ask for, since it was looked at last. */
  readonly asked = new Asked()
  /** Requests of this month, as far as they are known. */
  used = 0
  /** The refusal of this second by the month's quota. */
  quotaFault: Fault | null = null
  /** Refusals that are still answered at once; null: none was asked for yet. */
  #prompt: Bucket | null = null
  #rateFault: Fault | null = null
  #inFlightFault: Fault | null = null
  #socketsFault: Fault | null = null

  constructor(tenant: Tenant, limits: Limits, nowMs: number) {
    this.id = tenant.id
    this.tenant = tenant
    this.limits = limits
    this.bucket = makeBucket(Number.POSITIVE_INFINITY, nowMs)
    this.lastSeenMs = nowMs
  }

  /** @param partOf this process's part of what the fleet may do */
  apply(
    tenant: Tenant,
    limits: Limits,
    partOf: (tenant: TenantId, kind: ShareKind) => Part,
    epoch: number,
    nowMs: number,
  ): void {
    // What has come in until now came at the rate of before.
    if (this.perMs > 0) settle(this.bucket, this.capacity, this.perMs, nowMs)
    else this.bucket[1] = nowMs
    this.tenant = tenant
    this.limits = limits
    this.epoch = epoch
    const { requestsPerS, burst, requestsPerMonth } = limits
    const hasRate = Number.isFinite(requestsPerS)
    const { share } = partOf(this.id, 'rate')
    this.perMs = hasRate ? (requestsPerS * share) / 1000 : 0
    // Less than one would never let anything pass.
    this.capacity = hasRate ? Math.max(1, burst * share) : Number.POSITIVE_INFINITY
    if (!hasRate || (this.bucket[0] as number) > this.capacity) this.bucket[0] = this.capacity
    this.inFlightMax = wholePart(limits.inFlightMax, partOf(this.id, 'in_flight'))
    this.socketsMax = wholePart(limits.socketsMax, partOf(this.id, 'sockets'))
    this.isTold = hasRate || Number.isFinite(requestsPerMonth)
    this.policy = hasRate
      ? `"rate";q=${Math.floor(burst)};w=${Math.max(1, Math.ceil(burst / requestsPerS))}`
      : ''
    if (!Number.isFinite(requestsPerMonth)) this.used = 0
    this.quotaFault = null
    this.#rateFault = null
    this.#inFlightFault = null
    this.#socketsFault = null
  }

  get hasQuota(): boolean {
    return this.limits.requestsPerMonth !== Number.POSITIVE_INFINITY
  }

  /** Nothing is lost by forgetting it: nothing is under way, and its bucket is full again. */
  isIdle(nowMs: number): boolean {
    if (this.inFlight > 0 || this.sockets > 0) return false
    return (
      this.perMs === 0 || settle(this.bucket, this.capacity, this.perMs, nowMs) >= this.capacity
    )
  }

  /** Counts a refusal. True: there were so many lately that its answer may wait. */
  isFlooding(nowMs: number): boolean {
    this.#prompt ??= makeBucket(PROMPT_PER_S, nowMs)
    return !takeToken(this.#prompt, PROMPT_PER_S, PROMPT_PER_S / 1000, nowMs)
  }

  faultOf(kind: ShareKind): Fault {
    if (kind === 'rate') return this.#makeRateFault()
    return kind === 'sockets' ? this.#makeSocketsFault() : this.#makeInFlightFault()
  }

  /** Made once per second of waiting: under a flood nearly all refusals say the same. */
  #makeRateFault(): Fault {
    const { requestsPerS } = this.limits
    // A small part of the limit grows within seconds where it is asked for: no client is sent away for longer than that.
    const fleetS = Math.ceil(1 / requestsPerS) + PART_GROWS_S
    const retryAfterS = Math.min(secondsToToken(this.bucket, this.perMs), fleetS)
    const known = this.#rateFault
    if (known !== null && known.retryAfterS === retryAfterS) return known
    const fields = ['ratelimit-policy', this.policy, 'ratelimit', `"rate";r=0;t=${retryAfterS}`]
    const reason = `limit requests_per_s: ${requestsPerS}`
    this.#rateFault = new Fault('TENANT_RATE_LIMITED', reason, { retryAfterS, fields })
    return this.#rateFault
  }

  #makeInFlightFault(): Fault {
    const { inFlightMax } = this.limits
    this.#inFlightFault ??= new Fault(
      'TENANT_IN_FLIGHT_LIMITED',
      `limit in_flight: ${inFlightMax}`,
      { fields: concurrencyFields('in-flight', inFlightMax) },
    )
    return this.#inFlightFault
  }

  #makeSocketsFault(): Fault {
    const { socketsMax } = this.limits
    this.#socketsFault ??= new Fault('TENANT_SOCKETS_LIMITED', `limit sockets: ${socketsMax}`, {
      fields: concurrencyFields('sockets', socketsMax),
    })
    return this.#socketsFault
  }
}

/** The draft's quota unit for what goes on at one time; it has no window and no time of reset. */
function concurrencyFields(name: string, max: number): string[] {
  const policy = `"${name}";q=${max};qu="concurrent-requests"`
  return ['ratelimit-policy', policy, 'ratelimit', `"${name}";r=0`]
}
