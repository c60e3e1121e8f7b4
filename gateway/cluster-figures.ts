import { AggregatorRegistry } from 'prom-client'
import type { Figures } from '../registry/lib/exposition.ts'
import { AFFECTED_NAME, mergeAffected } from './affected-tenants.ts'
import { isTenantSeries, OTHER_TENANTS } from './tenant-series.ts'

/**
 * The metrics of several processes as one. Counters and histograms are added up, also those of
 * workers that are gone, so that none goes backwards; gauges by the aggregator of each.
 */
export class ClusterFigures {
  #ofTheGone: Figures = []

  /** Keeps beyond its end what a worker has counted; what it measured (gauges) goes with it. */
  retire(figures: Figures): void {
    const counted = figures.filter(({ type }) => !isGauge(type)).map(nameless)
    this.#ofTheGone = aggregate([this.#ofTheGone, counted])
  }

  /** @param living the latest of each process that runs */
  view(living: readonly Figures[]): Figures {
    return aggregate([this.#ofTheGone, ...living])
  }
}

function aggregate(parts: readonly Figures[]): Figures {
  const prepared = parts.map(figures =>
    figures.map(metric => ({ ...metric, aggregator: aggregatorOf(metric) })),
  )
  const registry = AggregatorRegistry.aggregate(prepared)
  // An aggregated registry holds its metrics as data: no collector has to run.
  const figures = registry.getMetricsAsArray() as unknown as Figures
  const exemplars = newestExemplars(parts)
  return figures.map(({ name, help, type, aggregator, values, collect }) => {
    const shown = values.map(value => withExemplar(name, value, exemplars))
    const merged = name === AFFECTED_NAME ? mergeAffected(valuesOf(parts, name)) : shown
    return { name, help, type, aggregator, values: merged, collect }
  })
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

/** Tenants that a worker named are no longer named by its end: each restart would leave more of them. */
function nameless(metric: Figures[number]): Figures[number] {
  if (!isTenantSeries(metric.name)) return metric
  const values = metric.values.map(value => ({
    ...value,
    labels: { ...value.labels, tenant: OTHER_TENANTS },
  }))
  return { ...metric, values }
}

type Value = Figures[number]['values'][number] & {
  readonly metricName?: string
  /** prom-client writes null where there is none. */
  readonly exemplar?: { readonly timestamp: number } | null
}

function valuesOf(parts: readonly Figures[], name: string): Figures[number]['values'] {
  return parts.flatMap(figures => figures.find(metric => metric.name === name)?.values ?? [])
}

/** By sample: prom-client's aggregation drops them. */
function newestExemplars(parts: readonly Figures[]): ReadonlyMap<string, Value['exemplar']> {
  const newest = new Map<string, Value['exemplar']>()
  for (const { name, values } of parts.flat()) {
    for (const value of values as readonly Value[]) {
      const { exemplar } = value
      if (!exemplar) continue
      const key = keyOf(name, value)
      if (exemplar.timestamp > (newest.get(key)?.timestamp ?? 0)) newest.set(key, exemplar)
    }
  }
  return newest
}

function withExemplar<V extends Figures[number]['values'][number]>(
  name: string,
  value: V,
  exemplars: ReadonlyMap<string, Value['exemplar']>,
): V {
  const exemplar = exemplars.size === 0 ? undefined : exemplars.get(keyOf(name, value))
  return exemplar === undefined ? value : { ...value, exemplar }
}

function keyOf(name: string, { metricName = '', labels }: Value): string {
  return `${name} ${metricName} ${Object.entries(labels).sort().join(' ')}`
}
