import { readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Registry } from 'prom-client'
import { ABSENT_MAX, TenantCache } from '../registry/cache.ts'
import { makeContextMinter } from '../registry/context.ts'
import { Keyring } from '../registry/envelope.ts'
import { checkMasterKey, KeyCheckError } from '../registry/key-check.ts'
import { readCa } from '../registry/lib/ca.ts'
import { withDeadline } from '../registry/lib/deadline.ts'
import { Fault } from '../registry/lib/errors.ts'
import type { Log } from '../registry/lib/log.ts'
import { SpanExporter } from '../registry/lib/trace/exporter.ts'
import { showExporter } from '../registry/lib/trace/exporter-metrics.ts'
import { traceOptions } from '../registry/lib/trace/otel-env.ts'
import { Membership } from '../registry/membership.ts'
import { RegistryStore } from '../registry/store.ts'
import type { TenantQuery } from '../registry/tenant.ts'
import { changedSince, type TenantChange } from '../registry/tenant-changes.ts'
import { TenantWatch } from '../registry/watch.ts'
import { isDebugged, makeAccessLog } from './access-log.ts'
import { openAdmission } from './admission/open-admission.ts'
import { type GatewayConfig, tlsNamesOf } from './config.ts'
import { makeCors } from './cors.ts'
import { showEdge } from './edge-metrics.ts'
import type { Exchange } from './exchange.ts'
import { fleetConfig, startFleet } from './fleet/start-fleet.ts'
import { Suspicions } from './fleet/suspicions.ts'
import { poolMaxPerReplica } from './fleet/tenant-spread.ts'
import { clientAddress } from './forwarded.ts'
import { makeHandle, type Pipeline } from './handle.ts'
import { openHolds } from './hold/open-holds.ts'
import { Http1Server } from './http1/server-listener.ts'
import { TimerWheel } from './http1/timer-wheel.ts'
import { makeIdentifier } from './identify/identify.ts'
import { secretKey } from './identify/token.ts'
import { openLive } from './live/open-live.ts'
import { PULSE_TENANTS_MAX, Pulse } from './live/pulse.ts'
import { LoginGuard } from './login/guard.ts'
import { openMetering } from './metering/open-metering.ts'
import { type Gauges, makeMetrics } from './metrics.ts'
import { OpenSockets } from './open-sockets.ts'
import { Overload } from './overload.ts'
import { makeOwnUsage } from './own-usage.ts'
import { showParts } from './parts-metrics.ts'
import { makeRecheck } from './recheck.ts'
import { RegistryMetrics } from './registry-metrics.ts'
import { Revocations } from './revocation.ts'
import { makeRouter, type Route } from './route.ts'
import { makeShedding } from './shed.ts'
import { ContextHolder } from './sign.ts'
import { recordSpans } from './spans.ts'
import { TenantSeries } from './tenant-series.ts'
import { TlsKeys } from './tls/tls-keys.ts'
import { openIssuers } from './token-issuers.ts'
import { makeUpgrader } from './upgrade.ts'
import { makeCheckClient, makeUpstreamClient } from './upstream/make-client.ts'
import { RetryBudget } from './upstream/retry.ts'

export interface Gateway {
  readonly publicAddress: AddressInfo
  readonly metrics: Registry
  /** null: ready; else what is missing, in words. */
  readonly whyNotReady: () => string | null
  /** Looks at the files of TLS now; does nothing where there are none. */
  reloadCertificates(): Promise<void>
  /**
   * Not ready, then no new connection; requests in flight have `drainMs` to end. Resolves within a second after them, whatever
   * hangs.
   *
   * @returns false: usage was lost, see `Metering.close`
   */
  stop(drainMs: number, pauses?: DrainPauses): Promise<boolean>
}

/** Parts of the drain's time, in milliseconds; 0 where absent. */
export interface DrainPauses {
  /** Not ready, and new connections are served all the same: balancers see it before one is refused. */
  readonly noticeMs?: number
  /**
   * Idle clients are let go after it: until then each gets one more answer, with which its connection
   * ends, so that a request that crosses the end of its connection is rare.
   */
  readonly idleGraceMs?: number
}

export interface GatewayHooks {
  /** A wrong master key, found when the Registry could be asked. */
  onFatal(error: Error): void
  /** The Registry was reached: tenants can be served. */
  onReady?(): void
  /** The public port is opened once this resolves with its number. */
  beforeListen?(): Promise<number>
  /** Shared by all workers, so that a TLS session of one is resumed by another. */
  readonly ticketKeys?: Buffer
  /** Which worker of its primary this is. */
  readonly worker?: number
}

const REGISTRY_RETRY_MS = 1000
const LOGIN_BODY_DEADLINE_MS = 10_000
const DRAIN_POLL_MS = 20
/** For the last of the usage, where the drain took all its time. */
const METERING_CLOSE_MS = 500
/**
 * To leave the Registry and close connections, where the drain took all its time, and where it did not: a Registry that hangs would take
 * some seconds, of which the grace after the drain has one.
 */
const LEAVE_MS = 250
const LEAVE_MS_MAX = 3000
/** For the last spans, where the drain took all its time, and where it did not. */
const SPANS_CLOSE_MS = 200
const SPANS_CLOSE_MS_MAX = 2000
/** A client that closed its side has left, unless its answer moves within this; its replica is freed within 1 s. */
const HALF_CLOSE_MS = 500

/**
 * Builds the whole gateway and listens. Resolves when it listens, also while the Registry is down: it
 * then is live but not ready, and answers 503 until the Registry is back.
 */
export async function startGateway(
  config: GatewayConfig,
  log: Log,
  hooks: GatewayHooks,
): Promise<Gateway> {
  const certificates = await TlsKeys.open({
    names: tlsNamesOf(config),
    ticketKeys: hooks.ticketKeys,
    reloadMs: config.TLS_RELOAD_MS,
    log,
  })
  const keyring = await Keyring.derive([
    config.MASTER_ENCRYPTION_KEY,
    ...config.MASTER_ENCRYPTION_KEY_PREVIOUS,
  ])
  const minter = await makeContextMinter(
    config.TENANT_CONTEXT_SIGNING_KEY,
    config.TENANT_CONTEXT_ENCRYPTION_KEY,
  )
  const ca = await readCa(config.REGISTRY_DB_SSL_CA, 'REGISTRY_DB_SSL_CA')
  const tls = ca === undefined ? {} : { ca }
  const store = new RegistryStore({
    ...tls,
    url: config.TENANT_REGISTRY_DB_URL,
    poolMax: config.REGISTRY_DB_POOL_MAX,
    queryTimeoutMs: config.REGISTRY_QUERY_TIMEOUT_MS,
    applicationName: 'doorman-gateway',
    log,
  })
  const startedAtMs = Date.now()
  let isOpen = false
  let isDraining = false
  let inFlight = 0

  const sockets = new OpenSockets()
  const pulse: Pulse = new Pulse(PULSE_TENANTS_MAX, id => tenantSeries.cellOf(id))
  const tenantSeries: TenantSeries = new TenantSeries({
    tenantsMax: config.METRICS_TENANTS_MAX,
    busiest: (count, nowMs) => pulse.busiest(count, nowMs),
    assign: (id, cell) => pulse.assign(id, cell),
  })
  const version = await readVersion()
  const membership = new Membership({
    store,
    log,
    worker: hooks.worker ?? 0,
    version,
  })
  const revocations = new Revocations({
    store,
    sockets,
    log,
    entriesMax: config.REVOKED_TOKENS_MAX,
  })
  const overload = new Overload({
    loopDelayMs: config.OVERLOAD_LOOP_DELAY_MS,
    inFlightMax: config.IN_FLIGHT_MAX,
    weightOf: tenant => admitted.admission.weightOf(tenant),
  })
  const registryMetrics = new RegistryMetrics()
  const cache = new TenantCache({
    // Before the master key is known to be right no tenant is served.
    load: (ref: TenantQuery) =>
      isOpen
        ? store.find(ref)
        : Promise.reject(new Fault('REGISTRY_UNAVAILABLE', 'the Registry was not reached yet')),
    entriesMax: config.TENANT_CACHE_ENTRIES,
    freshMs: config.TENANT_CACHE_TTL_MS,
    metrics: registryMetrics,
    log,
  })
  const recheck = makeRecheck({
    tenants: cache,
    sockets,
    isRevoked: exchange => revocations.isRevoked(exchange),
    log,
  })
  const watch = new TenantWatch({
    ...tls,
    url: config.TENANT_REGISTRY_DB_URL,
    changedSince: cursor => changedSince(store, cursor),
    log,
    onChange(change: TenantChange) {
      cache.invalidate(change)
      if (sockets.has(change.id)) recheck.tenant(change.id)
    },
    onGap() {
      cache.suspectAll()
      for (const id of sockets.tenants()) recheck.tenant(id)
      admitted.plans.refresh()
    },
    onRevocation: revocation => revocations.learn(revocation),
    onRevocationGap: () => revocations.load(),
    onHold: notice => holds.learn(notice),
    onQuestion: asked => live.take(asked),
    onPlans: () => admitted.plans.refresh(),
    onShareWanted: instance => admitted.onShareWanted(instance),
    onHealth(isHealthy) {
      cache.isWatched = isHealthy
    },
  })

  const wheel = new TimerWheel()
  const client = makeUpstreamClient(config, wheel, null)
  // Production connects to a tenant's own deployment only where a tenant may have one.
  const ownAddresses = config.NODE_ENV === 'production' ? config.TENANT_ADDRESS_ALLOW : null
  const ownClient = makeUpstreamClient(config, wheel, ownAddresses)
  const running = await startFleet(fleetConfig(config, log), makeCheckClient(config, wheel), client)
  const { fleet } = running
  const held = openHolds({ config, store, membership, wheel, fleet, sockets, tenants: cache, log })
  const { holds } = held
  const suspicions = new Suspicions(id => cache.suspect(id))
  const trusted = config.TRUSTED_PROXIES
  const cors = makeCors(config.FRONTEND_URL)
  const contactAgeMs = () => Date.now() - (watch.lastContactAtMs ?? startedAtMs)
  const gauges: Gauges = {
    inFlight: () => inFlight,
    openSockets: () => sockets.count,
    held: () => ({ tenants: holds.tenants, requests: holds.waiting }),
    liveGateways: () => membership.live,
    overload,
    clientConnections: () => ingress.connectionCount,
    cutByCap: () => ({ refused: ingress.turnedAway, evicted: ingress.evicted }),
    cachedTenants: () => cache.size,
    revokedTokens: () => revocations.tokens.size,
    unwrittenRevocations: () => revocations.unwritten,
    tokenVerifications: () => issuers.verifying,
    isListenerHealthy: () => watch.isHealthy,
    fleet: () => fleet.figures,
    replicas: () => ({ all: running.members.all.length, ranked: fleet.ranked.length }),
    registryContactAgeS: () => contactAgeMs() / 1000,
  }
  const metrics = makeMetrics(gauges, tenantSeries)
  const retries = new RetryBudget()
  const caches = (): [string, number, number][] => [
    ['tenants', cache.size, config.TENANT_CACHE_ENTRIES],
    ['absent tenants', cache.absentSize, 3 * ABSENT_MAX],
    ['revoked tokens', revocations.tokens.size, config.REVOKED_TOKENS_MAX],
    ['tenants with traffic', pulse.size, PULSE_TENANTS_MAX],
    ['tokens', identifier.knownTokens, config.JWT_CACHE_ENTRIES],
    ['contexts', contexts.size, config.TENANT_CACHE_ENTRIES],
  ]
  const upstream = () => {
    const origins = running.members.all.map(({ origin }) => origin)
    const sum = (of: (origin: string) => number) => origins.reduce((n, o) => n + of(o), 0)
    return {
      connections: sum(origin => client.connectionCount(origin)),
      waiting: sum(origin => client.queueLength(origin)),
    }
  }
  showParts(metrics.registry, { caches, upstream, retries, store })
  const admitted = openAdmission({
    ...{ config, store, membership, wheel, log },
    replicas: () => fleet.ranked.length,
    metrics: metrics.registry,
  })
  const { admission, gate, tarpit } = admitted
  registryMetrics.show(metrics.registry, { watch, cache, keyring })
  const traces = traceOptions(config, {
    'service.name': 'doorman-gateway',
    'service.version': version,
    'service.instance.id': membership.id,
  })
  const spans = traces === null ? null : new SpanExporter({ ...traces.exporter, log })
  showExporter(metrics.registry, 'doorman_', spans)
  const { id: instance } = membership
  const metering = openMetering({ config, store, instance, registry: metrics.registry, log })
  const answered = (exchange: Exchange) => {
    metering.meter.answered(exchange)
    admission.answered(exchange)
  }
  const issuers = openIssuers(config, cache, log, metrics.countKeyRead)
  const keysOf = (secrets: readonly string[]) => secrets.map(secretKey)
  const logExchange = makeAccessLog(log, config.ACCESS_LOG_PERCENT)
  const addressOf = (exchange: Exchange) =>
    exchange.head === null ? '' : clientAddress(exchange, trusted)
  const identifier = makeIdentifier({
    accessSecrets: keysOf([
      config.JWT_SECRET_ACCESS_TOKEN,
      ...config.JWT_SECRET_ACCESS_TOKEN_PREVIOUS,
    ]),
    refreshSecrets: keysOf([
      config.JWT_SECRET_REFRESH_TOKEN,
      ...config.JWT_SECRET_REFRESH_TOKEN_PREVIOUS,
    ]),
    revoked: revocations.tokens,
    issuers,
    tenants: cache,
    verdictsMax: config.JWT_CACHE_ENTRIES,
    loginBodyBytesMax: config.LOGIN_BODY_BYTES_MAX,
    loginBodyDeadlineMs: LOGIN_BODY_DEADLINE_MS,
    appDomain: config.APP_DOMAIN ?? null,
  })
  // Sockets and event streams cost next to nothing while silent, nor does who waits for its own client or
  // in line behind a hold: the caps on connections, and of the line, are for them.
  const others = () =>
    inFlight - 1 - sockets.count - identifier.awaiting - holds.waiting - gate.waiting - tarpit.size
  const contexts = new ContextHolder(minter, keyring, config.TENANT_CACHE_ENTRIES, tenant =>
    poolMaxPerReplica(tenant, config.TENANT_SPREAD),
  )
  const logins = new LoginGuard({
    limit: {
      max: config.LOGIN_FAILURES_MAX,
      perAccountMax: config.LOGIN_FAILURES_PER_ACCOUNT_MAX,
      perAddressMax: config.LOGIN_FAILURES_PER_ADDRESS_MAX,
      windowMs: config.LOGIN_FAILURES_WINDOW_MS,
    },
    addressOf,
  })
  const pipeline: Pipeline = {
    headFieldsMax: config.HEAD_FIELDS_MAX,
    sampler: traces?.sampler ?? null,
    router: makeRouter(routesOf(config)),
    identifier,
    tenants: cache,
    decoyKey: config.DECOY_TENANT_KEY,
    schemaMin: config.TENANT_SCHEMA_MIN,
    logins,
    admission,
    gate,
    tarpit,
    contexts,
    holds,
    isRevoked: exchange => revocations.isRevoked(exchange),
    forward: {
      client,
      ownClient,
      fleet,
      retries,
      trusted,
      cors,
      admission: admitted.forwarding,
      revoke: exchange => revocations.revokeTokenOf(exchange),
      guardStream: recheck.guard,
      answered,
      suspect: (tenant, nowMs) => suspicions.add(tenant.id, nowMs),
    },
    answer: { cors, expiredTokenStatus: config.EXPIRED_TOKEN_STATUS },
    shedding: makeShedding({ overload, others, identifier, logins, admission }),
    upgrader: makeUpgrader({
      fleet,
      trusted,
      sockets,
      perTenantMax: Math.ceil(
        (config.CLIENT_CONNECTIONS_MAX * config.UPSTREAM_TENANT_SHARE_PERCENT) / 100,
      ),
      answered,
      recheck: recheck.opened,
      ownAddresses,
      handshakeTimeoutMs: config.UPSTREAM_HEAD_TIMEOUT_MS,
      ca: config.UPSTREAM_SSL_CA,
      log,
    }),
    answerUsage: makeOwnUsage({ store, cors }),
    onFinished(exchange: Exchange) {
      inFlight--
      const tookMs = performance.now() - exchange.startedAt
      const nowMs = Date.now()
      metering.meter.finished(exchange, tookMs)
      metrics.observe(exchange, pulse.note(exchange, nowMs), tookMs, nowMs)
      if (spans !== null && (exchange.isTraceKept || isDebugged(exchange, nowMs)))
        recordSpans(spans, exchange, addressOf, tookMs)
      if (exchange.errorCode === 'OVERLOADED' && !overload.isLineDue()) return
      if (!isDebugged(exchange, nowMs) && admission.isTooManyLines(exchange)) return
      logExchange(exchange, addressOf, tookMs, nowMs)
    },
  }

  const handle = makeHandle(pipeline)
  const ingress = new Http1Server({
    wheel,
    log,
    timeouts: {
      headMs: config.HEAD_TIMEOUT_MS,
      bodyIdleMs: config.BODY_IDLE_TIMEOUT_MS,
      bodyRateWindowMs: config.BODY_RATE_WINDOW_MS,
      writeStallMs: config.WRITE_STALL_TIMEOUT_MS,
      keepAliveMs: config.CLIENT_IDLE_TIMEOUT_MS,
      halfCloseMs: HALF_CLOSE_MS,
    },
    limits: {
      headBytesMax: config.HEAD_BYTES_MAX,
      headFieldsMax: config.HEAD_FIELDS_MAX,
      bodyBytesPerSMin: config.BODY_RATE_MIN_BYTES_PER_S,
      connectionsMax: config.CLIENT_CONNECTIONS_MAX,
      connectionsPerAddressMax: config.CLIENT_CONNECTIONS_PER_ADDRESS_MAX,
    },
    carriesManyClients: address => trusted.trusts(address),
    handle(exchange) {
      inFlight++
      handle(exchange)
    },
    onRefused: fault => metrics.refuse(fault),
    tls: certificates,
    hstsMaxAgeS: config.HSTS_MAX_AGE_S,
    proxy:
      config.PROXY_PROTOCOL === 'off'
        ? null
        : { versions: config.PROXY_PROTOCOL, trusts: trusted.trusts },
    onOpeningFailed: showEdge(metrics.registry, certificates),
  })
  const live = openLive({
    ...{ config, store, membership, wheel, tenants: cache, contexts, fleet, holds, sockets, log },
    ...{ overload, pulse, ownAddresses, members: running.members, traffic: client },
    gauges: {
      inFlight: () => inFlight,
      clientConnections: () => ingress.connectionCount,
      clientConnectionsMax: config.CLIENT_CONNECTIONS_MAX,
      isReady: () => isOpen && !isDraining,
      isListenerHealthy: () => watch.isHealthy,
      registryContactAgeMs: contactAgeMs,
      caches,
    },
  })
  const openWhenRegistryAnswers = async () => {
    while (!isOpen && !isDraining) {
      try {
        const missing = await checkMasterKey(store, keyring)
        if (missing.length > 0) log.warn({ missing }, 'master keys that are in use and not given')
        // Before the first token is served: a revoked one must not come back by a restart.
        await revocations.load()
        // In this order: an operator who sees this gateway too late has placed a hold that it reads here.
        await membership.join()
        await held.load()
        await admitted.load()
        isOpen = true
        log.info('Registry reached, ready')
        hooks.onReady?.()
      } catch (error) {
        if (error instanceof KeyCheckError) return hooks.onFatal(error)
        log.warn({ err: error }, 'Registry not reached')
        await delay(REGISTRY_RETRY_MS)
      }
    }
  }

  overload.start()
  watch.start()
  void openWhenRegistryAnswers()
  const port = (await hooks.beforeListen?.()) ?? config.PORT
  await ingress.listen(port, config.HOST)
  membership.address = addressText(ingress.address)

  return {
    publicAddress: ingress.address,
    metrics: metrics.registry,
    whyNotReady: () =>
      isDraining ? 'draining' : isOpen ? null : 'the Registry was not reached yet',
    reloadCertificates: async () => certificates?.reload(),
    async stop(drainMs, { noticeMs = 0, idleGraceMs = 0 } = {}) {
      isDraining = true
      const deadline = performance.now() + drainMs
      const leftMs = () => Math.max(0, deadline - performance.now())
      if (noticeMs > 0) await delay(Math.min(noticeMs, drainMs / 2))
      certificates?.close()
      const drained = ingress.drain(leftMs(), idleGraceMs)
      if (idleGraceMs > 0) await Promise.race([drained, delay(Math.min(idleGraceMs, leftMs()))])
      while (inFlight > 0 && leftMs() > 0) {
        // Not once: one that was admitted before may be spliced only now.
        sockets.goAway()
        await delay(DRAIN_POLL_MS)
      }
      sockets.close()
      await drained
      overload.stop()
      await running.stop()
      held.close()
      const lastMs = Math.max(METERING_CLOSE_MS, leftMs())
      const late = () => new Error('not done in time')
      const [isUsageKept] = await Promise.all([
        metering.close(lastMs),
        withDeadline(revocations.close(), lastMs, late).catch(() =>
          log.error({ revocations: revocations.unwritten }, 'revocations were not written'),
        ),
        spans?.close(Math.max(SPANS_CLOSE_MS, Math.min(SPANS_CLOSE_MS_MAX, leftMs()))),
      ])
      admitted.close()
      const leave = async () => {
        await membership.leave()
        await Promise.all([watch.stop(), live.close(), client.close(), ownClient.close()])
        await store.close()
      }
      const leaveMs = Math.max(LEAVE_MS, Math.min(LEAVE_MS_MAX, leftMs()))
      await withDeadline(leave(), leaveMs, late).catch(error =>
        log.warn({ err: error }, 'connections are left as they are'),
      )
      return isUsageKept
    },
  }
}

/** With a decoy the app makes all answers at login: none of them may be replaced. */
function routesOf({ ROUTES_FILE: routes, DECOY_TENANT_KEY }: GatewayConfig): readonly Route[] {
  if (DECOY_TENANT_KEY === null) return routes
  return routes.map(route => ({ ...route, refusals: 'app' }))
}

/** As the console shows it. */
function addressText({ address, family, port }: AddressInfo): string {
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`
}

async function readVersion(): Promise<string> {
  const manifest = await readFile(join(import.meta.dirname, '../package.json'), 'utf8')
  return String((JSON.parse(manifest) as { version: unknown }).version)
}
