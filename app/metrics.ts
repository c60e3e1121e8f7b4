import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { TenantBuckets } from './kit/tenant-buckets.ts'
import type { TenantPools } from './kit/tenant-pools.ts'

/** No label names a tenant: series must not grow with their number. */
export interface AppMetrics {
  readonly registry: Registry
  readonly requests: Counter<'method' | 'route' | 'status'>
  readonly seconds: Histogram<'route'>
  readonly faults: Counter<'code'>
  readonly streams: Gauge<'kind'>
}

export function makeMetrics(pools: TenantPools, buckets: TenantBuckets): AppMetrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  gauge('doorman_app_pools', 'Tenant pools that exist.', () => pools.figures.pools)
  gauge(
    'doorman_app_db_connections',
    'Sockets to tenant databases; near DB_GLOBAL_POOL_MAX requests begin to wait.',
    () => pools.figures.connections,
  )
  gauge(
    'doorman_app_pool_waiting',
    'Requests that wait for a connection; above 0 for long: slow queries or small pools.',
    () => pools.figures.waiting,
  )
  gauge('doorman_app_pool_leases', 'Requests that use a pool now.', () => pools.figures.leases)
  gauge('doorman_app_bucket_clients', 'S3 clients that exist.', () => buckets.clients)
  gauge('doorman_app_bucket_leases', 'File operations that run now.', () => buckets.leases)
  return {
    registry,
    requests: new Counter({
      name: 'doorman_app_requests_total',
      help: 'Requests by route pattern and status.',
      labelNames: ['method', 'route', 'status'],
      registers,
    }),
    seconds: new Histogram({
      name: 'doorman_app_request_seconds',
      help: 'From the request head to the last byte of the answer.',
      labelNames: ['route'],
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
    faults: new Counter({
      name: 'doorman_app_faults_total',
      help: 'Answers by code of the error table; the runbook has a heading per code.',
      labelNames: ['code'],
      registers,
    }),
    streams: new Gauge({
      name: 'doorman_app_streams',
      help: 'Open event streams (sse) and WebSockets (ws).',
      labelNames: ['kind'],
      registers,
    }),
  }
}
