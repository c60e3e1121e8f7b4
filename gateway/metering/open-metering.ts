import { Gauge, type Registry } from 'prom-client'
import type { Log } from '../../registry/lib/log.ts'
import { showCounts } from '../../registry/lib/show-counts.ts'
import type { RegistryStore } from '../../registry/store.ts'
import type { GatewayConfig } from '../config.ts'
import { adoptJournals } from './adopt-journals.ts'
import { UsageJournal } from './journal.ts'
import { Meter } from './meter.ts'
import { UsageWriter } from './usage-writer.ts'

export interface MeteringOptions {
  readonly config: Pick<
    GatewayConfig,
    'METERING_FLUSH_MS' | 'METERING_USERS_EXACT_MAX' | 'METERING_JOURNAL_DIR'
  >
  readonly store: Pick<RegistryStore, 'query'>
  /** `Membership.id`. */
  readonly instance: string
  readonly registry: Registry
  readonly log: Log
}

export interface Metering {
  readonly meter: Meter
  /** Writes what is left, for at most `deadlineMs`. Nothing may be counted any more. */
  close(deadlineMs: number): Promise<void>
}

/** For the last write of a process that keeps a journal. */
const JOURNAL_CLOSE_MS = 1000
/** How often journals of processes that were killed are looked for. */
const ADOPT_MS = 10_000

/**
 * Counts from now on, and writes what it counts to the Registry, with its figures in `/metrics`.
 *
 * @throws Error where METERING_JOURNAL_DIR cannot be made
 */
export function openMetering(options: MeteringOptions): Metering {
  const { config, store, instance, registry, log } = options
  const { METERING_JOURNAL_DIR: dir } = config
  const journal = dir === undefined ? null : new UsageJournal({ dir, instance, log })
  const meter = new Meter({ instance, usersExactMax: config.METERING_USERS_EXACT_MAX, journal })
  const writer = new UsageWriter({ store, meter, log, flushMs: config.METERING_FLUSH_MS })
  show(registry, meter, writer, journal)
  writer.start()
  const stopAdopting = dir === undefined ? () => {} : keepAdopting(dir, options)
  return {
    meter,
    async close(deadlineMs) {
      stopAdopting()
      // What the journal has is not lost, however soon this process ends.
      await writer.close(journal === null ? deadlineMs : Math.min(deadlineMs, JOURNAL_CLOSE_MS))
      journal?.close()
    },
  }
}

/** One look at a time, the first one now. */
function keepAdopting(dir: string, { instance, store, log }: MeteringOptions): () => void {
  let isLooking = false
  const look = async () => {
    if (isLooking) return
    isLooking = true
    try {
      await adoptJournals({ dir, instance, store, log })
    } catch (error) {
      log.debug({ err: error }, 'journals not brought in yet')
    } finally {
      isLooking = false
    }
  }
  const timer = setInterval(() => void look(), ADOPT_MS).unref()
  void look()
  return () => clearInterval(timer)
}

function show(
  registry: Registry,
  meter: Meter,
  writer: UsageWriter,
  journal: UsageJournal | null,
): void {
  new Gauge({
    name: 'doorman_metering_age_seconds',
    help: 'Seconds since all usage that was counted was in the Registry. Above a few METERING_FLUSH_MS: usage cannot be written, the log says why. Nothing is lost while the process lives.',
    aggregator: 'max',
    registers: [registry],
    collect() {
      this.set((Date.now() - writer.writtenAtMs) / 1000)
    },
  })
  showCounts(
    registry,
    'doorman_metering_batches_total',
    'Batches of usage by outcome. refused not 0: usage is lost to the invoices; the log has the sequence and why.',
    'outcome',
    () => ({
      written: writer.batches - writer.refused,
      refused: writer.refused,
    }),
  )
  showCounts(
    registry,
    'doorman_metering_lost_total',
    'What a bound kept from being counted. Not 0: a bound of gateway/metering/meter.ts was met, and invoices are too low by that much.',
    'what',
    () => meter.lost,
  )
  showCounts(
    registry,
    'doorman_metering_journal_failures_total',
    'Writes to the journal that failed. Not 0: the disk of METERING_JOURNAL_DIR is full or broken, and a killed process would lose what it counted.',
    'outcome',
    () => ({ refused: journal?.failures ?? 0 }),
  )
  showCounts(
    registry,
    'doorman_usage_fields_ignored_total',
    'Fields x-usage that count nothing, by why. A rise: the app sends some that cannot be read.',
    'why',
    () => meter.fieldProblems,
  )
}
