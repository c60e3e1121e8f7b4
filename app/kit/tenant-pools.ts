import type { ContextClaims } from '../../registry/context.ts'
import { Fault } from '../../registry/lib/errors.ts'
import type { Log } from '../../registry/lib/log.ts'
import type { TenantId } from '../../registry/tenant.ts'
import { ConnectionBudget } from './budget.ts'
import { fingerprint } from './fingerprint.ts'
import { type PoolOptions, TenantPool } from './tenant-pool.ts'

/** The right to use one tenant's pool for the time of one request. */
export interface PoolLease {
  readonly pool: TenantPool
  /** To be called once; a further call does nothing. */
  release(): void
}

export interface PoolFigures {
  readonly pools: number
  readonly connections: number
  readonly leases: number
  readonly waiting: number
}

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
  readonly #log: Log
  readonly #budget: ConnectionBudget
  /** Least recently leased first. */
  readonly #pools = new Map<string, TenantPool>()
  /** Newest details per tenant that has a pool. */
  readonly #current = new Map<TenantId, Current>()
  readonly #ending = new Set<Promise<void>>()
  readonly #sweeper: NodeJS.Timeout
  #isClosed = false

  constructor(options: PoolOptions, log: Log) {
    this.#options = options
    this.#log = log
    this.#budget = new ConnectionBudget(
      options.connectionsTotalMax,
      options.checkoutMs,
      options.waitersMax,
    )
    this.#budget.evictIdle = () => [...this.#pools.values()].some(pool => pool.evictOne())
    this.#sweeper = setInterval(() => this.#sweep(), Math.min(options.poolIdleMs, 10_000))
    this.#sweeper.unref()
  }

  get figures(): PoolFigures {
    const pools = [...this.#pools.values()]
    const sum = (of: (pool: TenantPool) => number) => pools.reduce((n, pool) => n + of(pool), 0)
    return {
      pools: pools.length,
      connections: this.#budget.used,
      leases: sum(pool => pool.leases),
      waiting: sum(pool => pool.waiting),
    }
  }

  /** @throws Fault POOL_EXHAUSTED where every pool of a full replica is in use */
  lease(claims: ContextClaims): PoolLease {
    if (this.#isClosed) throw new Fault('SHUTTING_DOWN', 'the pools are closed')
    const { db } = claims
    const key = `${claims.tid}:${fingerprint([
      db.host,
      db.port,
      db.name,
      db.user,
      db.password,
      db.ssl,
      db.pool_max,
    ])}`
    let pool = this.#pools.get(key)
    if (pool === undefined) {
      this.#makeRoom()
      pool = new TenantPool(key, db, this.#options, this.#budget, this.#log)
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
      this.#end(pool)
      return
    }
    throw new Fault('POOL_EXHAUSTED', 'every pool of the replica is in use: DB_POOLS_MAX')
  }

  #sweep(): void {
    const oldest = Date.now() - this.#options.poolIdleMs
    for (const pool of [...this.#pools.values()]) {
      if (pool.leases === 0 && pool.lastUsedAt < oldest) this.#end(pool)
    }
  }

  #end(pool: TenantPool): void {
    this.#pools.delete(pool.key)
    const tenant = pool.key.slice(0, 36) as TenantId
    if (this.#current.get(tenant)?.key === pool.key) this.#current.delete(tenant)
    const ending = pool.end().catch(error => {
      this.#log.warn({ reason: String(error) }, 'pool did not end cleanly')
    })
    this.#ending.add(ending)
    ending.finally(() => this.#ending.delete(ending))
  }
}
