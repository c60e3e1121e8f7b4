import type { TenantId } from '../registry/tenant.ts'
import { FairShed } from './fair-shed.ts'

/** `loop`: the event loop was late for a while. `in-flight`: too many requests are being served. */
export const SHED_REASONS = ['loop', 'in-flight'] as const
export type ShedReason = (typeof SHED_REASONS)[number]
/**
 * By whose share a request was shed: its tenant's; that of all whose tenant is not proven; nobody's, where what is left
 * is refused to whoever comes.
 */
export const SHED_WHOSE = ['tenant', 'stranger', 'anybody'] as const
export type ShedWhose = (typeof SHED_WHOSE)[number]

export interface OverloadOptions {
  /** Standing delay of the event loop, ms, above which a share of the new requests is shed; 0: never. */
  readonly loopDelayMs: number
  /** Requests in flight above which new ones are shed. */
  readonly inFlightMax: number
  /** Of a tenant against the others, 1 and more. */
  readonly weightOf: (tenant: TenantId) => number
  /** In [0, 1); a parameter for tests. */
  readonly random?: () => number
}

/** How often the loop's lateness is looked at. One timer for the whole process. */
const TICK_MS = 50
/**
 * Looks that make a window. Its *smallest* delay counts, as in CoDel (RFC 8289 section 3.2): a queue
 * that stands delays every look, a collection of garbage or one heavy request delays one of them.
 */
const LOOKS_PER_WINDOW = 5
/** Shed by shares at most; where that is not enough, shed at random of what comes at most. */
const FAIR_MAX = 0.9
/** Both together leave a twentieth: what is measured stays true, and a wrong setting is no outage. */
const BLIND_MAX = 0.5
/** What one window adds to the share for each `loopDelayMs` of delay, and at most. */
const RISE = 0.1
const RISE_MAX = 0.3
/** What one good window takes off. Slower than the rise: relief that comes from shedding is not health. */
const FALL = 0.05
/**
 * Requests in flight that one weight may have for each place that is free (dynamic thresholds, Choudhury and Hahne 1998):
 * one tenant alone fills eight ninths of IN_FLIGHT_MAX, several leave less, and those with few requests always find room.
 */
const ROOM = 8
const LINE_EVERY_MS = 1000

/**
 * Says which new requests are refused at once because this process is beyond what it can do: an
 * answer that comes too late costs as much as one in time and is worth nothing. By the shares of tenants first, and at
 * random, before anything is known of a request, where that does not help.
 */
export class Overload {
  readonly fair: FairShed
  readonly #options: OverloadOptions
  readonly #random: () => number
  readonly #shed: Record<ShedReason, Record<ShedWhose, number>> = {
    loop: { tenant: 0, stranger: 0, anybody: 0 },
    'in-flight': { tenant: 0, stranger: 0, anybody: 0 },
  }
  #timer: NodeJS.Timeout | null = null
  #looks = 0
  #lateLooks = 0
  #smallestMs = Number.POSITIVE_INFINITY
  #delayMs = 0
  #share = 0
  #blind = 0
  #isCounting = false
  #isCrowded = false
  #nextLineAt = 0

  constructor(options: OverloadOptions) {
    this.#options = options
    this.#random = options.random ?? Math.random
    this.fair = new FairShed(options.weightOf)
  }

  /** Share of new requests that is shed because of the loop's delay. */
  get share(): number {
    return 1 - (1 - this.#share) * (1 - this.#blind)
  }

  /** The standing delay of the last window, ms. */
  get delayMs(): number {
    return this.#delayMs
  }

  /** Who sends how much is counted: the loop is late, or was a moment ago. */
  get isCounting(): boolean {
    return this.#isCounting
  }

  /** The last request came where only so few places were free that shares count. */
  get isCrowded(): boolean {
    return this.#isCrowded
  }

  /** Requests shed since the start. */
  shedCount(reason: ShedReason, whose: ShedWhose): number {
    return this.#shed[reason][whose]
  }

  /** Whether a shed request is worth a log line: one a second, for a line costs more than the refusal. */
  isLineDue(nowMs = performance.now()): boolean {
    if (nowMs < this.#nextLineAt) return false
    this.#nextLineAt = nowMs + LINE_EVERY_MS
    return true
  }

  start(): void {
    let dueAt = performance.now() + TICK_MS
    this.#timer = setInterval(() => {
      const now = performance.now()
      this.look(Math.max(0, now - dueAt))
      dueAt = now + TICK_MS
    }, TICK_MS)
    this.#timer.unref()
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  /**
   * Whether a new request is to be shed whoever sent it, and counts it if so. On the hot path: three comparisons.
   *
   * @param inFlight requests being served, without the one in question
   */
  sheds(inFlight: number): ShedReason | null {
    if (this.isFull(inFlight)) return 'in-flight'
    const { inFlightMax } = this.#options
    this.#isCrowded = inFlight >= ROOM * (inFlightMax - inFlight)
    return this.#draw(this.#blind, 'anybody') ? 'loop' : null
  }

  /** The same by the requests in flight alone: for one that has been let in and begins to cost now. */
  isFull(inFlight: number): boolean {
    if (inFlight < this.#options.inFlightMax) return false
    this.#count('in-flight', 'anybody')
    return true
  }

  /** The same for a request whose tenant is not known, before that costs anything. */
  shedsStranger(): boolean {
    return this.#draw(this.fair.strangersPart, 'stranger')
  }

  /** The same for a tenant's, by what it sends. */
  shedsTenant(tenant: TenantId): boolean {
    return this.#draw(this.fair.partOf(tenant), 'tenant')
  }

  /**
   * The same by what it has in flight.
   *
   * @param own requests in flight of whom it counts for, by weight
   */
  hasNoRoom(own: number, inFlight: number, whose: ShedWhose): boolean {
    if (own < ROOM * (this.#options.inFlightMax - inFlight)) return false
    this.#count('in-flight', whose)
    return true
  }

  /** One look at the loop that came `lateMs` after its time. The timer calls it; tests may. */
  look(lateMs: number): void {
    const { loopDelayMs } = this.#options
    if (lateMs < this.#smallestMs) this.#smallestMs = lateMs
    if (loopDelayMs > 0 && lateMs > loopDelayMs) {
      this.#lateLooks++
      this.#isCounting = true
    }
    if (++this.#looks < LOOKS_PER_WINDOW) return
    this.#endWindow()
  }

  #endWindow(): void {
    const delayMs = this.#smallestMs
    const { loopDelayMs } = this.#options
    this.#delayMs = delayMs
    this.#looks = 0
    this.#smallestMs = Number.POSITIVE_INFINITY
    // At random last, and no longer than it must.
    const isBeyondHelp = this.#blind > 0 || (this.#share >= FAIR_MAX && delayMs > loopDelayMs)
    if (isBeyondHelp) this.#blind = nextShare(this.#blind, delayMs, loopDelayMs, BLIND_MAX)
    else this.#share = nextShare(this.#share, delayMs, loopDelayMs, FAIR_MAX)
    // One late look in each window is a collection of garbage: what it counted is thrown away with the next good one.
    this.#isCounting = this.#share > 0 || this.#lateLooks > 0
    this.#lateLooks = 0
    if (this.#isCounting) this.fair.settle(this.#share)
    else this.fair.clear()
  }

  #draw(part: number, whose: ShedWhose): boolean {
    if (part === 0 || this.#random() >= part) return false
    this.#count('loop', whose)
    return true
  }

  #count(reason: ShedReason, whose: ShedWhose): void {
    this.#shed[reason][whose]++
  }
}

/**
 * The share after a window with a standing delay of `delayMs`: it grows with the delay above the
 * limit, shrinks below half of it and stays between, so that it settles instead of flapping.
 */
export function nextShare(share: number, delayMs: number, limitMs: number, max: number): number {
  if (limitMs === 0) return 0
  if (delayMs > limitMs) {
    return Math.min(max, share + Math.min(RISE_MAX, (RISE * delayMs) / limitMs))
  }
  return delayMs < limitMs / 2 ? Math.max(0, share - FALL) : share
}
