import { AggregatorRegistry, type Registry } from 'prom-client'
import type { Figures } from './cluster-messages.ts'

/**
 * The metrics of several processes as one. Counters and histograms are added up, also those of
 * workers that are gone, so that none goes backwards; gauges by the aggregator of each.
 */
export class ClusterFigures {
  #ofTheGone: Figures = []

  /** Keeps beyond its end what a worker has counted; what it measured (gauges) goes with it. */
  retire(figures: Figures): void {
    const counted = figures.filter(({ type }) => !isGauge(type))
    this.#ofTheGone = plain(aggregate([this.#ofTheGone, counted]))
  }

  /** @param living the latest of each process that runs */
  view(living: readonly Figures[]): Registry {
    return aggregate([this.#ofTheGone, ...living])
  }
}

function aggregate(parts: readonly Figures[]): Registry {
  const prepared = parts.map(figures =>
    figures.map(metric => ({ ...metric, aggregator: aggregatorOf(metric) })),
  )
  return AggregatorRegistry.aggregate(prepared)
}

/**
 * Where prom-client's own choice misleads: the mean of the workers' event-loop lags hides the one that
 * hangs, and without a start time no uptime can be shown (the oldest is the primary's).
 */
function aggregatorOf({ name, aggregator }: Figures[number]): Figures[number]['aggregator'] {
  if (name === 'process_start_time_seconds') return 'min'
  if (name.startsWith('nodejs_eventloop_lag') && aggregator !== 'min') return 'max'
  return aggregator
}

/** A type's name: prom-client declares an enumeration and gives words. */
function isGauge(type: unknown): boolean {
  return type === 'gauge'
}

/** An aggregated registry holds its metrics as data: no collector has to run. */
function plain(registry: Registry): Figures {
  return (registry.getMetricsAsArray() as unknown as Figures).map(
    ({ name, help, type, aggregator, values, collect }) => ({
      name,
      help,
      type,
      aggregator,
      values,
      collect,
    }),
  )
}
