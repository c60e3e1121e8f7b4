import { Counter, Gauge, Registry } from 'prom-client'
import type { Fault } from '../registry/lib/errors.ts'
import { showProcess } from '../registry/lib/process-metrics.ts'
import { showCounts } from '../registry/lib/show-counts.ts'
import { AffectedTenants } from './affected-tenants.ts'
import type { Exchange } from './exchange.ts'
import type { FleetFigures } from './fleet/fleet.ts'
import type { Ring } from './live/ring.ts'
import { type Overload, SHED_REASONS, SHED_WHOSE } from './overload.ts'
import { addMetric, Tally } from './tally.ts'
import type { TenantSeries } from './tenant-series.ts'

/** What a running gateway shows of itself; each read at scrape time. */
export interface Gauges {
  readonly inFlight: () => number
  readonly openSockets: () => number
  readonly held: () => { readonly tenants: number; readonly requests: number }
  readonly liveGateways: () => number
  readonly overload: Pick<Overload, 'shedCount' | 'share' | 'delayMs'>
  readonly clientConnections: () => number
  /** Connections that a cap refused, and idle ones that made room, since the start. */
  readonly cutByCap: () => { readonly refused: number; readonly evicted: number }
  readonly cachedTenants: () => number
  readonly revokedTokens: () => number
  readonly unwrittenRevocations: () => number
  readonly tokenVerifications: () => number
  readonly isListenerHealthy: () => boolean
  readonly registryContactAgeS: () => number
  /** Replicas that are members, and those that tenants are ranked on. */
  readonly fleet: () => FleetFigures
  readonly replicas: () => { readonly all: number; readonly ranked: number }
}

export interface GatewayMetrics {
  readonly registry: Registry
  /** @param ring of its tenant, as the pulse has it */
  observe(exchange: Exchange, ring: Ring | null, tookMs: number, nowMs: number): void
  /** A request that was refused before it became an exchange. */
  refuse(fault: Fault): void
  /** A read of an issuer's key set. */
  countKeyRead(whose: 'platform' | 'tenant', isOk: boolean): void
}

export function makeMetrics(gauges: Gauges, tenants: TenantSeries): GatewayMetrics {
  const registry = new Registry()
  showProcess(registry, 'doorman_')
  const tally = new Tally()
  tally.register(registry)
  tenants.show(registry)
  const affected = new AffectedTenants()
  affected.show(registry)
  const faults = new Counter({
    name: 'doorman_faults_total',
    help: 'Failures by code of the error table. The runbook has a heading for each code: whose fault it is, and what to do.',
    labelNames: ['code'] as const,
    registers: [registry],
  })
  const retries = new Counter({
    name: 'doorman_upstream_retries_total',
    help: 'Attempts made after the first one failed. More than a few per cent of the requests: replicas reset or refuse connections.',
    registers: [registry],
  })
  const keyReads = new Counter({
    name: 'doorman_token_key_reads_total',
    help: 'Reads of key sets (JWKS) by whose and outcome. Errors of “platform”: nobody’s new tokens can be checked soon (ISSUER_UNAVAILABLE). Errors of “tenant”: the log says whose identity provider is down.',
    labelNames: ['whose', 'outcome'] as const,
    registers: [registry],
  })
  gauge(
    'doorman_token_verifications',
    'Verifications of issuers’ tokens under way. Near 128 or 256 for long: somebody sends tokens whose signature does not fit (TOKEN_CHECKS_BUSY).',
    gauges.tokenVerifications,
  )
  gauge(
    'doorman_requests_in_flight',
    'Requests being served. Rises without end: answers hang, or clients read slowly.',
    gauges.inFlight,
  )
  gauge(
    'doorman_loop_delay_seconds',
    'Standing delay of the event loop in the last quarter of a second. Above OVERLOAD_LOOP_DELAY_MS a growing share is shed: more workers or CPU, or find what blocks.',
    () => gauges.overload.delayMs / 1000,
    'max',
  )
  addMetric(
    registry,
    'doorman_shed_requests_total',
    'counter',
    'Requests refused at once as OVERLOADED. By reason: “loop” is CPU, “in-flight” is an app that answers slowly. By whose share: “tenant”, those that send or hold most (doorman_tenant_requests_total has which); “stranger”, logins and tokens seen for the first time; “anybody”, where neither was enough.',
    () =>
      SHED_REASONS.flatMap(reason =>
        SHED_WHOSE.map(whose => ({
          labels: { reason, whose },
          value: gauges.overload.shedCount(reason, whose),
        })),
      ),
  )
  gauge(
    'doorman_client_connections',
    'Open client connections. Near CLIENT_CONNECTIONS_MAX idle ones are evicted: more gateways, or a flood.',
    gauges.clientConnections,
  )
  showCounts(
    registry,
    'doorman_client_connections_cut_total',
    'Connections refused by a cap, and idle ones evicted to make room. A rise: a flood of idle or slow connections, or caps (CLIENT_CONNECTIONS_*) that are too low.',
    'what',
    gauges.cutByCap,
  )
  gauge(
    'doorman_open_sockets',
    'Spliced WebSocket connections and event streams. Falls at once: gateways or replicas were restarted, and clients come back all together.',
    gauges.openSockets,
  )
  gauge(
    'doorman_tenants_held',
    'Tenants whose requests wait. Above 0 for longer than two minutes: holds follow each other; ask who moves tenants.',
    () => gauges.held().tenants,
    'max',
  )
  gauge(
    'doorman_requests_held',
    'Requests that wait for a held tenant. Near HELD_REQUESTS_MAX the next ones are refused: end the hold, or raise it.',
    () => gauges.held().requests,
  )
  gauge(
    'doorman_gateways_live',
    'Gateway processes in the Registry. Below the number that runs: some are cut off from the Registry.',
    gauges.liveGateways,
    'max',
  )
  gauge(
    'doorman_cached_tenants',
    'Tenants in the cache; with several workers that of the fullest, for most tenants are in all of them. At TENANT_CACHE_ENTRIES the Registry is asked more often: raise it.',
    gauges.cachedTenants,
    'max',
  )
  gauge(
    'doorman_revoked_tokens',
    'Revoked tokens remembered. Near REVOKED_TOKENS_MAX: raise it, or tokens with little time left are refused with the revoked ones.',
    gauges.revokedTokens,
    'max',
  )
  gauge(
    'doorman_revocations_unwritten',
    'Revocations not in the Registry yet. Above 0 for more than a few seconds: the Registry cannot be written, other gateways do not know yet.',
    gauges.unwrittenRevocations,
  )
  gauge(
    'doorman_registry_listener_healthy',
    '1 while change notices arrive. 0 for more than 15 s: changes arrive by polling only; look at the Registry.',
    () => (gauges.isListenerHealthy() ? 1 : 0),
    'min',
  )
  gauge(
    'doorman_replicas',
    'App replicas that are members, what APP_UPSTREAMS resolves to. 0: no request can be served; look at the names in it.',
    () => gauges.replicas().all,
    'max',
  )
  gauge(
    'doorman_replicas_healthy',
    'App replicas that tenants are spread on. Below doorman_replicas: the others are not ready, not reachable or ejected; the log says which and why.',
    () => gauges.replicas().ranked,
    'min',
  )
  showCounts(
    registry,
    'doorman_fleet_events_total',
    'Changes of who serves whom. ejection: a replica kept failing several tenants, the log says which. breaker: a tenant’s own database or bucket fails, see TENANT_DATABASE_UNAVAILABLE. respread: a tenant is more than its replicas can bear; look at doorman_replicas and add some. Each without an end: something swings.',
    'event',
    () => {
      const { ejections, breakersOpened, respread } = gauges.fleet()
      return { ejection: ejections, breaker: breakersOpened, respread }
    },
  )
  showCounts(
    registry,
    'doorman_fleet_choices_total',
    'Requests not served by the tenant’s first replica (affinity spill). Much of all requests: the load bound is met all the time, so the replicas are few for the load.',
    'choice',
    () => ({
      spilled: gauges.fleet().spills,
    }),
  )
  gauge(
    'doorman_registry_contact_age_seconds',
    'Seconds since the Registry last answered, or since the start if it never did: how stale a cached tenant can be at most. Above 15: look at the Registry; from 300 on tenants are refused.',
    gauges.registryContactAgeS,
    'max',
  )

  /** @param aggregator how the values of several workers become one */
  function gauge(
    name: string,
    help: string,
    read: () => number,
    aggregator: 'sum' | 'min' | 'max' = 'sum',
  ): void {
    new Gauge({
      name,
      help,
      aggregator,
      registers: [registry],
      collect() {
        this.set(read())
      },
    })
  }

  return {
    registry,
    countKeyRead(whose, isOk) {
      keyReads.inc({ whose, outcome: isOk ? 'ok' : 'error' })
    },
    refuse(fault) {
      faults.inc({ code: fault.code })
      tally.refuse(fault.status)
    },
    observe(exchange, ring, tookMs, nowMs) {
      const { tenant, status, startedAt, upstreamHeadAt } = exchange
      tally.observe(exchange.route?.name ?? 'none', exchange, tookMs)
      if (exchange.errorCode !== null) faults.inc({ code: exchange.errorCode })
      if (exchange.attempts > 1) retries.inc(exchange.attempts - 1)
      if (tenant === null) return
      const cell = ring?.cell ?? tenants.others
      const headMs = upstreamHeadAt > 0 ? upstreamHeadAt - startedAt : tookMs
      cell.note(status, headMs, exchange.isTraceKept ? exchange.traceId : null)
      if (status >= 500) affected.note(tenant.id, nowMs)
    },
  }
}
