export interface MeterClock {
  /** Milliseconds since the epoch: says the day. */
  now(): number
  /** Milliseconds that never go back: says how long. */
  monotonic(): number
}

/** What is less is no step: NTP slews, a clock drifts, a process is paused. */
const STEP_MS = 1000
/** How long a step forward has to last until it is believed. */
const HOLD_MS = 60_000

/**
 * The moment that says of which UTC day a count is. It goes on by the monotonic clock from where both clocks were last believed, and
 * of two times the earlier one is believed at once, the later one once it has lasted for a minute:
 *
 * - A wall clock that jumps forward and back within a minute dates nothing. One that stays ahead for longer dates counts to the
 *   day that it says from the end of that minute until it is back, and never after.
 * - One that is set back is followed at once: a day that was too late is left. One that jumps back by mistake dates counts to that
 *   earlier day for as long, and for one minute more.
 * - After a machine was suspended, for which the monotonic clock stands still, counts of one minute may be of the day before.
 *
 * In each case the counts are the same, and are counted once: their day alone may be another, for the time that is stated.
 * Days are UTC: there is no daylight saving time, and a leap second is a step below `STEP_MS`, or is slewed.
 */
export class DayClock {
  readonly #clock: MeterClock
  /** Wall clock less monotonic clock, as believed. */
  #offsetMs: number
  /** The offset of a step forward that is not believed yet, and since when (monotonic) it lasts. */
  #steppedMs = 0
  #steppedAtMs: number | null = null
  /** The wall clock when both were last compared and believed. */
  #comparedMs = Number.NaN

  constructor(clock: MeterClock) {
    this.#clock = clock
    this.#offsetMs = clock.now() - clock.monotonic()
  }

  now(): number {
    const wallMs = this.#clock.now()
    // Nothing of this is a step, and it is asked for twice by each request.
    if (wallMs >= this.#comparedMs && wallMs - this.#comparedMs < STEP_MS) return wallMs
    const monotonicMs = this.#clock.monotonic()
    const offsetMs = wallMs - monotonicMs
    if (offsetMs - this.#offsetMs > STEP_MS && !this.#hasLasted(offsetMs, monotonicMs)) {
      this.#comparedMs = Number.NaN
      return monotonicMs + this.#offsetMs
    }
    this.#offsetMs = offsetMs
    this.#steppedAtMs = null
    this.#comparedMs = wallMs
    return wallMs
  }

  #hasLasted(offsetMs: number, monotonicMs: number): boolean {
    if (this.#steppedAtMs === null || Math.abs(offsetMs - this.#steppedMs) > STEP_MS) {
      this.#steppedAtMs = monotonicMs
    }
    this.#steppedMs = offsetMs
    return monotonicMs - this.#steppedAtMs >= HOLD_MS
  }
}
