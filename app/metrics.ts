import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { showProcess } from '../registry/lib/process-metrics.ts'
import type { KitEvents } from './kit/kit-events.ts'
import { countKitEvents } from './kit-metrics.ts'

/** No label names a tenant: series must not grow with their number. */
export interface AppMetrics {
  readonly registry: Registry
  readonly requests: Counter<'method' | 'route' | 'status'>
  /** `trace_id` is a label of exemplars alone, which share a type with those of the series. */
  readonly seconds: Histogram<'route' | 'trace_id'>
  readonly faults: Counter<'code'>
  readonly streams: Gauge<'kind'>
  readonly tenantFaults: Counter<'reason'>
  /** To be given to the kit. */
  readonly kitEvents: KitEvents
}

export function makeMetrics(): AppMetrics {
  const registry = new Registry()
  showProcess(registry, 'doorman_app_')
  const registers = [registry]
  return {
    registry,
    requests: new Counter({
      name: 'doorman_app_requests_total',
      help: 'Requests by route pattern and status. A rise of 5xx: doorman_app_faults_total has the code, the runbook what to do about it.',
      labelNames: ['method', 'route', 'status'],
      registers,
    }),
    seconds: shown(
      registry,
      new Histogram({
        name: 'doorman_app_request_seconds',
        help: 'From the request head to the last byte of the answer. If it rises: requests wait for connections (doorman_app_pool_wait_seconds), statements are slow, or the event loop is late (nodejs_eventloop_lag_p99_seconds).',
        labelNames: ['route'],
        buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
        enableExemplars: true,
        // prom-client would refuse them: which format they are shown in is decided by each scrape.
        registers: [],
      }),
    ),
    faults: new Counter({
      name: 'doorman_app_faults_total',
      help: 'Answers by code of the error table; the runbook has a heading per code.',
      labelNames: ['code'],
      registers,
    }),
    streams: new Gauge({
      name: 'doorman_app_streams',
      help: 'Open event streams (sse) and WebSockets (ws). At STREAMS_MAX the next ones are refused: add replicas.',
      labelNames: ['kind'],
      registers,
    }),
    tenantFaults: new Counter({
      name: 'doorman_app_tenant_faults_total',
      help: 'Failures of tenants’ databases and buckets by reason. One tenant or a whole server? The access log names the tenants; the runbook has the codes.',
      labelNames: ['reason'],
      registers,
    }),
    kitEvents: countKitEvents(registers),
  }
}

function shown<M extends AppMetrics['seconds']>(registry: Registry, metric: M): M {
  registry.registerMetric(metric)
  return metric
}
