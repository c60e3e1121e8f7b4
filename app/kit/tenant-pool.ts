import type pg from 'pg'
import type { DbConnection } from '../../registry/connection.ts'
import type { AddressPolicy } from '../../registry/lib/address.ts'
import { Fault } from '../../registry/lib/errors.ts'
import { makeGuardedSocket } from '../../registry/lib/guarded-socket.ts'
import type { Log } from '../../registry/lib/log.ts'
import { sslOptions } from '../../registry/lib/pg.ts'
import { type Attempt, Breaker, type BreakerOptions } from './breaker.ts'
import type { ConnectionBudget, Member } from './budget.ts'
import type { Cancels } from './db-cancel.ts'
import { DbClient, NoSessionError } from './db-client.ts'
import { databaseFault, sqlState } from './db-error.ts'
import type { KitEvents } from './kit-events.ts'
import { type Waiter, Waiters } from './waiters.ts'

export interface PoolOptions {
  /** Connections per tenant where its context does not say. */
  readonly connectionsMax: number
  /** Idle connections per tenant that are kept, unless another tenant needs their slots. */
  readonly connectionsMin: number
  /** Connections of the replica to all tenant databases. */
  readonly connectionsTotalMax: number
  /** Connections of the replica to one server (host and port), of all tenants on it. */
  readonly connectionsPerServerMax: number
  readonly connectMs: number
  /** Longest wait for a free connection or for a slot of the budget; a connect that it led to comes on top. */
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
  /** Cancel requests of the replica that may be under way; beyond it a connection is cut instead. */
  readonly cancelsMax: number
  readonly breaker: Omit<BreakerOptions, 'probeMs'>
  /** PEM; null: `verify-full` uses the system's authorities and is not the default. */
  readonly sslCa: string | null
  /** null outside production: every address goes. */
  readonly addressPolicy: AddressPolicy | null
  readonly applicationName: string
}

/** What the pools of a replica share. */
export interface PoolParts {
  readonly budget: ConnectionBudget
  readonly cancels: Cancels
  readonly events: KitEvents
  readonly log: Log
}

/**
 * How long a connection serves its tenant before it makes way for another that waits. It bounds what
 * turns cost: at most one connect (about 10 ms of the server) per slot and turn.
 */
const TURN_MS = 50
/** No further connection is tried for so long after a server with some of ours said that it is full. */
const FULL_MS = 1000

/**
 * The connections of one tenant with one set of connection details. A request that waits is served by
 * whatever comes first: a connection given back, or one that is opened by a slot of the budget.
 */
export class TenantPool implements Member {
  readonly key: string
  readonly server: string
  /** Leases held by requests; the pool is ended only at 0. */
  leases = 0
  lastUsedAt = 0
  /** True once newer details replaced these: it ends with its last lease. */
  isSuperseded = false
  readonly #options: PoolOptions
  readonly #budget: ConnectionBudget
  readonly #cancels: Cancels
  readonly events: KitEvents
  readonly #log: Log
  readonly #config: pg.ClientConfig
  readonly #ssl: ReturnType<typeof sslOptions>
  readonly #setup: string
  readonly #max: number
  readonly #waiters: Waiters
  readonly #breaker: Breaker
  /** Least recently used first. */
  readonly #idle: DbClient[] = []
  #idleTimer: NodeJS.Timeout | undefined
  /** Sockets, from before they are opened until they are closed. */
  #open = 0
  #connecting = 0
  /** Those that serve: idle or in use. */
  #ready = 0
  #closing = 0
  #fullUntil = 0
  #lastFault: Fault | null = null
  #whenEmpty: (() => void) | null = null

  constructor(
    key: string,
    db: DbConnection,
    options: PoolOptions,
    { budget, cancels, events, log }: PoolParts,
  ) {
    this.key = key
    this.server = `${db.host.toLowerCase()}:${db.port}`
    this.#options = options
    this.#budget = budget
    this.#cancels = cancels
    this.events = events
    this.#log = log
    this.#max = Math.min(
      db.pool_max ?? options.connectionsMax,
      options.connectionsTotalMax,
      options.connectionsPerServerMax,
    )
    this.#breaker = new Breaker({ ...options.breaker, probeMs: options.connectMs + 1000 })
    this.#waiters = new Waiters(options.checkoutMs, {
      onLate: waiter => this.#expire(waiter),
      onSettled: ms => events.waited(ms),
      abandoned: clientLeft,
    })
    this.#ssl = sslOptions(db.ssl, options.sslCa ?? undefined)
    const { statementTimeoutMs, idleInTransactionMs, addressPolicy } = options
    this.#setup = `SET statement_timeout = ${statementTimeoutMs}; SET idle_in_transaction_session_timeout = ${idleInTransactionMs}`
    this.#config = {
      host: db.host,
      port: db.port,
      database: db.name,
      user: db.user,
      // A function, because an empty text would make the library look for PGPASSWORD and .pgpass.
      password: () => db.password,
      ssl: this.#ssl,
      keepAlive: true,
      // For a server that hangs without closing its socket; the server's own time-out comes first.
      query_timeout: statementTimeoutMs + 5000,
      application_name: options.applicationName,
      ...(addressPolicy === null ? {} : { stream: () => makeGuardedSocket(addressPolicy) }),
    }
  }

  /** Sockets, from before they are opened until they are closed. */
  get size(): number {
    return this.#open
  }

  get max(): number {
    return this.#max
  }

  get connecting(): number {
    return this.#connecting
  }

  get idle(): number {
    return this.#idle.length
  }

  /** Saying goodbye. */
  get closing(): number {
    return this.#closing
  }

  get active(): number {
    return this.#ready - this.#idle.length
  }

  get waiting(): number {
    return this.#waiters.size
  }

  get isBroken(): boolean {
    return !this.#breaker.isClosed
  }

  get wantsSlot(): boolean {
    if (this.#waiters.size <= this.#connecting || this.#open >= this.#max) return false
    return this.#whenEmpty === null && this.#mayTry()
  }

  /**
   * A connection for exclusive use until `giveBack`.
   *
   * @param signal ends the wait where the request's client leaves
   * @throws Fault POOL_EXHAUSTED, TENANT_DATABASE_UNAVAILABLE, TENANT_CONFIG_INVALID
   */
  async checkout(signal: AbortSignal | null = null): Promise<DbClient> {
    if (this.#whenEmpty !== null) throw new Fault('SHUTTING_DOWN', 'the pool has ended')
    if (signal?.aborted) throw clientLeft()
    const idle = this.#idle.pop()
    if (idle !== undefined) {
      this.#budget.noteIdle(this.server, -1)
      return idle
    }
    // A probe that runs is waited for by the request that asked for it alone.
    const isProbed = this.#ready === 0 && !this.#breaker.isClosed && !this.#mayTry()
    if (isProbed || this.#isHopeless()) throw this.#brokenFault()
    if (this.#waiters.size >= this.#options.waitersMax) {
      throw exhausted('too many requests wait for a connection')
    }
    const waiting = this.#waiters.add(signal)
    this.#seek()
    return waiting
  }

  /** @param isBroken the session is in an unknown state and must not serve another request */
  giveBack(client: DbClient, isBroken: boolean): void {
    if (isBroken || client.isBroken || this.#whenEmpty !== null) this.#close(client)
    else if (this.#isOthersTurn(client)) {
      this.events.evicted('turn')
      this.#close(client)
    } else this.#use(client)
    this.#seek()
  }

  /** Closes the idle connection that was used least recently; false where there is none. */
  evictIdle(): boolean {
    const [oldest] = this.#idle
    if (oldest === undefined) return false
    this.events.evicted('idle')
    this.#dropIdle(oldest)
    return true
  }

  /** Opens a connection; the budget has taken its slot. */
  open(): void {
    this.#open += 1
    this.#connecting += 1
    const attempt = this.#breaker.begin(Date.now())
    this.#connect().then(
      client => {
        this.#connecting -= 1
        this.#ready += 1
        this.#breaker.succeed()
        this.giveBack(client, false)
      },
      error => {
        this.#connecting -= 1
        this.#failed(databaseFault(error), attempt)
        this.#seek()
      },
    )
  }

  /**
   * Asks the server to end what `client` runs. False: nobody knows whether it did or will, so that the
   * connection must not serve another request.
   */
  async cancel(client: DbClient): Promise<boolean> {
    const { cancelKey, socket } = client
    const { remoteAddress: address, remotePort: port } = socket
    if (cancelKey === null || address === undefined || port === undefined) return false
    const { host = '' } = this.#config
    return this.#cancels.send({ address, port, host, ssl: this.#ssl, ...cancelKey })
  }

  /** Closes the idle connections now and the others when they come back; resolves at the last. */
  end(): Promise<void> {
    if (this.#whenEmpty !== null) return Promise.resolve()
    return new Promise(resolve => {
      this.#whenEmpty = resolve
      clearTimeout(this.#idleTimer)
      this.#refuseAll(new Fault('SHUTTING_DOWN', 'the pool is ending'))
      for (const client of [...this.#idle]) this.#dropIdle(client)
      if (this.#open === 0) resolve()
    })
  }

  async #connect(): Promise<DbClient> {
    const client = this.#makeClient()
    await client.open(this.#setup, this.#options.connectMs)
    return client
  }

  #makeClient(): DbClient {
    try {
      const client: DbClient = new DbClient(this.#config, {
        onError: error => this.#lost(client, error),
        onClose: () => this.#closed(client.isClosing),
      })
      return client
    } catch (error) {
      // Details that the library does not take: there is no socket that would ever close.
      process.nextTick(() => this.#closed(false))
      throw error
    }
  }

  #lost(client: DbClient, error: Error): void {
    if (sqlState(error) === '25P03') this.events.timedOut('idle_in_transaction')
    if (!this.#idle.includes(client)) return
    this.#log.warn({ reason: error.message }, 'idle connection lost')
    this.#dropIdle(client)
  }

  /** A socket is gone, and its slot free. */
  #closed(wasClosing: boolean): void {
    this.#open -= 1
    if (wasClosing) this.#closing -= 1
    this.#budget.give(this.server, wasClosing)
    if (this.#open === 0) this.#whenEmpty?.()
    this.#seek()
  }

  #failed(fault: Fault, attempt: Attempt): void {
    const now = Date.now()
    this.#lastFault = fault
    if (fault.cause instanceof NoSessionError) this.events.timedOut('connect')
    if (fault.tenantFault === 'database_full') {
      this.#fullUntil = now + FULL_MS
      // No fault of the server's: what is open, or may yet be, goes on to serve those who wait.
      if (this.#ready + this.#connecting > 0) {
        this.#breaker.forget(attempt)
        this.#settleOverdue()
        return
      }
    }
    if (this.#breaker.fail(attempt, now)) {
      this.events.broke('database')
      this.#log.warn({ reason: fault.reason }, 'tenant database: breaker open')
    }
    if (this.#ready > 0) this.#settleOverdue()
    else this.#waiters.first?.refuse(fault)
    if (this.#isHopeless()) this.#refuseAll(this.#brokenFault())
  }

  /** Gets in line for what is wanted, or out of it. */
  #seek(): void {
    if (this.wantsSlot) this.#budget.want(this)
    else if (this.#waiters.size === 0) this.#budget.withdraw(this)
    else if (this.#isHopeless()) this.#refuseAll(this.#brokenFault())
  }

  #use(client: DbClient): void {
    const waiter = this.#waiters.first
    if (waiter !== undefined) {
      waiter.serve(client)
      return
    }
    client.idleSince = Date.now()
    this.#idle.push(client)
    this.#idleTimer ??= this.#watchIdle(this.#options.connectionIdleMs)
    this.#budget.noteIdle(this.server, 1)
  }

  #isOthersTurn(client: DbClient): boolean {
    if (!this.#budget.isWantedByOther(this)) return false
    return this.#waiters.size === 0 || Date.now() - client.openedAt >= TURN_MS
  }

  #close(client: DbClient): void {
    this.#ready -= 1
    if (client.isGone) return
    client.isClosing = true
    this.#closing += 1
    this.#budget.noteFreeing(this.server)
    client.close()
  }

  #dropIdle(client: DbClient): void {
    this.#idle.splice(this.#idle.indexOf(client), 1)
    this.#budget.noteIdle(this.server, -1)
    this.#close(client)
  }

  /** One timer per pool, so that a checkout costs none. */
  #watchIdle(ms: number): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#idleTimer = undefined
      const now = Date.now()
      for (const client of [...this.#idle]) {
        if (this.#open - this.#closing <= this.#options.connectionsMin) break
        if (now - client.idleSince >= this.#options.connectionIdleMs) this.#dropIdle(client)
      }
      const [oldest] = this.#idle
      if (oldest === undefined) return
      const leftMs = oldest.idleSince + this.#options.connectionIdleMs - now
      // At or below the minimum the oldest is due and stays: look again later.
      this.#idleTimer = this.#watchIdle(leftMs > 0 ? leftMs : this.#options.connectionIdleMs)
    }, ms)
    timer.unref()
    return timer
  }

  #expire(waiter: Waiter): void {
    waiter.isOverdue = true
    this.#settleOverdue()
    this.#seek()
  }

  /** Of those whose time is over, as many may stay as connections are being opened: these end by themselves. */
  #settleOverdue(): void {
    let coming = this.#connecting
    for (const waiter of [...this.#waiters]) {
      if (!waiter.isOverdue) return
      if (coming > 0) {
        coming -= 1
        continue
      }
      this.events.timedOut('checkout')
      waiter.refuse(exhausted(this.#whyLate()))
    }
  }

  #whyLate(): string {
    if (Date.now() < this.#fullUntil) return 'the database takes no further connection'
    if (this.#open >= this.#max) return 'every connection of the tenant is busy'
    return 'the replica has no connection left: DB_GLOBAL_POOL_MAX or DB_HOST_POOL_MAX'
  }

  /** No connection that could come back, none under way, and none may be tried. */
  #isHopeless(): boolean {
    return this.#ready + this.#connecting === 0 && !this.#mayTry()
  }

  #mayTry(): boolean {
    const now = Date.now()
    return now >= this.#fullUntil && this.#breaker.mayTry(now)
  }

  #brokenFault(): Fault {
    const { code = 'TENANT_DATABASE_UNAVAILABLE', reason, tenantFault } = this.#lastFault ?? {}
    const options = this.#breaker.isClosed
      ? { tenantFault }
      : { tenantFault, retryAfterS: this.#breaker.retryAfterS(Date.now()) }
    return new Fault(code, `failed a moment ago: ${reason}`, options)
  }

  #refuseAll(fault: Fault): void {
    for (const waiter of [...this.#waiters]) waiter.refuse(fault)
    this.#budget.withdraw(this)
  }
}

function exhausted(reason: string): Fault {
  return new Fault('POOL_EXHAUSTED', reason, { tenantFault: 'pool_exhausted' })
}

/** Nobody reads this answer; the code only keeps it out of the faults of ours. */
export function clientLeft(): Fault {
  return new Fault('BAD_REQUEST', 'the client left')
}
