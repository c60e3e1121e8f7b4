import { setTimeout as delay } from 'node:timers/promises'
import type { Log } from '../../registry/lib/log.ts'
import type { RegistryStore } from '../../registry/store.ts'
import { countPeople, pruneUsageInstances, type UsageBatch } from '../../registry/usage-batch.ts'
import { type Refusal, type RefusalReason, refusalOf } from '../../registry/usage-refusal.ts'
import type { Meter } from './meter.ts'
import { PendingBatch } from './pending-batch.ts'

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
/** Between two lines about the same trouble. */
const SAY_AGAIN_MS = 60_000

/**
 * Brings batches into the Registry, one at a time and in order. A batch whose answer did not come is sent
 * again, as it was, until the Registry has said something about it; meanwhile the meter goes on counting into
 * what it holds anyway, so that a Registry that is down makes nothing grow but numbers.
 *
 * What the Registry refuses for a reason of its own (rights, a migration that is behind, a full disk, a standby, …) waits in
 * the same way, for ever. What it refuses because of what a batch holds is put aside there, in usage_refused, and that alone: see
 * `refusalOf` and `PendingBatch`.
 */
export class UsageWriter {
  readonly #options: UsageWriterOptions
  #pending: PendingBatch | null = null
  #working: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null
  #tidier: NodeJS.Timeout | null = null
  #tidied = 0
  /** What was told last, null: all goes well. */
  #trouble: { readonly sqlState: string; readonly saidAt: number } | null = null
  #isClosing = false
  #writtenAtMs = Date.now()
  #refused = 0
  #batches = 0
  readonly #failures = new Map<RefusalReason, number>()

  constructor(options: UsageWriterOptions) {
    this.#options = options
  }

  /** When all that had been counted was last in the Registry; milliseconds since the epoch. */
  get writtenAtMs(): number {
    return this.#writtenAtMs
  }

  /** What the Registry refused because of what it holds, and has put aside. */
  get refused(): number {
    return this.#refused
  }

  get batches(): number {
    return this.#batches
  }

  /** Attempts after which a batch has to wait, by why. */
  get failures(): ReadonlyMap<RefusalReason, number> {
    return this.#failures
  }

  /** The batch that the Registry has not taken yet. */
  get pending(): UsageBatch | null {
    return this.#pending?.batch ?? null
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
      await delay(Math.min(LAST_PAUSE_MS, Math.max(0, end - performance.now())))
    } while (performance.now() < end)
    return false
  }

  async #work(): Promise<void> {
    const { meter } = this.#options
    // One that waits from before says nothing of what was counted since.
    let isAll = false
    do {
      if (this.#pending === null) {
        const batch = meter.seal()
        this.#pending = batch === null ? null : new PendingBatch(batch)
        // Here and not once it is written: a gateway that serves has always counted something by then.
        isAll = meter.unsealed === 0
      }
      if (this.#pending !== null) {
        const { sequence } = this.#pending.batch
        const outcome = await this.#write(this.#pending)
        if (outcome === 'waits') return
        meter.written(sequence, outcome === 'by another')
        this.#pending = null
      }
    } while (!isAll)
    this.#writtenAtMs = Date.now()
  }

  async #write(pending: PendingBatch): Promise<'written' | 'by another' | 'waits'> {
    const { store, log } = this.#options
    try {
      const { isByAnother, refused } = await pending.write(store)
      this.#batches++
      this.#refused += refused.length
      for (const { parts, ...about } of refused) {
        log.error(
          { ...about, requests: requestsOf(parts) },
          'usage was put aside: usage_refused has it',
        )
      }
      if (isByAnother) {
        const { sequence } = pending.batch
        log.error(
          { sequence },
          'this process was taken for dead: what it had counted was brought in by another',
        )
      }
      if (this.#trouble !== null) log.info('usage is written again')
      this.#trouble = null
      return isByAnother ? 'by another' : 'written'
    } catch (error) {
      this.#tell(error, refusalOf(error))
      return 'waits'
    }
  }

  #tell(error: unknown, { sqlState, why }: Refusal): void {
    this.#failures.set(why, (this.#failures.get(why) ?? 0) + 1)
    const saidAt = performance.now()
    const isSaid =
      this.#trouble?.sqlState === sqlState && saidAt - this.#trouble.saidAt < SAY_AGAIN_MS
    if (isSaid || this.#isClosing) return
    this.#trouble = { sqlState, saidAt }
    this.#options.log.warn({ err: error, sqlstate: sqlState, why }, 'usage cannot be written')
  }

  async #tidy(): Promise<void> {
    const { store, log } = this.#options
    if (this.#trouble !== null) return
    try {
      while ((await countPeople(store, TIDY_DAYS_MAX)) === TIDY_DAYS_MAX && !this.#isClosing);
      if (this.#tidied++ % PRUNE_EVERY === 0) await pruneUsageInstances(store)
    } catch (error) {
      log.debug({ err: error }, 'usage not tidied')
    }
  }
}

/** As `api_requests` has it. */
export function requestsOf(usage: Pick<UsageBatch, 'days'> | null): number {
  const days = usage?.days ?? []
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
