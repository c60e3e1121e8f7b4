import { SHARE_KINDS, type ShareKind } from '../../registry/admission-shares.ts'
import { type ErrorCode, Fault } from '../../registry/lib/errors.ts'
import { effectiveLimits, type LimitLayer, type Limits } from '../../registry/limits.ts'
import type { Plan } from '../../registry/plans.ts'
import type { Tenant, TenantId } from '../../registry/tenant.ts'
import type { Exchange } from '../exchange.ts'
import { maxOf } from './asked.ts'
import { settle, takeToken } from './bucket.ts'
import { bodyTooLarge, LimitedBody } from './limited-body.ts'
import type { Quotas } from './quota.ts'
import type { Part } from './share.ts'
import type { Demand } from './shares.ts'
import { Slot } from './slot.ts'

export interface AdmissionOptions {
  /** false: nobody is limited, and nothing is counted. */
  readonly isOn: boolean
  readonly planOf: (code: string) => Plan | undefined
  /** What holds where neither the tenant nor its plan says something. */
  readonly standard: LimitLayer
  /** This process's part of the fleet's limits. */
  readonly partOf: (tenant: TenantId, kind: ShareKind) => Part
  /** A tenant was refused here, and may have something left at another process. */
  readonly onShort: (tenant: TenantId, kind: ShareKind) => void
  readonly quotas: Quotas
  /** A limit of a tenant that is none, or a plan that is not there. */
  readonly onMalformed: (tenant: Tenant, what: string) => void
  /** Tenants remembered at least; beyond them those without anything under way are forgotten. */
  readonly slotsMax: number
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number
}

export type RefusedBy = ShareKind | 'body' | 'quota'

const SWEEP_MS = 10_000
/** A tenant that has sent nothing for so long, and uses nothing, starts anew when it comes again. */
const IDLE_MS = 60_000
/** Refusals of one tenant are logged once in this time, and counted always. */
const LINE_EVERY_MS = 1000
/** Slots looked at for one that can go, where there are too many. */
const LOOKS_MAX = 64

const LIMIT_CODES: ReadonlySet<string> = new Set([
  'TENANT_RATE_LIMITED',
  'TENANT_IN_FLIGHT_LIMITED',
  'TENANT_SOCKETS_LIMITED',
  'QUOTA_EXCEEDED',
] satisfies ErrorCode[])

/**
 * The limits of each tenant, held against what it sends: before its request costs a context, a replica or a wait. State
 * is kept of tenants of the Registry alone, one small object each, and none per request.
 */
export class Admission {
  readonly #options: AdmissionOptions
  readonly #now: () => number
  readonly #slots = new Map<TenantId, Slot>()
  #epoch = 0
  #timer: NodeJS.Timeout | null = null
  /** Since the start. */
  readonly refused: Record<RefusedBy, number> = {
    rate: 0,
    in_flight: 0,
    sockets: 0,
    body: 0,
    quota: 0,
  }

  constructor(options: AdmissionOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
  }

  get size(): number {
    return this.#slots.size
  }

  start(): void {
    this.#timer ??= setInterval(() => this.sweep(), SWEEP_MS).unref()
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  /** Of its plan, or its own. */
  weightOf(tenant: TenantId): number {
    return this.#slots.get(tenant)?.limits.weight ?? 1
  }

  /** Requests of the tenant in flight, by its weight; 0 also where nobody is counted. */
  inFlightByWeight(tenant: TenantId): number {
    const slot = this.#slots.get(tenant)
    return slot === undefined ? 0 : slot.inFlight / slot.limits.weight
  }

  /** Plans or shares are others than before: each tenant's limits are worked out anew at its next request. */
  renew(): void {
    this.#epoch++
  }

  /** The same for one tenant. */
  renewOne(tenant: TenantId): void {
    const slot = this.#slots.get(tenant)
    if (slot !== undefined) slot.epoch = -1
  }

  /** How tenants stand to their limits here; those alone that `isNear` picks. */
  *demands(isNear: (demand: Demand) => boolean): Generator<Demand, void, undefined> {
    const nowMs = this.#now()
    for (const { id: tenant, limits, asked, sockets, inFlight } of this.#slots.values()) {
      if (!hasSharedLimit(limits)) continue
      const wasRefused = { ...asked.refused }
      asked.look(sockets, nowMs)
      for (const kind of SHARE_KINDS) {
        const max = maxOf(kind, limits)
        if (!Number.isFinite(max) || max === 0) continue
        const counted = asked.demand(kind, limits)
        // Who was refused needs more than it has, however little that is.
        const least = wasRefused[kind] > 0 ? this.#options.partOf(tenant, kind).share : 0
        const held = kind === 'rate' ? 0 : (kind === 'sockets' ? sockets : inFlight) / max
        const demand = { tenant, kind, demand: Math.max(counted, least), held }
        if (isNear(demand)) yield demand
      }
    }
  }

  /** Those with a monthly quota. */
  withQuota(): readonly Slot[] {
    return [...this.#slots.values()].filter(slot => slot.hasQuota)
  }

  /**
   * Lets a request of a resolved tenant in, and counts it until `leave`.
   *
   * A login is not held against the tenant's limits: anybody can send one, so that strangers could use them up; and
   * only a tenant that exists has limits, so that a refusal would tell that it does. Logins have limits of their own.
   *
   * @throws Fault BODY_TOO_LARGE, TENANT_SOCKETS_LIMITED, TENANT_IN_FLIGHT_LIMITED, QUOTA_EXCEEDED, TENANT_RATE_LIMITED
   */
  enter(exchange: Exchange): void {
    if (!this.#options.isOn || exchange.slot !== null) return
    if (exchange.route?.credential === 'login') return
    const slot = this.#slotOf(exchange.tenant as Tenant, exchange.startedAt)
    if (exchange.body !== null) this.#checkBody(exchange, slot)
    const isSocket = exchange.upgrade !== null
    if (isSocket) {
      if (slot.sockets >= slot.socketsMax) throw this.#refuseShort(slot, 'sockets')
    } else if (slot.inFlight >= slot.inFlightMax) throw this.#refuseShort(slot, 'in_flight')
    if (slot.used >= slot.limits.requestsPerMonth) {
      const refusal = this.#options.quotas.refusal(slot)
      if (refusal !== null) throw this.#refuse('quota', refusal)
    }
    const { perMs, asked } = slot
    asked.requests++
    if (perMs > 0 && !takeToken(slot.bucket, slot.capacity, perMs, exchange.startedAt)) {
      throw this.#refuseShort(slot, 'rate')
    }
    exchange.slot = slot
    exchange.isSocket = isSocket
    if (isSocket) slot.sockets++
    else if (++slot.inFlight > asked.inFlightPeak) asked.inFlightPeak = slot.inFlight
  }

  /** The app has answered: what it did not fail at counts for the month, as the meter counts it. */
  answered({ slot, status }: Exchange): void {
    if (slot?.hasQuota && status < 500) slot.used++
  }

  /** Ends what `enter` began. */
  leave(exchange: Exchange): void {
    const { slot } = exchange
    if (slot === null) return
    exchange.slot = null
    if (exchange.isSocket) slot.sockets--
    else slot.inFlight--
  }

  /** An admitted request turns out to be an event stream: a socket from here on. null: it may be. */
  openStream(exchange: Exchange): Fault | null {
    const { slot } = exchange
    if (slot === null || exchange.isSocket) return null
    if (slot.sockets >= slot.socketsMax) return this.#refuseShort(slot, 'sockets')
    exchange.isSocket = true
    slot.inFlight--
    slot.sockets++
    return null
  }

  /**
   * Tells of the limits on the answer to an admitted request, by draft-ietf-httpapi-ratelimit-headers-11 (sections
   * "RateLimit-Policy Field" and "RateLimit Field"). The policy is the fleet's; what is left is what this process has
   * left of it, and never more than there is.
   */
  addFields(headers: string[], { slot, startedAt }: Exchange): void {
    if (slot === null || !slot.isTold) return
    let { policy } = slot
    let state = ''
    if (slot.perMs > 0) {
      const tokens = settle(slot.bucket, slot.capacity, slot.perMs, startedAt)
      const fullS = Math.ceil((slot.capacity - tokens) / slot.perMs / 1000)
      state = `"rate";r=${Math.floor(tokens)};t=${fullS}`
    }
    if (slot.hasQuota) {
      const { quotas } = this.#options
      const comma = state === '' ? '' : ', '
      policy += comma + quotas.policy(slot)
      state += comma + quotas.state(slot)
    }
    headers.push('ratelimit-policy', policy, 'ratelimit', state)
  }

  /**
   * Counts a refusal by a limit. The fault, where the tenant is refused so often that the answer may wait; null: it is to
   * be given now, or is none of ours.
   */
  floodOf(exchange: Exchange, error: unknown): Fault | null {
    if (!(error instanceof Fault) || !LIMIT_CODES.has(error.code)) return null
    const slot = exchange.tenant === null ? undefined : this.#slots.get(exchange.tenant.id)
    return slot?.isFlooding(this.#now()) ? error : null
  }

  /** True where a refusal of the exchange's tenant was logged just now: under a flood a line costs more than the refusal. */
  isTooManyLines({ errorCode, tenant }: Exchange): boolean {
    if (errorCode === null || tenant === null || !LIMIT_CODES.has(errorCode)) return false
    const slot = this.#slots.get(tenant.id)
    if (slot === undefined) return false
    const nowMs = this.#now()
    if (nowMs < slot.nextLineAtMs) return true
    slot.nextLineAtMs = nowMs + LINE_EVERY_MS
    return false
  }

  /** Forgets tenants that use nothing. The timer calls it; tests may. */
  sweep(): void {
    const nowMs = this.#now()
    for (const slot of this.#slots.values()) {
      if (nowMs - slot.lastSeenMs > IDLE_MS && slot.isIdle(nowMs)) this.#slots.delete(slot.id)
    }
  }

  #slotOf(tenant: Tenant, nowMs: number): Slot {
    const slot = this.#slots.get(tenant.id) ?? this.#make(tenant, nowMs)
    if (slot.tenant !== tenant || slot.epoch !== this.#epoch) this.#apply(slot, tenant, nowMs)
    if (nowMs > slot.lastSeenMs) slot.lastSeenMs = nowMs
    return slot
  }

  #make(tenant: Tenant, nowMs: number): Slot {
    if (this.#slots.size >= this.#options.slotsMax) this.#forgetOne()
    const slot = new Slot(tenant, this.#limitsOf(tenant), nowMs)
    this.#slots.set(tenant.id, slot)
    return slot
  }

  /** Where none can go the map grows: by no more than there are requests and sockets under way. */
  #forgetOne(): void {
    let looks = 0
    for (const slot of this.#slots.values()) {
      if (slot.inFlight === 0 && slot.sockets === 0) return void this.#slots.delete(slot.id)
      if (++looks === LOOKS_MAX) return
    }
  }

  #apply(slot: Slot, tenant: Tenant, nowMs: number): void {
    // A row read anew without a change says the same.
    const limits = this.#limitsOf(tenant)
    const isAsked = slot.hasQuota && slot.epoch >= 0
    slot.apply(tenant, limits, this.#options.partOf, this.#epoch, nowMs)
    if (slot.hasQuota && !isAsked) this.#options.quotas.ask()
  }

  #limitsOf(tenant: Tenant): Limits {
    const { planOf, standard, onMalformed } = this.#options
    const plan = tenant.plan === null ? undefined : planOf(tenant.plan)
    if (tenant.plan !== null && plan === undefined) onMalformed(tenant, `plan ${tenant.plan}`)
    const layers: LimitLayer[] = [tenant.limits]
    if (plan !== undefined) layers.push({ ...plan.limits, weight: plan.weight })
    layers.push(standard)
    return effectiveLimits(layers, name => onMalformed(tenant, `limits.${name}`))
  }

  #checkBody(exchange: Exchange, { limits: { bodyBytesMax } }: Slot): void {
    if (bodyBytesMax === Number.POSITIVE_INFINITY) return
    const { body, bufferedBody } = exchange
    const length = bufferedBody?.length ?? body?.length ?? null
    if (length !== null) {
      if (length > bodyBytesMax) throw this.#refuse('body', bodyTooLarge(bodyBytesMax))
    } else if (body !== null) {
      exchange.body = new LimitedBody(body, bodyBytesMax, () => this.refused.body++)
    }
  }

  /** By a limit of which other processes have a part. */
  #refuseShort(slot: Slot, kind: ShareKind): Fault {
    slot.asked.refused[kind]++
    // Of a limit of 0 no process has a part.
    if (maxOf(kind, slot.limits) > 0) this.#options.onShort(slot.id, kind)
    return this.#refuse(kind, slot.faultOf(kind))
  }

  #refuse(by: RefusedBy, fault: Fault): Fault {
    this.refused[by]++
    return fault
  }
}

function hasSharedLimit({ requestsPerS, inFlightMax, socketsMax }: Limits): boolean {
  return Math.min(requestsPerS, inFlightMax, socketsMax) !== Number.POSITIVE_INFINITY
}
