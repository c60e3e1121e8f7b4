import type { Principal } from '../../registry/context.ts'
import { Fault } from '../../registry/lib/errors.ts'
import type { AppState, ReplicaState } from '../../registry/live/answers.ts'
import type { TenantId, TenantKey, TenantMode } from '../../registry/tenant.ts'
import { type Db, makeDb } from './db.ts'
import type { Admitted, Gate, RequestFacts } from './gate.ts'
import { makeTenantBucket, type TenantBucket } from './tenant-bucket.ts'
import type { TenantBuckets } from './tenant-buckets.ts'
import type { TenantPools } from './tenant-pools.ts'
import { tracedBucket } from './traced.ts'

/**
 * All that a handler sees: one tenant, one user, that tenant's database and files. Connection details,
 * pools and other tenants are out of its reach by construction.
 */
export interface Scope {
  readonly tenant: { readonly id: TenantId; readonly key: TenantKey; readonly mode: TenantMode }
  readonly principal: Principal
  readonly requestId: string
  readonly db: Db
  readonly bucket: TenantBucket
  /** Aborts where the client leaves; statements and file operations that run by then are cancelled. */
  readonly signal: AbortSignal
  /** Runs once the request's work is committed, and never where it was rolled back. */
  onCommit(effect: () => void): void
}

/** The user of a request that must have one. */
export interface User {
  readonly id: string
  readonly email: string | null
  /** Seconds since the epoch; null where the token's end is not known. */
  readonly expiresAtS: number | null
}

/** @throws Fault TOKEN_MISSING on a route without a user */
export function requireUser(principal: Principal): User {
  if (principal.sub === undefined) throw new Fault('TOKEN_MISSING', 'the principal is empty')
  return {
    id: principal.sub,
    email: principal.email ?? null,
    expiresAtS: principal.exp ?? null,
  }
}

/** The app side of Doorman for any HTTP framework: `admit` first, then `run`. */
export interface TenantKit {
  /** Verifies both headers. To be called before anything of the request is read. */
  admit(facts: RequestFacts): Promise<Admitted>
  /**
   * Runs `work` with the tenant's resources and gives them back whatever happens.
   *
   * @param isTransactional one transaction around all of `work`: committed when it resolves
   * @param signal aborted where the request's client leaves; as a function it is asked at first use
   */
  run<T>(
    admitted: Admitted,
    isTransactional: boolean,
    work: (scope: Scope) => Promise<T>,
    signal?: AbortSignal | (() => AbortSignal),
  ): Promise<T>
  /**
   * What is open here for the tenant of a request, to be answered at `STATE_PATH` and nowhere else: the gateway
   * asks there by itself.
   *
   * @throws Fault ROUTE_NOT_FOUND where a user asks
   */
  stateOf(admitted: Admitted): AppState
  /** The same of the replica as a whole, at `REPLICA_PATH`. */
  replicaState(admitted: Admitted): ReplicaState
  /** Ends pools and clients; queries that run are not cut. */
  close(): Promise<void>
}

/** What a replica is called, for operators. */
export interface ReplicaName {
  readonly name: string | null
  readonly version: string | null
}

export function makeTenantKit(
  gate: Gate,
  pools: TenantPools,
  buckets: TenantBuckets,
  replica: ReplicaName,
): TenantKit {
  return {
    admit: facts => gate.admit(facts, Date.now()),

    async run({ claims, principal, requestId, trace }, isTransactional, work, signal) {
      const signalOf = () => (typeof signal === 'function' ? signal() : (signal ?? null))
      const db = makeDb(() => pools.lease(claims), signalOf, trace)
      const effects: (() => void)[] = []
      const tenant = { id: claims.tid, key: claims.key, mode: claims.mode }
      const plain = makeTenantBucket(() => buckets.lease(claims), signalOf)
      const bucket = trace === null ? plain : tracedBucket(plain, trace)
      const scopeOf = (db: Db): Scope => ({
        tenant,
        principal,
        requestId,
        db,
        bucket,
        get signal() {
          return signalOf() ?? new AbortController().signal
        },
        onCommit: effect => effects.push(effect),
      })
      try {
        const result = isTransactional
          ? await db.transaction(tx =>
              work(scopeOf({ query: tx.query, transaction: inner => inner(tx) })),
            )
          : await work(scopeOf(db))
        for (const effect of effects) effect()
        return result
      } finally {
        db.release()
      }
    },

    stateOf(admitted) {
      requireGateway(admitted)
      const { tid } = admitted.claims
      return { ...pools.stateOf(tid), bucket: buckets.stateOf(tid) }
    },

    replicaState(admitted) {
      requireGateway(admitted)
      const { figures } = pools
      return {
        ...replica,
        uptime_ms: Math.round(process.uptime() * 1000),
        rss_bytes: process.memoryUsage.rss(),
        db_connections: figures.connections,
        db_connections_max: figures.connectionsMax,
        db_connections_of_busiest_server: figures.connectionsOfBusiestServer,
        db_connections_per_server_max: figures.connectionsPerServerMax,
        pools: figures.pools,
        pools_max: figures.poolsMax,
        waiting: figures.waiting,
        tenants_in_line: figures.poolsInLine,
        db_breakers_open: figures.breakersOpen,
        bucket_breakers_open: buckets.breakersOpen,
      }
    },

    async close() {
      await pools.close()
      buckets.close()
    },
  }
}

/** The gateway forwards no client there. Should a proxy of another kind do so: this is not for users. */
function requireGateway({ principal }: Admitted): void {
  if (Object.keys(principal).length === 0) return
  throw new Fault('ROUTE_NOT_FOUND', 'a user asked for what is between gateway and app')
}
