import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import type { Exchange } from './exchange.ts'

/** What a running gateway shows of itself; each read at scrape time. */
export interface Gauges {
  readonly inFlight: () => number
  readonly openSockets: () => number
  readonly cachedTenants: () => number
  readonly isListenerHealthy: () => boolean
  readonly registryContactAgeS: () => number
}

export interface GatewayMetrics {
  readonly registry: Registry
  observe(exchange: Exchange, tookMs: number): void
}

/** 1 ms to 30 s: what a client waits, in seconds. */
const SECONDS_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

export function makeMetrics(gauges: Gauges): GatewayMetrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  // Rate by route and status class. A rise of 5xx: look at doorman_faults_total for the code.
  const requests = new Counter({
    name: 'doorman_requests_total',
    help: 'Requests answered, by route and status class',
    labelNames: ['route', 'status'] as const,
    registers: [registry],
  })
  // Each code has a heading in the runbook; `blame` there says whose fault it is.
  const faults = new Counter({
    name: 'doorman_faults_total',
    help: 'Failures by code of the error table',
    labelNames: ['code'] as const,
    registers: [registry],
  })
  // Whole time from head to last byte. Against doorman_upstream_seconds it shows what the gateway adds.
  const seconds = new Histogram({
    name: 'doorman_request_seconds',
    help: 'Time from the end of the request head to the end of the answer, in seconds',
    labelNames: ['route'] as const,
    buckets: SECONDS_BUCKETS,
    registers: [registry],
  })
  // Time until the replica's answer head. If it rises, the app or a tenant database is slow.
  const upstreamSeconds = new Histogram({
    name: 'doorman_upstream_seconds',
    help: 'Time from the end of the request head to the head of the upstream answer, in seconds',
    labelNames: ['route'] as const,
    buckets: SECONDS_BUCKETS,
    registers: [registry],
  })
  // Attempts beyond the first. More than a few per cent: replicas reset or refuse connections.
  const retries = new Counter({
    name: 'doorman_upstream_retries_total',
    help: 'Attempts made after the first one failed',
    registers: [registry],
  })
  // Rises without end: answers hang, or clients read slowly.
  gauge('doorman_requests_in_flight', 'Requests being served', gauges.inFlight)
  gauge('doorman_open_sockets', 'Spliced WebSocket connections', gauges.openSockets)
  gauge('doorman_cached_tenants', 'Tenants in the cache', gauges.cachedTenants)
  // 0 for more than 15 s: changes arrive by polling only; look at the Registry.
  gauge('doorman_registry_listener_healthy', '1 while change notices arrive', () =>
    gauges.isListenerHealthy() ? 1 : 0,
  )
  // How stale a cached tenant can be at most.
  gauge('doorman_registry_contact_age_seconds', 'Seconds since the Registry last answered', () =>
    gauges.registryContactAgeS(),
  )

  function gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read())
      },
    })
  }

  return {
    registry,
    observe(exchange, tookMs) {
      const route = exchange.route?.name ?? 'none'
      requests.inc({ route, status: statusClass(exchange.status) })
      seconds.observe({ route }, tookMs / 1000)
      if (exchange.upstreamHeadAt > 0) {
        upstreamSeconds.observe({ route }, (exchange.upstreamHeadAt - exchange.startedAt) / 1000)
      }
      if (exchange.errorCode !== null) faults.inc({ code: exchange.errorCode })
      if (exchange.attempts > 1) retries.inc(exchange.attempts - 1)
    },
  }
}

/** `gone` stands for a client that left before an answer began. */
function statusClass(status: number): string {
  return status === 0 ? 'gone' : `${Math.floor(status / 100)}xx`
}
