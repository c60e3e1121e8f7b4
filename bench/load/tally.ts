import { Histogram } from '../lib/histogram.ts'
import type { Sample } from '../lib/stalls.ts'
import type { LoadResult } from './job.ts'

/** Counts what came back, good and bad. */
export class Tally {
  readonly #latencies = new Histogram()
  #errors = 0
  #dropped = 0
  #firstError: string | null = null
  #startedAt = 0
  readonly #samples: Sample[] | null
  /** From this process's clock to the system's. */
  readonly #toSystemMs = Number(process.hrtime.bigint()) / 1e6 - performance.now()

  constructor(keepsSamples = false) {
    this.#samples = keepsSamples ? [] : null
  }

  start(): void {
    this.#startedAt = performance.now()
  }

  /** @param sinceMs `performance.now()` of the (intended) start */
  ok(sinceMs: number): void {
    const tookMs = performance.now() - sinceMs
    this.#latencies.record(tookMs * 1000)
    this.#samples?.push({ startedMs: sinceMs + this.#toSystemMs, tookMs })
  }

  drop(): void {
    this.#dropped++
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
      dropped: this.#dropped,
      samples: this.#samples ?? [],
    }
  }
}
