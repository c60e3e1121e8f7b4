import { Fault } from '../../registry/lib/errors.ts'
import type { Tenant } from '../../registry/tenant.ts'
import type { Exchange } from '../exchange.ts'
import { Alarm, type TimerWheel } from '../http1/timer-wheel.ts'
import { type Resume, WaitingExchange } from '../waiting-exchange.ts'
import { FairQueue } from './fair-queue.ts'

export interface GateOptions {
  /** Requests that may be at replicas at one time, as of now. */
  readonly cap: () => number
  /** FAIR_QUEUE_MAX, of all tenants. */
  readonly waitersMax: number
  /** FAIR_QUEUE_WAIT_MS. */
  readonly waitMs: number
  readonly wheel: TimerWheel
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number
}

/** How waiting ended, or did not begin. */
export type WaitEnd = 'served' | 'gone' | 'late' | 'full'

/** One tenant's part of the line. */
const PER_TENANT = 0.25
/** How often the line is looked at while somebody waits in it. */
const LOOK_MS = 100

/**
 * The way to the replicas. As long as fewer requests are there than connections, each passes for the price of a
 * comparison. Beyond that they wait here, before they are signed and sent, and tenants take turns by the weights of their
 * plans; in the replicas' own queues it would be first come, first served.
 */
export class Gate {
  readonly #options: GateOptions
  readonly #now: () => number
  readonly #perTenantMax: number
  readonly #queue = new FairQueue<WaitingExchange>()
  readonly #alarm: Alarm
  #inside = 0
  #isPumping = false
  /** Since the start. */
  readonly ends: Record<WaitEnd, number> = { served: 0, gone: 0, late: 0, full: 0 }

  constructor(options: GateOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
    this.#perTenantMax = Math.max(1, Math.ceil(options.waitersMax * PER_TENANT))
    this.#alarm = new Alarm(() => this.#onAlarm())
  }

  /** Requests that wait. */
  get waiting(): number {
    return this.#queue.size
  }

  /** Requests that have passed and not ended. */
  get inside(): number {
    return this.#inside
  }

  /** True where the exchange may go on now; it then counts until `leave`. */
  enter(exchange: Exchange): boolean {
    if (exchange.isInside) return true
    const { mode, appUrl } = exchange.tenant as Tenant
    // A deployment of its own is in nobody's way.
    if (appUrl !== null && mode === 'dedicated') return true
    if (this.#inside >= this.#options.cap() || this.#queue.size > 0) return false
    this.#inside++
    exchange.isInside = true
    return true
  }

  /**
   * Keeps an exchange that could not enter until `resume` is called: once, with it inside or with a failure, and not at
   * all where its client leaves.
   *
   * @throws Fault UPSTREAM_BUSY where the line is full
   */
  wait(
    exchange: Exchange,
    weight: number,
    resume: Resume,
    onGone: (exchange: Exchange) => void,
  ): void {
    const key = keyOf(exchange)
    this.#makeRoom(key)
    const deadlineMs = this.#now() + this.#options.waitMs
    const waiter = new WaitingExchange(exchange, deadlineMs, resume, () => {
      this.#queue.remove(key, waiter)
      this.ends.gone++
      onGone(exchange)
    })
    this.#queue.push(key, weight, waiter)
    if (this.#queue.size === 1) this.#options.wheel.arm(this.#alarm, LOOK_MS)
  }

  /** The exchange has ended, or does not need its place any more. */
  leave(exchange: Exchange): void {
    if (!exchange.isInside) return
    exchange.isInside = false
    this.#inside--
    if (this.#queue.size > 0) this.#pump()
  }

  /** Ends all waiting, for the process ends. */
  close(): void {
    for (;;) {
      const waiter = this.#queue.pop()
      if (waiter === undefined) break
      this.#end(waiter, 'late', new Fault('SHUTTING_DOWN', 'the gateway ends'))
    }
    this.#options.wheel.disarm(this.#alarm)
  }

  /** Where the line is full the tenant with the longest part of it makes room, so that nobody can fill it for all others. */
  #makeRoom(key: string): void {
    const { waitersMax } = this.#options
    const own = this.#queue.lengthOf(key)
    if (own < this.#perTenantMax && this.#queue.size < waitersMax) return
    const longest = this.#queue.oldestOfLongest()
    const isOwnFault = longest === null || own >= this.#perTenantMax || longest.length <= own + 1
    this.ends.full++
    if (isOwnFault) throw new Fault('UPSTREAM_BUSY', 'too many requests of the tenant wait')
    this.#queue.remove(longest.key, longest.item)
    this.#finish(longest.item, new Fault('UPSTREAM_BUSY', 'made room for a tenant with fewer'))
  }

  #pump(): void {
    // One that ends within its own call would let the next one go from there, as deep as the line is long.
    if (this.#isPumping) return
    this.#isPumping = true
    try {
      while (this.#queue.size > 0 && this.#inside < this.#options.cap()) {
        const waiter = this.#queue.pop() as WaitingExchange
        this.#inside++
        waiter.exchange.isInside = true
        this.#end(waiter, 'served', null)
      }
    } finally {
      this.#isPumping = false
    }
  }

  #onAlarm(): void {
    const nowMs = this.#now()
    for (;;) {
      let isLate = false
      // All wait equally long: where the oldest of a tenant is in time, all of it are.
      for (const waiter of this.#queue.oldest()) {
        if (waiter.deadlineMs > nowMs || !this.#queue.remove(keyOf(waiter.exchange), waiter))
          continue
        isLate = true
        this.#end(waiter, 'late', new Fault('UPSTREAM_BUSY', 'waited for too long'))
      }
      if (!isLate) break
    }
    // Replicas may have come, and nobody left.
    this.#pump()
    if (this.#queue.size > 0) this.#options.wheel.arm(this.#alarm, LOOK_MS)
  }

  #end(waiter: WaitingExchange, how: WaitEnd, error: Fault | null): void {
    this.ends[how]++
    this.#finish(waiter, error)
  }

  #finish(waiter: WaitingExchange, error: Fault | null): void {
    waiter.leave()
    waiter.resume(waiter.exchange, error)
  }
}

/** Only a resolved tenant's requests come so far. */
function keyOf({ tenant }: Exchange): string {
  return (tenant as Tenant).id
}
