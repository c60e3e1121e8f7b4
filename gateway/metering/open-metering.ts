import { Gauge, type Registry } from 'prom-client'
import type { Log } from '../../registry/lib/log.ts'
import { showCounts } from '../../registry/lib/show-counts.ts'
import type { RegistryStore } from '../../registry/store.ts'
import type { GatewayConfig } from '../config.ts'
import { UsageJournal } from './journal.ts'
import { keepAdopting } from './keep-adopting.ts'
import { Meter } from './meter.ts'
import { requestsOf, UsageWriter } from './usage-writer.ts'

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
  /**
   * Writes what is left, for at most `deadlineMs`. Nothing may be counted any more.
   *
   * @returns false: something is neither in the Registry nor in the journal, and so is lost; the log says how much
   */
  close(deadlineMs: number): Promise<boolean>
}

/** For the last write of a process that keeps a journal. */
const JOURNAL_CLOSE_MS = 1000

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
  const stopAdopting = dir === undefined ? () => {} : keepAdopting({ dir, instance, store, log })
  return {
    meter,
    async close(deadlineMs) {
      stopAdopting()
      // What the journal has is not lost, however soon this process ends.
      const isWritten = await writer.close(
        journal === null ? deadlineMs : Math.min(deadlineMs, JOURNAL_CLOSE_MS),
      )
      const isKept = isWritten || (journal !== null && meter.keep())
      journal?.close()
      if (isWritten) return true
      const { pending } = writer
      const left = {
        requests: requestsOf(pending) + meter.unsealedRequests,
        tenants: (pending?.days.length ?? 0) + meter.unsealed,
        journal: dir ?? null,
      }
      if (isKept) log.warn(left, 'usage was not written before the end, and is in the journal')
      else log.error(left, 'usage was not written before the end, and is lost')
      return isKept
    },
  }
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
    'Batches of usage by outcome. refused: what was put aside because of what it holds, in usage_refused; the log has the sequence and why.',
    'outcome',
    () => ({
      written: writer.batches,
      refused: writer.refused,
    }),
  )
  showCounts(
    registry,
    'doorman_metering_failures_total',
    'Attempts to write usage after which it has to wait, by why. A rise: nothing is lost while the process lives; the log has the SQLSTATE.',
    'why',
    () => Object.fromEntries(writer.failures),
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
