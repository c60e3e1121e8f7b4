import { setTimeout as delay } from 'node:timers/promises'
import { Fault } from '../../registry/lib/errors.ts'
import type { Log } from '../../registry/lib/log.ts'
import type { RegistryStore } from '../../registry/store.ts'
import {
  applyUsage,
  countPeople,
  pruneUsageInstances,
  type UsageBatch,
} from '../../registry/usage-batch.ts'
import type { Meter } from './meter.ts'

export interface UsageWriterOptions {
  readonly store: Pick<RegistryStore, 'query'>
  readonly meter: Pick<Meter, 'seal' | 'unsealed' | 'written' | 'tend'>
  readonly log: Log
  /** METERING_FLUSH_MS. */
  readonly flushMs: number
  /** How often days with a sketch are counted anew, and once a day after it forgotten processes are. */
  readonly tidyMs?: number
}

/** Between two attempts when this process ends. */
const LAST_PAUSE_MS = 50
const TIDY_MS = 60_000
const TIDY_DAYS_MAX = 5
const PRUNE_EVERY = 1440

/**
 * Brings batches into the Registry, one at a time and in order. A batch whose answer did not come is sent
 * again, as it was, until the Registry has said something about it; meanwhile the meter goes on counting into
 * what it holds anyway, so that a Registry that is down makes nothing grow but numbers.
 */
export class UsageWriter {
  readonly #options: UsageWriterOptions
  #pending: UsageBatch | null = null
  #working: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null
  #tidier: NodeJS.Timeout | null = null
  #tidied = 0
  #isFailing = false
  #isClosing = false
  #writtenAtMs = Date.now()
  #refused = 0
  #batches = 0

  constructor(options: UsageWriterOptions) {
    this.#options = options
  }

  /** When all that had been counted was last in the Registry; milliseconds since the epoch. */
  get writtenAtMs(): number {
    return this.#writtenAtMs
  }

  /** Batches that the Registry refused for good. */
  get refused(): number {
    return this.#refused
  }

  get batches(): number {
    return this.#batches
  }

  start(): void {
    const { flushMs, tidyMs = TIDY_MS } = this.#options
    this.#timer = setInterval(() => {
      this.#options.meter.tend()
      void this.flush()
    }, flushMs).unref()
    this.#tidier = setInterval(() => void this.#tidy(), tidyMs).unref()
  }

  /**
   * All that is counted by now, as far as it goes at the first attempt, and not what comes meanwhile. Never
   * rejects.
   */
  flush(): Promise<void> {
    this.#working ??= this.#work().finally(() => {
      this.#working = null
    })
    return this.#working
  }

  /** Writes what is left, again and again until `deadlineMs` have passed. @returns false: something is left */
  async close(deadlineMs: number): Promise<boolean> {
    this.#isClosing = true
    if (this.#timer !== null) clearInterval(this.#timer)
    if (this.#tidier !== null) clearInterval(this.#tidier)
    const end = performance.now() + deadlineMs
    const late = delay(deadlineMs, undefined, { ref: false })
    await Promise.race([this.#working, late])
    do {
      await Promise.race([this.flush(), late])
      if (this.#pending === null && this.#working === null) return true
      await delay(LAST_PAUSE_MS)
    } while (performance.now() < end)
    const { log } = this.#options
    log.error({ requests: requestsOf(this.#pending) }, 'usage was not written before the end')
    return false
  }

  async #work(): Promise<void> {
    const { meter } = this.#options
    // One that waits from before says nothing of what was counted since.
    let isAll = false
    do {
      if (this.#pending === null) {
        this.#pending = meter.seal()
        // Here and not once it is written: a gateway that serves has always counted something by then.
        isAll = meter.unsealed === 0
      }
      if (this.#pending !== null) {
        const { sequence } = this.#pending
        if (!(await this.#write(this.#pending))) return
        meter.written(sequence)
        this.#pending = null
      }
    } while (!isAll)
    this.#writtenAtMs = Date.now()
  }

  /** @returns false: its outcome is not known */
  async #write(batch: UsageBatch): Promise<boolean> {
    const { store, log } = this.#options
    try {
      const outcome = await applyUsage(store, batch)
      this.#batches++
      if (outcome === 'late') this.#refuse(batch, 'it is older than 30 days')
      if (this.#isFailing) log.info('usage is written again')
      this.#isFailing = false
      return true
    } catch (error) {
      if (error instanceof Fault && error.code === 'VALIDATION_FAILED') {
        // So it would be again, and all that comes after it would wait for ever.
        this.#refuse(batch, error.reason)
        return true
      }
      if (!this.#isFailing && !this.#isClosing) log.warn({ err: error }, 'usage cannot be written')
      this.#isFailing = true
      return false
    }
  }

  #refuse(batch: UsageBatch, reason: string): void {
    this.#refused++
    const { sequence } = batch
    this.#options.log.error(
      { sequence, requests: requestsOf(batch), reason },
      'the Registry refused usage',
    )
  }

  async #tidy(): Promise<void> {
    const { store, log } = this.#options
    if (this.#isFailing) return
    try {
      while ((await countPeople(store, TIDY_DAYS_MAX)) === TIDY_DAYS_MAX && !this.#isClosing);
      if (this.#tidied++ % PRUNE_EVERY === 0) await pruneUsageInstances(store)
    } catch (error) {
      log.debug({ err: error }, 'usage not tidied')
    }
  }
}

function requestsOf(batch: UsageBatch | null): number {
  const days = batch?.days ?? []
  return days.reduce(
    (sum, day) =>
      sum +
      (day.responses_2xx ?? 0) +
      (day.responses_3xx ?? 0) +
      (day.responses_4xx ?? 0) +
      (day.websockets ?? 0),
    0,
  )
}
