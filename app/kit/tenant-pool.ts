import pg from 'pg'
import type { DbConnection } from '../../registry/connection.ts'
import type { AddressPolicy } from '../../registry/lib/address.ts'
import { withDeadline } from '../../registry/lib/deadline.ts'
import { Fault } from '../../registry/lib/errors.ts'
import { makeGuardedSocket } from '../../registry/lib/guarded-socket.ts'
import type { Log } from '../../registry/lib/log.ts'
import { sslOptions } from '../../registry/lib/pg.ts'
import type { ConnectionBudget } from './budget.ts'
import { makeClientClass } from './db-client.ts'
import { databaseFault } from './db-error.ts'

export interface PoolOptions {
  /** Connections per tenant where its context does not say. */
  readonly connectionsMax: number
  readonly connectionsMin: number
  /** Connections of the replica to all tenant databases. */
  readonly connectionsTotalMax: number
  readonly connectMs: number
  /** Longest wait for a free connection, and for the replica's budget. */
  readonly checkoutMs: number
  /** Requests of one tenant that may wait for a connection. */
  readonly waitersMax: number
  /** A connection that nobody used for so long is closed. */
  readonly connectionIdleMs: number
  /** A pool that nobody used for so long is ended. */
  readonly poolIdleMs: number
  readonly poolsMax: number
  readonly statementTimeoutMs: number
  readonly idleInTransactionMs: number
  /** PEM; null: `verify-full` uses the system's authorities and is not the default. */
  readonly sslCa: string | null
  /** null outside production: every address goes. */
  readonly addressPolicy: AddressPolicy | null
  readonly applicationName: string
}

/** After a failed connect the tenant's requests fail at once for so long, instead of queueing up. */
const RETRY_CONNECT_MS = 1000

interface Waiter {
  readonly grant: () => void
  readonly refuse: (fault: Fault) => void
}

/** The connections of one tenant with one set of connection details. */
export class TenantPool {
  readonly key: string
  /** Leases held by requests; the pool is ended only at 0. */
  leases = 0
  lastUsedAt = 0
  /** True once newer details replaced these: it ends with its last lease. */
  isSuperseded = false
  readonly #pool: pg.Pool
  readonly #options: PoolOptions
  readonly #budget: ConnectionBudget
  readonly #waiters = new Set<Waiter>()
  #permits: number
  /** Checkouts that were promised an idle connection and did not get it yet (pg-pool's next tick). */
  #idleClaimed = 0
  /** Slots of the budget that are taken for a socket about to be opened. */
  #reserved = 0
  #open = 0
  #brokenUntil = 0
  #brokenBy = ''
  #isEnded = false

  constructor(
    key: string,
    db: DbConnection,
    options: PoolOptions,
    budget: ConnectionBudget,
    log: Log,
  ) {
    this.key = key
    this.#options = options
    this.#budget = budget
    const max = Math.min(db.pool_max ?? options.connectionsMax, options.connectionsTotalMax)
    this.#permits = max
    const { addressPolicy } = options
    this.#pool = new pg.Pool({
      host: db.host,
      port: db.port,
      database: db.name,
      user: db.user,
      // A function, because an empty text would make the library look for PGPASSWORD and .pgpass.
      password: () => db.password,
      ssl: sslOptions(db.ssl, options.sslCa ?? undefined),
      max,
      min: Math.min(options.connectionsMin, max),
      idleTimeoutMillis: options.connectionIdleMs,
      // Deadlines are ours, see DeadlineClient and checkout.
      connectionTimeoutMillis: 0,
      keepAlive: true,
      statement_timeout: options.statementTimeoutMs,
      idle_in_transaction_session_timeout: options.idleInTransactionMs,
      // For a server that hangs without closing its socket; the server's own time-out comes first.
      query_timeout: options.statementTimeoutMs + 5000,
      application_name: options.applicationName,
      ...(addressPolicy === null ? {} : { stream: () => makeGuardedSocket(addressPolicy) }),
      Client: makeClientClass(options.connectMs, {
        onOpen: () => {
          this.#open += 1
          if (this.#reserved > 0) this.#reserved -= 1
          else budget.force()
        },
        onClose: () => {
          this.#open -= 1
          budget.give()
        },
      }) as unknown as new () => pg.ClientBase,
    })
    // An idle connection that breaks is dropped by the pool; without a listener it ends the process.
    this.#pool.on('error', error => log.warn({ reason: error.message }, 'idle connection lost'))
  }

  /** Open sockets, those that are still connecting or saying goodbye included. */
  get connections(): number {
    return this.#open
  }

  get waiting(): number {
    return this.#waiters.size
  }

  get hasIdle(): boolean {
    return this.#pool.idleCount > this.#idleClaimed
  }

  /**
   * A connection for exclusive use until `giveBack`.
   *
   * @throws Fault POOL_EXHAUSTED, TENANT_DATABASE_UNAVAILABLE, TENANT_CONFIG_INVALID
   */
  async checkout(): Promise<pg.PoolClient> {
    await this.#permit()
    try {
      const client = await this.#connect()
      client.on('error', ignoreError)
      return client
    } catch (error) {
      this.#givePermit()
      throw databaseFault(error)
    }
  }

  /** @param isBroken the session is in an unknown state and must not serve another request */
  giveBack(client: pg.PoolClient, isBroken: boolean): void {
    client.removeListener('error', ignoreError)
    // A busy tenant keeps one connection of a used-up budget and passes on the others.
    const isSpare = this.#waiters.size === 0 || this.#open > 1
    const isWantedElsewhere = this.#budget.hasWaiters && isSpare
    client.release(isBroken || this.isSuperseded || isWantedElsewhere)
    this.#givePermit()
  }

  /** Closes one idle connection; false where there is none. */
  evictOne(): boolean {
    if (this.#isEnded || !this.hasIdle) return false
    this.#idleClaimed += 1
    this.#pool.connect().then(
      client => {
        this.#idleClaimed -= 1
        client.release(true)
      },
      () => {
        this.#idleClaimed -= 1
      },
    )
    return true
  }

  /** Closes the idle connections and, when they come back, the others. */
  end(): Promise<void> {
    if (this.#isEnded) return Promise.resolve()
    this.#isEnded = true
    for (const waiter of [...this.#waiters]) {
      waiter.refuse(new Fault('SHUTTING_DOWN', 'the pool is ending'))
    }
    return this.#pool.end()
  }

  async #connect(): Promise<pg.PoolClient> {
    if (this.hasIdle) return this.#claimIdle()
    this.#requireUnbroken()
    await this.#budget.take()
    // The wait may have brought an idle connection, or the end.
    if (this.hasIdle) {
      this.#budget.give()
      return this.#claimIdle()
    }
    this.#reserved += 1
    const connecting = this.#pool.connect()
    // pg-pool makes the client at once; where it did not (the pool ended), no socket holds the slot.
    if (this.#reserved > 0) {
      this.#reserved -= 1
      this.#budget.give()
    }
    try {
      const client = await this.#withDeadline(connecting)
      this.#brokenUntil = 0
      return client
    } catch (error) {
      this.#brokenUntil = Date.now() + RETRY_CONNECT_MS
      this.#brokenBy = error instanceof Error ? error.message : String(error)
      throw error
    }
  }

  async #claimIdle(): Promise<pg.PoolClient> {
    this.#idleClaimed += 1
    try {
      return await this.#withDeadline(this.#pool.connect())
    } finally {
      this.#idleClaimed -= 1
    }
  }

  /** The second net under the client's own deadline: what comes late is closed, not leaked. */
  #withDeadline(connecting: Promise<pg.PoolClient>): Promise<pg.PoolClient> {
    return withDeadline(
      connecting,
      this.#options.connectMs + 1000,
      () => new Error('no connection in time'),
      late => late.release(true),
    )
  }

  #requireUnbroken(): void {
    if (Date.now() >= this.#brokenUntil) return
    throw new Fault('TENANT_DATABASE_UNAVAILABLE', `failed a moment ago: ${this.#brokenBy}`)
  }

  #permit(): Promise<void> {
    if (this.#isEnded) return Promise.reject(new Fault('SHUTTING_DOWN', 'the pool has ended'))
    if (this.#permits > 0) {
      this.#permits -= 1
      return Promise.resolve()
    }
    if (this.#waiters.size >= this.#options.waitersMax) {
      return Promise.reject(new Fault('POOL_EXHAUSTED', 'too many requests wait for a connection'))
    }
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer)
        this.#waiters.delete(waiter)
      }
      const waiter: Waiter = {
        grant: () => {
          settle()
          resolve()
        },
        refuse: fault => {
          settle()
          reject(fault)
        },
      }
      const late = new Fault('POOL_EXHAUSTED', 'no connection came free in time')
      const timer = setTimeout(() => waiter.refuse(late), this.#options.checkoutMs)
      this.#waiters.add(waiter)
    })
  }

  #givePermit(): void {
    const [first] = this.#waiters
    if (first === undefined) this.#permits += 1
    else first.grant()
  }
}

/** What breaks while a request holds the connection shows as the error of its query. */
function ignoreError(): void {}
