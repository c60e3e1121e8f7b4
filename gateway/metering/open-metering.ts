import { Counter, Gauge, type Registry } from 'prom-client'
import type { Log } from '../../registry/lib/log.ts'
import type { RegistryStore } from '../../registry/store.ts'
import type { GatewayConfig } from '../config.ts'
import { Meter } from './meter.ts'
import { UsageWriter } from './usage-writer.ts'

export interface MeteringOptions {
  readonly config: Pick<GatewayConfig, 'METERING_FLUSH_MS' | 'METERING_USERS_EXACT_MAX'>
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

/** Counts from now on, and writes what it counts to the Registry, with its figures in `/metrics`. */
export function openMetering({
  config,
  store,
  instance,
  registry,
  log,
}: MeteringOptions): Metering {
  const meter = new Meter({ instance, usersExactMax: config.METERING_USERS_EXACT_MAX })
  const writer = new UsageWriter({ store, meter, log, flushMs: config.METERING_FLUSH_MS })
  show(registry, meter, writer)
  writer.start()
  return {
    meter,
    close: async deadlineMs => void (await writer.close(deadlineMs)),
  }
}

function show(registry: Registry, meter: Meter, writer: UsageWriter): void {
  // Above a few METERING_FLUSH_MS: usage cannot be written, the log says why. Nothing is lost while the process lives.
  new Gauge({
    name: 'doorman_metering_age_seconds',
    help: 'Seconds since all usage that was counted was in the Registry',
    aggregator: 'max',
    registers: [registry],
    collect() {
      this.set((Date.now() - writer.writtenAtMs) / 1000)
    },
  })
  counter('doorman_metering_batches_total', 'Batches of usage by outcome', 'outcome', () => ({
    written: writer.batches - writer.refused,
    // Not 0: usage is lost to the invoices; the log has the sequence and why.
    refused: writer.refused,
  }))
  // Not 0: a bound of gateway/metering/meter.ts was met, and invoices are too low by that much.
  counter('doorman_metering_lost_total', 'What a bound kept from being counted', 'what', () => ({
    ...meter.lost,
  }))
  // Rises: the app sends x-usage that is none; by why.
  counter('doorman_usage_fields_ignored_total', 'Fields x-usage that count nothing', 'why', () => ({
    ...meter.fieldProblems,
  }))

  function counter(
    name: string,
    help: string,
    label: string,
    read: () => Readonly<Record<string, number>>,
  ): void {
    new Counter({
      name,
      help,
      labelNames: [label],
      registers: [registry],
      collect() {
        this.reset()
        for (const [value, count] of Object.entries(read())) this.inc({ [label]: value }, count)
      },
    })
  }
}
