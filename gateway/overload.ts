/** `loop`: the event loop was late for a while. `in-flight`: too many requests are being served. */
export type ShedReason = 'loop' | 'in-flight'

export interface OverloadOptions {
  /** Standing delay of the event loop, ms, above which a share of the new requests is shed; 0: never. */
  readonly loopDelayMs: number
  /** Requests in flight above which new ones are shed. */
  readonly inFlightMax: number
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
/** Some requests are always served: what is measured stays true, and a wrong setting is no outage. */
const SHARE_MAX = 0.95
/** What one window adds to the share for each `loopDelayMs` of delay, and at most. */
const RISE = 0.1
const RISE_MAX = 0.3
/** What one good window takes off. Slower than the rise: relief that comes from shedding is not health. */
const FALL = 0.05
const LINE_EVERY_MS = 1000

/**
 * Says which new requests are refused at once because this process is beyond what it can do: an
 * answer that comes too late costs as much as one in time and is worth nothing.
 */
export class Overload {
  readonly #options: OverloadOptions
  readonly #random: () => number
  readonly #shed: Record<ShedReason, number> = { loop: 0, 'in-flight': 0 }
  #timer: NodeJS.Timeout | null = null
  #looks = 0
  #smallestMs = Number.POSITIVE_INFINITY
  #delayMs = 0
  #share = 0
  #nextLineAt = 0

  constructor(options: OverloadOptions) {
    this.#options = options
    this.#random = options.random ?? Math.random
  }

  /** Share of new requests that is shed because of the loop's delay. */
  get share(): number {
    return this.#share
  }

  /** The standing delay of the last window, ms. */
  get delayMs(): number {
    return this.#delayMs
  }

  /** Requests shed since the start. */
  shedCount(reason: ShedReason): number {
    return this.#shed[reason]
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
   * Whether a new request is to be shed, and counts it if so. On the hot path: two comparisons.
   *
   * @param inFlight requests being served, without the one in question
   */
  sheds(inFlight: number): ShedReason | null {
    if (this.isFull(inFlight)) return 'in-flight'
    if (this.#share > 0 && this.#random() < this.#share) return this.#count('loop')
    return null
  }

  /** The same by the requests in flight alone: for one that has been let in and begins to cost now. */
  isFull(inFlight: number): boolean {
    if (inFlight < this.#options.inFlightMax) return false
    this.#count('in-flight')
    return true
  }

  /** One look at the loop that came `lateMs` after its time. The timer calls it; tests may. */
  look(lateMs: number): void {
    if (lateMs < this.#smallestMs) this.#smallestMs = lateMs
    if (++this.#looks < LOOKS_PER_WINDOW) return
    this.#delayMs = this.#smallestMs
    this.#looks = 0
    this.#smallestMs = Number.POSITIVE_INFINITY
    this.#share = nextShare(this.#share, this.#delayMs, this.#options.loopDelayMs)
  }

  #count(reason: ShedReason): ShedReason {
    this.#shed[reason]++
    return reason
  }
}

/**
 * The share after a window with a standing delay of `delayMs`: it grows with the delay above the
 * limit, shrinks below half of it and stays between, so that it settles instead of flapping.
 */
export function nextShare(share: number, delayMs: number, limitMs: number): number {
  if (limitMs === 0) return 0
  if (delayMs > limitMs) {
    return Math.min(SHARE_MAX, share + Math.min(RISE_MAX, (RISE * delayMs) / limitMs))
  }
  return delayMs < limitMs / 2 ? Math.max(0, share - FALL) : share
}
