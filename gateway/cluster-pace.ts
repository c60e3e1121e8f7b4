/** First delay before a worker is replaced; doubles with each early end. */
const DELAY_MS_MIN = 100
const DELAY_MS_MAX = 10_000
/** A worker that ran this long was not ended by its start. */
const EARLY_MS = 10_000

/** How fast workers that end are replaced: at once after a long life, ever slower in a crash loop. */
export class RestartPace {
  #earlyEnds = 0

  /** Milliseconds to wait before the replacement of a worker that ran for `livedMs`. */
  delayMs(livedMs: number): number {
    if (livedMs >= EARLY_MS) this.#earlyEnds = 0
    const delayMs = Math.min(DELAY_MS_MAX, DELAY_MS_MIN * 2 ** this.#earlyEnds)
    // Beyond the bound nothing changes: 100 ms × 2^7 is more than 10 s.
    this.#earlyEnds = Math.min(this.#earlyEnds + 1, 7)
    return delayMs
  }
}
