import type { Fault } from '../../registry/lib/errors.ts'
import type { Exchange } from '../exchange.ts'
import type { Resume } from '../waiting-exchange.ts'

interface Held {
  readonly exchange: Exchange
  readonly refusal: Fault
  readonly resume: Resume
}

const TICK_MS = 5
/** A power of two, more than the longest hold has ticks. */
const TICKS = 64
const MIN_TICKS = 25
/** Those that came together go one after the other, and do not come together again. */
const SPREAD_TICKS = 31

/** How long an answer is kept, ms: from the first to below the second. */
export const HELD_MS = [MIN_TICKS * TICK_MS, (MIN_TICKS + SPREAD_TICKS) * TICK_MS] as const

/**
 * Keeps the refusals of tenants that flood for a fraction of a second (HAProxy's `tarpit`). Who sends again as soon as it
 * is refused costs a request each time, and the more the cheaper the refusal is; so each of its connections gets a few in
 * a second instead of thousands. The answer waits and not the connection: behind a balancer the next request on it may
 * be another tenant's, and a balancer has other connections meanwhile.
 */
export class Tarpit {
  readonly #heldMax: number
  readonly #ticks: Held[][] = Array.from({ length: TICKS }, () => [])
  #size = 0
  #spread = 0
  /** Up to this tick all are answered. */
  #tick = 0
  #tickAtMs = 0
  #timer: NodeJS.Timeout | null = null
  /** Since the start. */
  readonly counts = { held: 0, full: 0 }

  /** @param heldMax answers kept at one time; those beyond are given at once */
  constructor(heldMax: number) {
    this.#heldMax = heldMax
  }

  /** Answers that wait. */
  get size(): number {
    return this.#size
  }

  /** Calls `resume` with the refusal later, once, whether or not the client is still there. False: it is full. */
  hold(exchange: Exchange, refusal: Fault, resume: Resume): boolean {
    if (this.#size >= this.#heldMax) {
      this.counts.full++
      return false
    }
    if (this.#timer === null) {
      this.#tickAtMs = performance.now()
      this.#timer = setInterval(() => this.#look(), TICK_MS)
    }
    this.#spread = (this.#spread + 1) % SPREAD_TICKS
    const tick = (this.#tick + MIN_TICKS + this.#spread) % TICKS
    ;(this.#ticks[tick] as Held[]).push({ exchange, refusal, resume })
    this.#size++
    this.counts.held++
    return true
  }

  /** Gives all answers now. */
  close(): void {
    for (let left = TICKS; left > 0; left--) this.#next()
    this.#rest()
  }

  #look(): void {
    const nowMs = performance.now()
    // A loop that was late has more than one tick to make up, and never more than all.
    for (let left = TICKS; left > 0 && nowMs - this.#tickAtMs >= TICK_MS; left--) {
      this.#tickAtMs += TICK_MS
      this.#next()
    }
    if (this.#size === 0) this.#rest()
  }

  #next(): void {
    this.#tick = (this.#tick + 1) % TICKS
    const due = this.#ticks[this.#tick] as Held[]
    if (due.length === 0) return
    this.#ticks[this.#tick] = []
    this.#size -= due.length
    for (const { exchange, refusal, resume } of due) resume(exchange, refusal)
  }

  #rest(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }
}
