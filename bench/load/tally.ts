import { Histogram } from '../lib/histogram.ts'
import type { LoadResult } from './job.ts'

/** Counts what came back, good and bad. */
export class Tally {
  readonly #latencies = new Histogram()
  #errors = 0
  #firstError: string | null = null
  #startedAt = 0

  start(): void {
    this.#startedAt = performance.now()
  }

  /** @param sinceMs `performance.now()` of the (intended) start */
  ok(sinceMs: number): void {
    this.#latencies.record((performance.now() - sinceMs) * 1000)
  }

  error(message: string): void {
    this.#errors++
    this.#firstError ??= message
  }

  result(): LoadResult {
    return {
      requests: this.#latencies.count,
      errors: this.#errors,
      firstError: this.#firstError,
      seconds: (performance.now() - this.#startedAt) / 1000,
      p50: this.#latencies.percentile(0.5) / 1000,
      p99: this.#latencies.percentile(0.99) / 1000,
      max: this.#latencies.maxUs / 1000,
    }
  }
}
