import type { JSONWebKeySet } from 'jose'
import { makeContextVerifier } from '../../registry/context.ts'
import { type AddressPolicy, makeAddressPolicy } from '../../registry/lib/address.ts'
import { type Log, makeLog } from '../../registry/lib/log.ts'
import type { Tracer } from '../../registry/lib/trace/tracer.ts'
import { makeGate } from './gate.ts'
import { type KitEvents, NO_EVENTS } from './kit-events.ts'
import { makeReplayGuard } from './replay-guard.ts'
import { type BucketOptions, TenantBuckets } from './tenant-buckets.ts'
import { makeTenantKit, type ReplicaName, type TenantKit } from './tenant-kit.ts'
import type { PoolOptions } from './tenant-pool.ts'
import { TenantPools } from './tenant-pools.ts'

export interface KitOptions {
  /** JWKS of the gateway's public signing keys. */
  readonly publicKeys: JSONWebKeySet
  /** Content keys of the context: 32 bytes each, base64url. */
  readonly contentKeys: readonly string[]
  /** Where tenants' databases and buckets may be; null: anywhere. Default: the ranges of production. */
  readonly addressPolicy?: AddressPolicy | null
  /** Verified contexts that are kept; twice as many tenants have their newest version remembered. */
  readonly contextsMax?: number
  /** Request ids remembered against replay; a full memory refuses. */
  readonly replayIdsMax?: number
  readonly pools?: Partial<Omit<PoolOptions, 'addressPolicy'>>
  readonly buckets?: Partial<Omit<BucketOptions, 'addressPolicy'>>
  /** What operators are told that this replica and its release are called. */
  readonly replica?: Partial<ReplicaName>
  /** Default: warnings to standard output. */
  readonly log?: Log
  /** For metrics. */
  readonly events?: KitEvents
  /** For traces; null: none are exported. */
  readonly tracer?: Tracer | null
}

/** The kit with what stands behind it, for metrics. */
export interface OpenKit {
  readonly kit: TenantKit
  readonly pools: TenantPools
  readonly buckets: TenantBuckets
}

/** Defaults of the app, one word for the environment and for other APIs. Times in milliseconds. */
export const KIT_DEFAULTS = {
  contextsMax: 8192,
  replayIdsMax: 500_000,
  pools: {
    connectionsMax: 5,
    connectionsMin: 0,
    connectionsTotalMax: 200,
    // PostgreSQL admits 100 by default, 3 of them reserved: two replicas, and some left for migrations.
    connectionsPerServerMax: 45,
    connectMs: 3000,
    checkoutMs: 3000,
    waitersMax: 256,
    connectionIdleMs: 20_000,
    poolIdleMs: 90_000,
    poolsMax: 1024,
    statementTimeoutMs: 30_000,
    idleInTransactionMs: 15_000,
    cancelsMax: 32,
    breaker: { failuresMax: 3, backoffMs: 1000, backoffMaxMs: 15_000 },
    sslCa: null,
    applicationName: 'doorman-app',
  },
  buckets: {
    defaultBucket: null,
    clientsMax: 256,
    clientIdleMs: 90_000,
    connectMs: 3000,
    idleMs: 60_000,
    socketsMax: 50,
    breaker: { failuresMax: 3, backoffMs: 1000, backoffMaxMs: 15_000, probeMs: 10_000 },
  },
} as const satisfies Partial<KitOptions>

/**
 * The app side of Doorman as plain functions: `admit` a request, then `run` work with its tenant's
 * resources; `close` it in the end.
 *
 * @throws Error on keys that are none
 */
export async function openTenantKit(options: KitOptions): Promise<OpenKit> {
  const { contextsMax = KIT_DEFAULTS.contextsMax, replayIdsMax = KIT_DEFAULTS.replayIdsMax } =
    options
  const {
    addressPolicy = makeAddressPolicy([]),
    log = makeLog('app', 'warn'),
    events = NO_EVENTS,
  } = options
  const verifier = await makeContextVerifier(options.publicKeys, options.contentKeys)
  const gate = makeGate({
    verifier,
    replayGuard: makeReplayGuard(replayIdsMax),
    contextsMax,
    versionsMax: contextsMax * 2,
    tracer: options.tracer ?? null,
  })
  const pools = new TenantPools(
    { ...KIT_DEFAULTS.pools, ...options.pools, addressPolicy },
    events,
    log,
  )
  const buckets = new TenantBuckets(
    { ...KIT_DEFAULTS.buckets, ...options.buckets, addressPolicy },
    events,
  )
  const replica = { name: null, version: null, ...options.replica }
  return { kit: makeTenantKit(gate, pools, buckets, replica), pools, buckets }
}
