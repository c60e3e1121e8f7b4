import pg from 'pg'
import { withDeadline } from './lib/deadline.ts'
import { Fault } from './lib/errors.ts'
import type { Log } from './lib/log.ts'
import { deadlineClient, parsePgUrl, pgConfig } from './lib/pg.ts'
import { isStatementError, registryFault } from './store-fault.ts'
import type { Issuer, Tenant, TenantId, TenantKey, TenantQuery } from './tenant.ts'
import { parseTenantRow, TENANT_COLUMNS, type TenantRow } from './tenant-row.ts'

export interface RegistryStoreOptions {
  /** TENANT_REGISTRY_DB_URL; host, database and user must be in it. */
  readonly url: string
  readonly log: Log
  readonly poolMax?: number
  /** A statement, the wait for a connection included. */
  readonly queryTimeoutMs?: number
  readonly connectTimeoutMs?: number
  /** PEM of the CA that the Registry's certificate is checked against. */
  readonly ca?: string
  /** Shown in pg_stat_activity. */
  readonly applicationName?: string
  /** Who the audit names for changes that do not tell it themselves; absent: the role and applicationName. */
  readonly actor?: string
}

/** Statements that run or wait at one time; beyond it the Registry is as good as down. */
const STATEMENTS_MAX = 1000
/** Misconfigured tenants whose version is remembered, so that each is logged once and not per request. */
const COMPLAINTS_MAX = 1000

/** Resolve, by the claim of a token. Primary key; expected below 1 ms. */
const FIND_BY_ID = `SELECT ${TENANT_COLUMNS} FROM tenants WHERE id = $1`

/**
 * Resolve, by the key of a login. Index tenants_key_lower. Older rows may differ only in case: the
 * one in lower case wins, so that the answer is always the same.
 */
const FIND_BY_KEY = `
  SELECT ${TENANT_COLUMNS} FROM tenants WHERE lower(tenant_key::text) = $1
  ORDER BY (tenant_key::text = $1) DESC, id LIMIT 1`

/** Resolve, by the claim `iss` of a token that is not the platform's. Index tenants_token_issuer_unique. */
const FIND_BY_ISSUER = `SELECT ${TENANT_COLUMNS} FROM tenants WHERE token_issuer = $1`

/**
 * A pool of connections to the Registry. Every call ends within `queryTimeoutMs`, and throws Fault
 * REGISTRY_UNAVAILABLE when the Registry cannot be asked; CONFLICT or VALIDATION_FAILED where it refuses a statement.
 *
 * Its own statements are the look-ups of the request path; they throw TENANT_CONFIG_INVALID when that one row is not
 * fit to be served. All others stand in the module that they are about (tenant-list.ts, tenant-write.ts,
 * tenant-changes.ts, revocation-rows.ts, …), as functions over a store.
 */
export class RegistryStore {
  readonly #pool: pg.Pool
  readonly #log: Log
  readonly #timeoutMs: number
  readonly #complaints = new Map<string, string>()
  #statements = 0

  /** @throws Error on a URL without host, database or user: there is no default database */
  constructor(options: RegistryStoreOptions) {
    const target = parsePgUrl(options.url, options.ca)
    const connectTimeoutMs = options.connectTimeoutMs ?? 1500
    const { actor } = options
    this.#log = options.log
    this.#timeoutMs = options.queryTimeoutMs ?? 2000
    this.#pool = new pg.Pool({
      ...pgConfig(target, {
        connectTimeoutMs,
        statementTimeoutMs: this.#timeoutMs,
        applicationName: options.applicationName ?? 'doorman-registry',
      }),
      // The types want a constructor without arguments; the pool passes its options.
      Client: deadlineClient(connectTimeoutMs) as unknown as new () => pg.ClientBase,
      max: options.poolMax ?? 5,
      idleTimeoutMillis: 30_000,
      allowExitOnIdle: false,
      ...(actor !== undefined && {
        onConnect: async client => {
          await client.query("SELECT set_config('doorman.actor', $1, false)", [actor])
        },
      }),
    })
    this.#pool.on('error', error => {
      this.#log.warn({ reason: error.message }, 'idle Registry connection lost')
    })
    // For the time that a client is checked out: the pool listens to idle ones only.
    this.#pool.on('connect', client => client.on('error', () => {}))
  }

  async find(ref: TenantQuery): Promise<Tenant | null> {
    if (ref.by === 'id') return this.findById(ref.id)
    return ref.by === 'key' ? this.findByKey(ref.key) : this.findByIssuer(ref.issuer)
  }

  async findById(id: TenantId): Promise<Tenant | null> {
    return this.#one(FIND_BY_ID, [id])
  }

  async findByKey(key: TenantKey): Promise<Tenant | null> {
    return this.#one(FIND_BY_KEY, [key])
  }

  async findByIssuer(issuer: Issuer): Promise<Tenant | null> {
    return this.#one(FIND_BY_ISSUER, [issuer])
  }

  /** Of its pool, now; `waiting` are calls in line for one. */
  get connections(): { readonly busy: number; readonly idle: number; readonly waiting: number } {
    const { totalCount, idleCount, waitingCount } = this.#pool
    return { busy: totalCount - idleCount, idle: idleCount, waiting: waitingCount }
  }

  /** One statement. */
  async query(text: string, values: readonly unknown[]): Promise<readonly TenantRow[]> {
    return this.#perform(async client => (await client.query<TenantRow>(text, [...values])).rows)
  }

  /** Statements of one piece of work over one connection, all within the store's deadline. */
  use<T>(work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    return this.#perform(work)
  }

  /** The same in one transaction: what throws leaves nothing behind. */
  transaction<T>(work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    return this.#perform(client => inTransaction(client, () => work(client)))
  }

  /** Waits for what runs, at most as long as a statement may take. */
  async close(): Promise<void> {
    await withDeadline(this.#pool.end(), this.#timeoutMs, () => new Error('late')).catch(() => {})
  }

  async #one(text: string, values: readonly unknown[]): Promise<Tenant | null> {
    const [row] = await this.query(text, values)
    if (row === undefined) return null
    try {
      return parseTenantRow(row)
    } catch (error) {
      this.#complain(row, error)
      throw error
    }
  }

  #complain(row: TenantRow, error: unknown): void {
    const id = String(row.id)
    const version = String(row.config_version)
    if (this.#complaints.get(id) === version) return
    if (this.#complaints.size >= COMPLAINTS_MAX) this.#complaints.clear()
    this.#complaints.set(id, version)
    const reason = error instanceof Fault ? error.reason : 'the row cannot be read'
    this.#log.error({ tenantId: id, reason }, 'tenant is not configured correctly')
  }

  async #perform<T>(work: Work<T>): Promise<T> {
    if (this.#statements >= STATEMENTS_MAX) {
      throw new Fault('REGISTRY_UNAVAILABLE', 'too many Registry statements at once')
    }
    this.#statements += 1
    const progress = { isLate: false }
    try {
      return await withDeadline(this.#run(work, progress), this.#timeoutMs, () => {
        progress.isLate = true
        return new Fault('REGISTRY_UNAVAILABLE', `no answer within ${this.#timeoutMs} ms`)
      })
    } catch (error) {
      throw registryFault(error)
    } finally {
      this.#statements -= 1
    }
  }

  async #run<T>(work: Work<T>, progress: { readonly isLate: boolean }): Promise<T> {
    const client = await this.#pool.connect()
    let broken = false
    try {
      // Nobody waits for it any more: do not load a Registry that is slow as it is.
      if (progress.isLate) throw new Fault('REGISTRY_UNAVAILABLE', 'late')
      return await work(client)
    } catch (error) {
      // A transaction that did not end by itself must not meet the next statement.
      broken = !isStatementError(error) || client.getTransactionStatus() !== 'I'
      throw error
    } finally {
      client.release(broken)
    }
  }
}

type Work<T> = (client: pg.PoolClient) => Promise<T>

async function inTransaction<T>(client: pg.ClientBase, work: () => Promise<T>): Promise<T> {
  await client.query('BEGIN')
  try {
    const result = await work()
    await client.query('COMMIT')
    return result
  } catch (error) {
    // Where this fails, the connection is given up and the server rolls back.
    await client.query('ROLLBACK').catch(() => {})
    throw error
  }
}
