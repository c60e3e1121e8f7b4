export interface BreakerOptions {
  /** Failures in a row that open it. */
  readonly failuresMax: number
  /** First back-off; it doubles with every probe that fails. */
  readonly backoffMs: number
  readonly backoffMaxMs: number
  /** A probe without a verdict for so long leaves room for another (it may be a long upload). */
  readonly probeMs: number
}

/** One try at what the breaker guards; to be ended by `succeed` or `fail`. */
export interface Attempt {
  readonly generation: number
}

/**
 * Stands between a tenant and the resource that fails it:
 *
 * - closed: all may try; `failuresMax` failures in a row open it;
 * - open: nobody may, for the back-off, of which a random half is taken off so that replicas do not
 *   come back in step;
 * - half open: one may, and the others wait for its verdict.
 */
export class Breaker {
  readonly #options: BreakerOptions
  readonly #random: () => number
  #state: 'closed' | 'open' | 'probing' = 'closed'
  #failures = 0
  #openings = 0
  /** End of the back-off, or of the patience with a probe. */
  #until = 0
  /** Moves with every opening and every probe: what began before has no say afterwards. */
  #generation = 0

  constructor(options: BreakerOptions, random: () => number = Math.random) {
    this.#options = options
    this.#random = random
  }

  /** For a gauge: a probe that runs counts as open. */
  get isClosed(): boolean {
    return this.#state === 'closed'
  }

  mayTry(nowMs: number): boolean {
    return this.#state === 'closed' || nowMs >= this.#until
  }

  /** At least 1. */
  retryAfterS(nowMs: number): number {
    return Math.max(1, Math.ceil((this.#until - nowMs) / 1000))
  }

  /** To be called only where `mayTry` holds. */
  begin(nowMs: number): Attempt {
    if (this.#state !== 'closed') {
      this.#state = 'probing'
      this.#generation += 1
      this.#until = nowMs + this.#options.probeMs
    }
    return { generation: this.#generation }
  }

  /** Whenever it began: that it works is proof enough. */
  succeed(): void {
    this.#state = 'closed'
    this.#failures = 0
    this.#openings = 0
  }

  /** @returns true where this failure opened the breaker, or kept it open after a probe */
  fail({ generation }: Attempt, nowMs: number): boolean {
    if (generation !== this.#generation) return false
    this.#failures += 1
    if (this.#state === 'closed' && this.#failures < this.#options.failuresMax) return false
    const { backoffMs, backoffMaxMs } = this.#options
    const longestMs = Math.min(backoffMs * 2 ** this.#openings, backoffMaxMs)
    this.#state = 'open'
    this.#generation += 1
    // 2 ** 30 is far beyond any bound, and stays a number.
    this.#openings = Math.min(this.#openings + 1, 30)
    this.#until = nowMs + longestMs * (0.5 + this.#random() / 2)
    return true
  }

  /** An attempt that ended without a verdict (nobody waits for it any more). */
  forget({ generation }: Attempt): void {
    if (this.#state !== 'probing' || generation !== this.#generation) return
    this.#state = 'open'
    this.#until = 0
  }
}
