import type { HoldNotice } from '../../registry/hold-notice.ts'
import { Fault } from '../../registry/lib/errors.ts'
import type { TenantId } from '../../registry/tenant.ts'
import type { Exchange } from '../exchange.ts'
import { Alarm, type TimerWheel } from '../http1/timer-wheel.ts'
import { type Resume, WaitingExchange } from '../waiting-exchange.ts'

export interface HoldsOptions {
  readonly wheel: TimerWheel
  /** HOLD_WAIT_MAX_MS: how long a request waits, though the hold may last longer. */
  readonly waitMaxMs: number
  /** HELD_REQUESTS_MAX, of all tenants. */
  readonly waitersMax: number
  /** HELD_REQUESTS_PER_TENANT_MAX. */
  readonly waitersPerTenantMax: number
  /** Requests and sockets of the tenant that are under way in this process. */
  readonly inFlight: (tenant: TenantId) => number
  /** A hold has begun: what stays open by nature (sockets, event streams) has to be cut. */
  readonly onHold: (tenant: TenantId) => void
  /** Nothing of the held tenant is under way any more, or `inFlight` still is. Told at the start and at the end. */
  readonly onProgress: (holdId: string, inFlight: number, restMs: number) => void
  /** The hold is over, and before any request goes on: what is known of the tenant may be old. */
  readonly onOver: (tenant: TenantId) => void
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number
}

type State = 'held' | 'releasing' | 'over'

/** See `look`. */
export interface HoldLook {
  readonly state: State
  readonly waiting: number
  /** Milliseconds until it ends by itself. */
  readonly restMs: number
}

interface Held {
  readonly tenant: TenantId
  holdId: string
  seq: number
  state: State
  /** When the hold ends by itself; until then a notice of before its end may still come. */
  untilMs: number
  isDrained: boolean
  isPumping: boolean
  /** Oldest first, so that the first is the first to be late. */
  readonly waiters: Set<WaitingExchange>
  /** Those that went on and have not ended. */
  readonly passing: Set<Exchange>
  readonly alarm: Alarm
}

/**
 * Held requests of a tenant that go on at one time once it is released: its replicas get what they can carry,
 * and its share of them (TENANT_BUSY) leaves room for what comes anew.
 */
const RELEASED_AT_ONCE = 32
/** How long a hold that is over is remembered beyond its time, against a notice that comes late. */
const LATE_MS = 5_000
/** Tenants held or released lately; more than operators can work at in two minutes. */
const TENANTS_MAX = 1000

/**
 * The tenants whose requests wait. A hold begins and ends by the Registry's word, and ends in any case by this
 * process's own clock: an operator who is gone, or a Registry that is down, stops no tenant for longer.
 *
 * Who waits has sent a head and no body (nothing reads it meanwhile) and costs one small object. No timer for each: a
 * hold has one alarm, and its requests wait in line.
 */
export class Holds {
  readonly #options: HoldsOptions
  readonly #now: () => number
  readonly #held = new Map<TenantId, Held>()
  /** Whose line one that went on stood in: it may end at another tenant (a decoy). */
  readonly #lineOf = new WeakMap<Exchange, Held>()
  #waiting = 0

  constructor(options: HoldsOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
  }

  /** 0: nobody is held, and nothing else needs to be asked. */
  get size(): number {
    return this.#held.size
  }

  get tenants(): number {
    let count = 0
    for (const { state } of this.#held.values()) if (state === 'held') count++
    return count
  }

  /** Requests that wait. */
  get waiting(): number {
    return this.#waiting
  }

  /** True where a request of the tenant has to `wait` now. */
  isHeld(tenant: TenantId): boolean {
    return this.#held.get(tenant)?.state === 'held'
  }

  /** For an operator; null: the tenant is not held, and was not of late. */
  look(tenant: TenantId): HoldLook | null {
    const held = this.#held.get(tenant)
    if (held === undefined) return null
    const restMs = held.state === 'held' ? Math.max(0, held.untilMs - this.#now()) : 0
    return { state: held.state, waiting: held.waiters.size, restMs }
  }

  /** What the Registry tells: late, repeated and out of order alike. */
  learn({ tenantId, holdId, seq, restMs }: HoldNotice): void {
    const known = this.#held.get(tenantId)
    if (known !== undefined && seq <= known.seq) return
    const nowMs = this.#now()
    if (restMs <= 0) {
      if (known === undefined) return
      known.seq = seq
      return this.#end(known, nowMs)
    }
    if (known === undefined && this.#held.size >= TENANTS_MAX) return
    const held = known ?? this.#make(tenantId)
    const isOther = held.holdId !== holdId || held.state !== 'held'
    held.holdId = holdId
    held.seq = seq
    held.untilMs = nowMs + restMs
    if (isOther) {
      held.state = 'held'
      held.isDrained = false
      this.#options.onHold(tenantId)
      this.#tellProgress(held, true)
    }
    this.#arm(held, nowMs)
  }

  /**
   * Keeps a request of a held tenant until `resume` is called: once, and not at all where its client leaves.
   *
   * @param onGone the client left
   * @throws Fault TENANT_HELD where too many wait already
   */
  wait(exchange: Exchange, tenant: TenantId, resume: Resume, onGone: (e: Exchange) => void): void {
    const { waitersMax, waitersPerTenantMax, waitMaxMs } = this.#options
    const held = this.#held.get(tenant) as Held
    const nowMs = this.#now()
    // Of an earlier hold: it had gone on, and came too late.
    held.passing.delete(exchange)
    if (held.waiters.size >= waitersPerTenantMax || this.#waiting >= waitersMax) {
      throw tooLong(held.untilMs - nowMs, 'too many requests are held')
    }
    const waiter = new WaitingExchange(exchange, nowMs + waitMaxMs, resume, () => {
      this.#forget(held, waiter)
      onGone(exchange)
    })
    held.waiters.add(waiter)
    this.#waiting++
    if (held.waiters.size === 1) this.#arm(held, nowMs)
  }

  /** An exchange of this tenant has ended. Only to be called while `size` is not 0. */
  ended(exchange: Exchange, tenant: TenantId): void {
    const held = this.#lineOf.get(exchange) ?? this.#held.get(tenant)
    if (held === undefined) return
    held.passing.delete(exchange)
    if (held.state === 'held') this.#tellProgress(held, false)
    else this.#pump(held)
  }

  /** Lets all go on, for the process ends. */
  close(): void {
    for (const held of [...this.#held.values()]) {
      this.#end(held, this.#now())
      for (const waiter of [...held.waiters]) this.#letGo(held, waiter, null)
      this.#options.wheel.disarm(held.alarm)
    }
    this.#held.clear()
  }

  #make(tenant: TenantId): Held {
    const held: Held = {
      ...{ tenant, holdId: '', seq: 0, state: 'over', untilMs: 0 },
      ...{ isDrained: false, isPumping: false },
      waiters: new Set(),
      passing: new Set(),
      alarm: new Alarm(() => this.#onAlarm(held)),
    }
    this.#held.set(tenant, held)
    return held
  }

  #tellProgress(held: Held, isNew: boolean): void {
    if (held.isDrained) return
    const inFlight = this.#options.inFlight(held.tenant) + held.passing.size
    held.isDrained = inFlight === 0
    if (!isNew && !held.isDrained) return
    this.#options.onProgress(held.holdId, inFlight, held.untilMs - this.#now())
  }

  #end(held: Held, nowMs: number): void {
    if (held.state !== 'held') return
    held.state = 'releasing'
    this.#options.onOver(held.tenant)
    this.#pump(held)
    this.#arm(held, nowMs)
  }

  /** Lets waiters go, as many as may pass at once; those behind go as these end. */
  #pump(held: Held): void {
    // One that ends within its own call would let the next one go from there, as deep as the line is long.
    if (held.isPumping) return
    held.isPumping = true
    try {
      this.#letGoInLine(held)
    } finally {
      held.isPumping = false
    }
    if (held.state === 'releasing' && held.waiters.size === 0) held.state = 'over'
  }

  #letGoInLine(held: Held): void {
    for (const waiter of held.waiters) {
      if (held.state === 'held' || held.passing.size >= RELEASED_AT_ONCE) return
      held.passing.add(waiter.exchange)
      this.#lineOf.set(waiter.exchange, held)
      this.#letGo(held, waiter, null)
    }
  }

  #letGo(held: Held, waiter: WaitingExchange, error: Fault | null): void {
    this.#forget(held, waiter)
    waiter.leave()
    waiter.resume(waiter.exchange, error)
  }

  #forget(held: Held, waiter: WaitingExchange): void {
    if (held.waiters.delete(waiter)) this.#waiting--
  }

  #arm(held: Held, nowMs: number): void {
    const [first] = held.waiters
    const endMs = held.state === 'held' ? held.untilMs : held.untilMs + LATE_MS
    const dueMs = first === undefined ? endMs : Math.min(endMs, first.deadlineMs)
    this.#options.wheel.disarm(held.alarm)
    this.#options.wheel.arm(held.alarm, Math.max(0, dueMs - nowMs))
  }

  #onAlarm(held: Held): void {
    const nowMs = this.#now()
    if (held.state === 'held' && nowMs >= held.untilMs) this.#end(held, nowMs)
    for (const waiter of held.waiters) {
      if (waiter.deadlineMs > nowMs) break
      this.#letGo(held, waiter, tooLong(held.untilMs - nowMs, 'held for too long'))
    }
    const isForgotten = held.state !== 'held' && nowMs >= held.untilMs + LATE_MS
    if (isForgotten && held.waiters.size === 0 && held.passing.size === 0) {
      this.#held.delete(held.tenant)
    } else if (isForgotten) {
      // What goes on has its own time-outs; the rest of the line goes as it ends.
      this.#options.wheel.arm(held.alarm, LATE_MS)
    } else this.#arm(held, nowMs)
  }
}

function tooLong(restMs: number, reason: string): Fault {
  const retryAfterS = Math.max(1, Math.ceil(restMs / 1000))
  return new Fault('TENANT_HELD', reason, { retryAfterS })
}
