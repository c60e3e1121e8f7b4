import { constants, PerformanceObserver, performance } from 'node:perf_hooks'
import { Counter, collectDefaultMetrics, Histogram, type Registry } from 'prom-client'

const GC_KINDS: Readonly<Record<number, string>> = {
  [constants.NODE_PERFORMANCE_GC_MAJOR]: 'major',
  [constants.NODE_PERFORMANCE_GC_MINOR]: 'minor',
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: 'incremental',
  [constants.NODE_PERFORMANCE_GC_WEAKCB]: 'weakcb',
}

/**
 * What every process shows of itself: prom-client's figures of Node and the system, and what it lacks.
 *
 * @param prefix of the names, such as `doorman_`
 */
export function showProcess(registry: Registry, prefix: string): void {
  collectDefaultMetrics({ register: registry })
  // prom-client 15 counts the first of those that Node tells at once, and forgets the others.
  registry.removeSingleMetric('nodejs_gc_duration_seconds')
  const pauses = new Histogram({
    name: `${prefix}gc_seconds`,
    help: 'Garbage collections by kind: their number and how long the process stood still. Major ones that come often or take above 0.1 s: the heap is near its limit (nodejs_heap_size_used_bytes), so lower the caches or give it more with --max-old-space-size. Minor ones alone follow the load.',
    labelNames: ['kind'] as const,
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5],
    registers: [registry],
  })
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) {
      const { kind = 0 } = (entry as { detail?: { kind?: number } }).detail ?? {}
      pauses.observe({ kind: GC_KINDS[kind] ?? 'other' }, entry.duration / 1000)
    }
  }).observe({ entryTypes: ['gc'] })
  new Counter({
    name: `${prefix}loop_busy_seconds_total`,
    help: 'Seconds in which the event loop worked and did not wait; its rate is the share of a core that requests can use. Above 0.8 for long: add processes before delays grow.',
    registers: [registry],
    collect() {
      this.reset()
      this.inc(performance.eventLoopUtilization().active / 1000)
    },
  })
}
