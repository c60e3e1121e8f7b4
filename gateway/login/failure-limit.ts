import { Fault } from '../../registry/lib/errors.ts'
import { FailureSketch, type LimitKey } from './failure-sketch.ts'

/** Attempts that wait for others of their key, of all keys together. */
const WAITERS_MAX = 1024
/** Longer than a burst of right logins takes, shorter than clients wait. */
const WAIT_MS_MAX = 20_000
const BUSY_RETRY_S = 1

interface Waiter {
  readonly resolve: () => void
  readonly reject: (error: Fault) => void
  readonly timer: NodeJS.Timeout
}

/** What is under way for one key. */
interface Flight {
  running: number
  readonly waiters: Waiter[]
}

/**
 * Lets `max` failures of a key pass, and then one more each time that one is forgiven. Attempts under
 * way count as failures until they have ended: a thousand guesses at once are no better than one after
 * the other. Those beyond wait for the outcome of those before them instead of being refused, so that
 * any number of right ones at once all pass.
 */
export class FailureLimit {
  readonly #name: string
  readonly #max: number
  readonly #windowMs: number
  readonly #now: () => number
  readonly #failures: FailureSketch
  /** Bounded by the requests in flight: a key without any is forgotten. */
  readonly #flights = new Map<string, Flight>()
  #waiting = 0

  /** @param now milliseconds of a clock that never goes back */
  constructor(name: string, max: number, windowMs: number, now: () => number) {
    this.#name = name
    this.#max = max
    this.#windowMs = windowMs
    this.#now = now
    this.#failures = new FailureSketch(max, windowMs)
  }

  /** Keys with attempts under way. */
  get size(): number {
    return this.#flights.size
  }

  /**
   * Resolves when one attempt of `key` may be made; `leave` must follow.
   *
   * @throws Fault LOGIN_LIMITED
   */
  async enter(key: LimitKey): Promise<void> {
    if (this.#count(key) >= this.#max) throw this.#refusal(key)
    const flight = this.#flights.get(key.id) ?? { running: 0, waiters: [] }
    if (flight.waiters.length === 0 && this.#hasRoom(key, flight)) {
      flight.running += 1
      this.#flights.set(key.id, flight)
      return
    }
    if (this.#waiting >= WAITERS_MAX) throw this.#limited(BUSY_RETRY_S)
    await this.#wait(flight)
  }

  /** Ends an attempt that `enter` let pass. */
  leave(key: LimitKey, isFailure: boolean): void {
    const flight = this.#flights.get(key.id)
    if (flight === undefined) return
    flight.running -= 1
    if (isFailure) this.#failures.add(key, this.#now())
    const isUsedUp = this.#count(key) >= this.#max
    while (flight.waiters.length > 0 && (isUsedUp || this.#hasRoom(key, flight))) {
      const waiter = flight.waiters.shift() as Waiter
      clearTimeout(waiter.timer)
      this.#waiting -= 1
      if (isUsedUp) waiter.reject(this.#refusal(key))
      else {
        flight.running += 1
        waiter.resolve()
      }
    }
    if (flight.running === 0 && flight.waiters.length === 0) this.#flights.delete(key.id)
  }

  #wait(flight: Flight): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        flight.waiters.splice(flight.waiters.indexOf(waiter), 1)
        this.#waiting -= 1
        reject(this.#limited(BUSY_RETRY_S))
      }, WAIT_MS_MAX)
      const waiter = { resolve, reject, timer }
      flight.waiters.push(waiter)
      this.#waiting += 1
    })
  }

  #count(key: LimitKey): number {
    return this.#failures.count(key, this.#now())
  }

  #hasRoom(key: LimitKey, { running }: Flight): boolean {
    return this.#count(key) + running < this.#max
  }

  #refusal(key: LimitKey): Fault {
    return this.#limited(Math.ceil(this.#failures.untilFewerMs(key, this.#now()) / 1000))
  }

  /** RateLimit fields as in draft-ietf-httpapi-ratelimit-headers: quota, window, what remains, until when. */
  #limited(retryAfterS: number): Fault {
    const policy = `"${this.#name}";q=${this.#max};w=${Math.ceil(this.#windowMs / 1000)}`
    const state = `"${this.#name}";r=0;t=${retryAfterS}`
    return new Fault('LOGIN_LIMITED', `failures by ${this.#name}`, {
      retryAfterS,
      fields: ['ratelimit-policy', policy, 'ratelimit', state],
    })
  }
}
