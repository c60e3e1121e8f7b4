import type { ContextClaims } from '../../registry/context.ts'
import { Fault } from '../../registry/lib/errors.ts'
import type { Log } from '../../registry/lib/log.ts'
import type { AppState } from '../../registry/live/answers.ts'
import type { TenantId } from '../../registry/tenant.ts'
import { ConnectionBudget } from './budget.ts'
import { Cancels } from './db-cancel.ts'
import { fingerprint } from './fingerprint.ts'
import type { KitEvents } from './kit-events.ts'
import { type PoolOptions, type PoolParts, TenantPool } from './tenant-pool.ts'

/** The right to use one tenant's pool for the time of one request. */
export interface PoolLease {
  readonly pool: TenantPool
  /** To be called once; a further call does nothing. */
  release(): void
}

export interface PoolFigures {
  readonly pools: number
  readonly poolsMax: number
  /** All sockets of the replica; the next four are parts of it, but for sockets that failed a moment ago. */
  readonly connections: number
  readonly connecting: number
  readonly idle: number
  readonly active: number
  readonly closing: number
  readonly connectionsMax: number
  /** Sockets to the server that has most of them. */
  readonly connectionsOfBusiestServer: number
  readonly connectionsPerServerMax: number
  readonly leases: number
  /** Requests that wait for a connection. */
  readonly waiting: number
  /** Pools that wait for a slot of the budget. */
  readonly poolsInLine: number
  readonly breakersOpen: number
}

/** More than one is what a change of its details left behind. */
const POOLS_TOLD_MAX = 16

interface Current {
  readonly version: number
  readonly key: string
}

/**
 * The pools of all tenants of this replica. A pool is found by the claims of a verified context and by
 * nothing else: its key is made of the tenant and of all that leads to the database.
 */
export class TenantPools {
  readonly #options: PoolOptions
  readonly #parts: PoolParts
  readonly #budget: ConnectionBudget
  /** Least recently leased first. */
  readonly #pools = new Map<string, TenantPool>()
  /** Newest details per tenant that has a pool. */
  readonly #current = new Map<TenantId, Current>()
  /** A context is used by many requests: its key is made once, and goes with it. */
  readonly #keys = new WeakMap<ContextClaims, string>()
  /** Pools that ended and wait for their last socket. */
  readonly #leaving = new Set<TenantPool>()
  readonly #ending = new Set<Promise<void>>()
  readonly #sweeper: NodeJS.Timeout
  #isClosed = false

  constructor(options: PoolOptions, events: KitEvents, log: Log) {
    this.#options = options
    const { connectionsTotalMax, connectionsPerServerMax, cancelsMax } = options
    this.#budget = new ConnectionBudget(connectionsTotalMax, connectionsPerServerMax)
    this.#budget.evictIdle = server => {
      for (const pool of this.#pools.values()) {
        if ((server === null || pool.server === server) && pool.evictIdle()) return true
      }
      return false
    }
    this.#parts = { budget: this.#budget, cancels: new Cancels(cancelsMax), events, log }
    this.#sweeper = setInterval(() => this.#sweep(), Math.min(options.poolIdleMs, 10_000))
    this.#sweeper.unref()
  }

  get figures(): PoolFigures {
    const sums = {
      connecting: 0,
      idle: 0,
      active: 0,
      closing: 0,
      leases: 0,
      waiting: 0,
      breakersOpen: 0,
    }
    for (const pool of [...this.#pools.values(), ...this.#leaving]) {
      sums.connecting += pool.connecting
      sums.idle += pool.idle
      sums.active += pool.active
      sums.closing += pool.closing
      sums.leases += pool.leases
      sums.waiting += pool.waiting
      sums.breakersOpen += pool.isBroken ? 1 : 0
    }
    return {
      ...sums,
      pools: this.#pools.size,
      poolsMax: this.#options.poolsMax,
      connections: this.#budget.used,
      connectionsMax: this.#budget.max,
      connectionsOfBusiestServer: this.#budget.usedOnBusiestServer,
      connectionsPerServerMax: this.#budget.serverMax,
      poolsInLine: this.#budget.wanting,
    }
  }

  /** The pools of one tenant, those that are ending included, and the version of the newest details among them. */
  stateOf(tenant: TenantId): Pick<AppState, 'version' | 'pools'> {
    const current = this.#current.get(tenant)
    const pools = [...this.#pools.values(), ...this.#leaving]
      .filter(({ key }) => tenantOf(key) === tenant)
      .slice(0, POOLS_TOLD_MAX)
    return {
      version: current?.version ?? null,
      pools: pools.map(pool => ({
        is_current: pool.key === current?.key && !this.#leaving.has(pool),
        ...{ size: pool.size, max: pool.max, connecting: pool.connecting, idle: pool.idle },
        ...{ active: pool.active, closing: pool.closing, waiting: pool.waiting },
        leases: pool.leases,
        breaker: pool.isBroken ? 'open' : 'closed',
      })),
    }
  }

  /** @throws Fault POOL_EXHAUSTED where every pool of a full replica is in use */
  lease(claims: ContextClaims): PoolLease {
    if (this.#isClosed) throw new Fault('SHUTTING_DOWN', 'the pools are closed')
    const key = this.#keyOf(claims)
    let pool = this.#pools.get(key)
    if (pool === undefined) {
      this.#makeRoom()
      pool = new TenantPool(key, claims.db, this.#options, this.#parts)
    } else {
      this.#pools.delete(key)
    }
    this.#pools.set(key, pool)
    this.#noteVersion(claims, pool)
    pool.leases += 1
    return this.#makeLease(pool)
  }

  /** Ends all pools; a query that runs is not cut. Resolves when every connection is given back. */
  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#sweeper)
    for (const pool of [...this.#pools.values()]) this.#end(pool)
    await Promise.all([...this.#ending])
  }

  #keyOf(claims: ContextClaims): string {
    let key = this.#keys.get(claims)
    if (key === undefined) {
      const { host, port, name, user, password, ssl, pool_max } = claims.db
      key = `${claims.tid}:${fingerprint([host, port, name, user, password, ssl, pool_max])}`
      this.#keys.set(claims, key)
    }
    return key
  }

  #makeLease(pool: TenantPool): PoolLease {
    let isReleased = false
    return {
      pool,
      release: () => {
        if (isReleased) return
        isReleased = true
        pool.leases -= 1
        pool.lastUsedAt = Date.now()
        if (pool.leases === 0 && pool.isSuperseded) this.#end(pool)
      },
    }
  }

  /**
   * The newest version's pool is the tenant's; the others drain. A request that was admitted before
   * the change and leases only now gets its own version's pool, for itself.
   */
  #noteVersion({ tid, ver }: ContextClaims, pool: TenantPool): void {
    const current = this.#current.get(tid)
    if (current !== undefined && ver < current.version && current.key !== pool.key) {
      pool.isSuperseded = true
      return
    }
    pool.isSuperseded = false
    if (current !== undefined && current.key !== pool.key) {
      const old = this.#pools.get(current.key)
      if (old !== undefined) {
        old.isSuperseded = true
        if (old.leases === 0) this.#end(old)
      }
    }
    this.#current.set(tid, { version: Math.max(ver, current?.version ?? 0), key: pool.key })
  }

  #makeRoom(): void {
    if (this.#pools.size < this.#options.poolsMax) return
    for (const pool of this.#pools.values()) {
      if (pool.leases > 0) continue
      this.#parts.events.evicted('pool')
      this.#end(pool)
      return
    }
    throw new Fault('POOL_EXHAUSTED', 'every pool of the replica is in use: DB_POOLS_MAX', {
      tenantFault: 'pool_exhausted',
    })
  }

  #sweep(): void {
    const oldest = Date.now() - this.#options.poolIdleMs
    for (const pool of [...this.#pools.values()]) {
      if (pool.leases === 0 && pool.lastUsedAt < oldest) this.#end(pool)
    }
  }

  #end(pool: TenantPool): void {
    this.#pools.delete(pool.key)
    const tenant = tenantOf(pool.key)
    if (this.#current.get(tenant)?.key === pool.key) this.#current.delete(tenant)
    this.#leaving.add(pool)
    const ending = pool.end().finally(() => {
      this.#leaving.delete(pool)
      this.#ending.delete(ending)
    })
    this.#ending.add(ending)
  }
}

function tenantOf(key: string): TenantId {
  return key.slice(0, 36) as TenantId
}
