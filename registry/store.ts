import pg from 'pg'
import { SECRET_COLUMNS } from './envelope.ts'
import { type HoldNotice, readHoldNotices } from './hold-notice.ts'
import { withDeadline } from './lib/deadline.ts'
import { Fault } from './lib/errors.ts'
import type { Log } from './lib/log.ts'
import { deadlineClient, parsePgUrl, pgConfig } from './lib/pg.ts'
import { type MigrationNote, type MigrationState, readMigrationState } from './migration-note.ts'
import type { TenantSecrets } from './rewrap.ts'
import * as sql from './store-sql.ts'
import {
  type Issuer,
  mayMove,
  parseTenantId,
  TENANT_STATUSES,
  type Tenant,
  type TenantId,
  type TenantIssuer,
  type TenantKey,
  type TenantMode,
  type TenantQuery,
  type TenantStatus,
} from './tenant.ts'
import { parseTenantRow, type TenantRow } from './tenant-row.ts'
import type { Revocation } from './token-id.ts'

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

export type ChangeOp = 'insert' | 'update' | 'delete'

/** That a tenant changed, as the trigger or the catch-up tells it. */
export interface TenantChange {
  readonly id: TenantId
  /** Its key now, as it stands in the row (not necessarily one that may log in). */
  readonly key: string
  readonly version: number
  readonly op: ChangeOp
}

/** Opaque: where the next catch-up begins. */
export type ChangeCursor = string & { readonly __brand: 'ChangeCursor' }

export interface ChangeSet {
  readonly cursor: ChangeCursor
  readonly changes: readonly TenantChange[]
  /** True where `changes` is not all that happened: everything must be read anew. */
  readonly isGap: boolean
  readonly revocations: readonly Revocation[]
  /** The same for `revocations`. */
  readonly isRevocationGap: boolean
  /** All holds of the last minutes, changed or not: they are few. */
  readonly holds: readonly HoldNotice[]
}

export interface TenantFilter {
  readonly mode?: TenantMode
  readonly status?: TenantStatus
}

/** A row of a listing: shown even where it is not fit to be served, which `problem` then tells. */
export interface ListedTenant {
  readonly id: string
  readonly key: string
  readonly name: string | null
  readonly mode: string
  readonly status: string
  readonly statusReason: string | null
  readonly configVersion: number
  /** As the row has it, which may be little. */
  readonly db: ListedDb
  readonly tenant: Tenant | null
  readonly problem: string | null
}

export interface ListedDb {
  readonly host: string | null
  readonly port: number | null
  readonly name: string | null
  readonly user: string | null
  readonly passwordEncrypted: string | null
  readonly sslMode: string | null
  readonly poolMax: number | null
}

export type NewDb = Tenant['db']
export type NewBucket = NonNullable<Tenant['bucket']>

export interface NewTenant {
  /** Chosen by the caller: the secrets are bound to it. */
  readonly id: TenantId
  readonly key: TenantKey
  readonly name: string | null
  readonly mode: TenantMode
  readonly status: TenantStatus
  readonly db: NewDb
  readonly bucket: NewBucket | null
}

export interface PlacementOptions {
  /** Lets a tenant have a database that another tenant has: then they share their data. */
  readonly allowSharedDatabase?: boolean
}

/** A secret of the Registry with the place that it is bound to. */
export interface StoredSecret {
  readonly owner: string
  readonly ciphertext: string
}

/** Secrets under one master key. */
export interface KeyUse {
  /** null: the format of the older tool, which names no key. */
  readonly keyId: string | null
  readonly secrets: number
  readonly tenants: number
}

/** Statements that run or wait at one time; beyond it the Registry is as good as down. */
const STATEMENTS_MAX = 1000
/** More changes than this in one catch-up are a gap: reading everything anew is cheaper. */
const CHANGES_MAX = 1000
/** The same of revoked tokens, which are small and may come in masses. */
const REVOCATIONS_MAX = 10_000
const LIST_PAGE = 500
const REVOCATIONS_PAGE = 5000
/** Rows of expired tokens taken away at each write, more than one write brings. */
const PRUNE_MAX = 1000
const NIL_ID = '00000000-0000-0000-0000-000000000000'
/** Misconfigured tenants whose version is remembered, so that each is logged once and not per request. */
const COMPLAINTS_MAX = 1000

/**
 * The Registry's tables behind typed calls, over a pool. Every call ends within `queryTimeoutMs`.
 *
 * All calls throw Fault REGISTRY_UNAVAILABLE when the Registry cannot be asked; those that return a
 * tenant throw TENANT_CONFIG_INVALID when that one row is not fit to be served.
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
    return this.#one(sql.FIND_BY_ID, [id])
  }

  async findByKey(key: TenantKey): Promise<Tenant | null> {
    return this.#one(sql.FIND_BY_KEY, [key])
  }

  async findByIssuer(issuer: Issuer): Promise<Tenant | null> {
    return this.#one(sql.FIND_BY_ISSUER, [issuer])
  }

  /** Of its pool, now; `waiting` are calls in line for one. */
  get connections(): { readonly busy: number; readonly idle: number; readonly waiting: number } {
    const { totalCount, idleCount, waitingCount } = this.#pool
    return { busy: totalCount - idleCount, idle: idleCount, waiting: waitingCount }
  }

  /** What changed since `cursor`; with null, where to begin, which is a gap by definition. */
  async changedSince(cursor: ChangeCursor | null): Promise<ChangeSet> {
    if (cursor === null) {
      const [row] = await this.#query(sql.CURRENT_SNAPSHOT, [])
      const from = String(row?.cursor) as ChangeCursor
      const holds = readHoldNotices(row?.holds)
      return {
        cursor: from,
        changes: [],
        isGap: true,
        revocations: [],
        isRevocationGap: true,
        holds,
      }
    }
    const limits = [CHANGES_MAX + 1, REVOCATIONS_MAX + 1]
    const [row] = await this.#query(sql.CHANGED_SINCE, [cursor, ...limits])
    const rows = row?.changes as readonly Record<string, string>[]
    const changes = rows.flatMap(({ id, key, version, op }) => {
      const parsed = parseTenantId(id)
      return parsed === null
        ? []
        : [{ id: parsed, key: String(key), version: Number(version), op: op as ChangeOp }]
    })
    const revoked = ((row?.revocations ?? []) as readonly TenantRow[]).map(readRevocation)
    const isBackInTime = row?.is_back_in_time === true
    return {
      cursor: String(row?.cursor) as ChangeCursor,
      changes: changes.slice(0, CHANGES_MAX),
      isGap: isBackInTime || changes.length > CHANGES_MAX,
      revocations: revoked.slice(0, REVOCATIONS_MAX),
      isRevocationGap: isBackInTime || revoked.length > REVOCATIONS_MAX,
      holds: readHoldNotices(row?.holds),
    }
  }

  /**
   * "Sign everyone out": tokens of the tenant issued before now are refused, on every gateway within a
   * second. `iat` counts whole seconds, so a token issued later in this same second is refused too.
   *
   * @returns from when on tokens are good; null where there is no such tenant
   */
  async revokeSessions(id: TenantId): Promise<Date | null> {
    const [row] = await this.#query(sql.REVOKE_SESSIONS, [id])
    return row === undefined ? null : (row.tokens_valid_after as Date)
  }

  /** Refuses single tokens until they expire. Repeating it is harmless; it cannot be taken back. */
  async revokeTokens(revocations: readonly Revocation[]): Promise<void> {
    await this.#query(sql.REVOKE_TOKENS, [
      revocations.map(({ tenantId }) => tenantId),
      revocations.map(({ tokenId }) => tokenId),
      revocations.map(({ expiresAtS }) => expiresAtS),
      PRUNE_MAX,
    ])
  }

  /** All revoked tokens that are not over, page by page. */
  async *revokedTokens(): AsyncGenerator<readonly Revocation[], void, undefined> {
    let after: readonly [string, string] = [NIL_ID, '']
    for (;;) {
      const rows = await this.#query(sql.LIST_REVOKED_TOKENS, [...after, REVOCATIONS_PAGE])
      const page = rows.map(readRevocation)
      yield page
      const last = page.at(-1)
      if (last === undefined || page.length < REVOCATIONS_PAGE) return
      after = [last.tenantId, last.tokenId]
    }
  }

  /** All tenants in order of their keys, page by page, so that ten thousand need no memory at once. */
  async *list(filter: TenantFilter = {}): AsyncGenerator<ListedTenant, void, undefined> {
    let after: string | null = null
    for (;;) {
      const rows: readonly TenantRow[] = await this.#query(sql.LIST, [
        after,
        filter.mode ?? null,
        filter.status ?? null,
        LIST_PAGE,
      ])
      for (const row of rows) yield listed(row)
      if (rows.length < LIST_PAGE) return
      after = String(rows.at(-1)?.tenant_key)
    }
  }

  /** One row by id or key, shown even where it is not fit to be served. Keys are compared without case. */
  async findListed(name: string): Promise<ListedTenant | null> {
    const id = parseTenantId(name)
    const byId = id === null ? [] : await this.#query(sql.FIND_LISTED_BY_ID, [id])
    const [row] =
      byId.length > 0
        ? byId
        : await this.#query(sql.FIND_LISTED_BY_KEY, [name.trim().toLowerCase()])
    return row === undefined ? null : listed(row)
  }

  /** Ids of tenants that name the same database as another tenant. */
  async sharedDatabases(): Promise<ReadonlySet<string>> {
    return new Set((await this.#query(sql.SHARED_DATABASES, [])).map(row => String(row.id)))
  }

  /** @throws Fault CONFLICT where the key, the id, the bucket or the database is taken; VALIDATION_FAILED */
  async create(tenant: NewTenant, options: PlacementOptions = {}): Promise<Tenant> {
    const { db } = tenant
    const [row] = await this.#place(tenant.id, db, options, sql.CREATE, [
      ...[tenant.id, tenant.key, tenant.name, tenant.mode, tenant.status],
      ...[db.host, db.port, db.name, db.user, db.passwordEncrypted, db.sslMode, db.poolMax],
      ...bucketValues(tenant.bucket),
    ])
    return parseTenantRow(row as TenantRow)
  }

  /**
   * @returns the tenant, changed or as it was; null where there is none
   * @throws Fault CONFLICT where its present status does not lead to `status`
   */
  async setStatus(
    id: TenantId,
    status: TenantStatus,
    reason: string | null,
  ): Promise<ListedTenant | null> {
    const allowed = TENANT_STATUSES.filter(from => mayMove(from, status))
    const values = [id, status, reason, allowed, TENANT_STATUSES]
    const [moved] = await this.#query(sql.SET_STATUS, values)
    if (moved !== undefined) return listed(moved)
    const present = await this.findListed(id)
    if (present === null) return null
    throw conflict(`a tenant that is ${present.status} cannot become ${status}`)
  }

  /**
   * @param db with passwordEncrypted null: the present password stays
   * @param basedOn config_version of the tenant that the caller has seen
   * @throws Fault CONFLICT where it changed meanwhile, or where another tenant has the database
   */
  async setDb(
    id: TenantId,
    db: Omit<NewDb, 'passwordEncrypted'> & { readonly passwordEncrypted: string | null },
    basedOn: number,
    options: PlacementOptions = {},
  ): Promise<ListedTenant | null> {
    const values = [
      db.host,
      db.port,
      db.name,
      db.user,
      db.passwordEncrypted,
      db.sslMode,
      db.poolMax,
    ]
    const rows = await this.#place(id, db, options, sql.SET_DB, [id, ...values, basedOn])
    return this.#basedOn(rows, id)
  }

  /** As `setDb`; null takes the bucket away. */
  async setBucket(
    id: TenantId,
    bucket: NewBucket | null,
    basedOn: number,
  ): Promise<ListedTenant | null> {
    const values = [id, ...bucketValues(bucket), basedOn]
    return this.#basedOn(await this.#query(sql.SET_BUCKET, values), id)
  }

  /** As `setDb`; null takes the identity provider away. @throws Fault CONFLICT also where another tenant has it */
  async setIssuer(
    id: TenantId,
    issuer: TenantIssuer | null,
    basedOn: number,
  ): Promise<ListedTenant | null> {
    const own = [issuer?.issuer ?? null, issuer?.jwksUrl ?? null, issuer?.audience ?? null]
    return this.#basedOn(await this.#query(sql.SET_ISSUER, [id, ...own, basedOn]), id)
  }

  /** Moves `schema_version` where it is another one; each that moves is told to the gateways. */
  async setSchemaVersions(versions: ReadonlyMap<string, string | null>): Promise<void> {
    await this.#query(sql.SET_SCHEMA_VERSIONS, [[...versions.keys()], [...versions.values()]])
  }

  /** Notes of the fleet runner. They move no version, and go unnoticed by gateways. */
  async noteMigrations(notes: readonly MigrationNote[]): Promise<void> {
    const column = <K extends keyof MigrationNote>(name: K) => notes.map(note => note[name])
    // First, so that no note tells of a failure that its run does not have.
    if (notes.some(({ state, runId }) => state === 'failed' && runId !== null)) {
      await this.#query(sql.ADD_MIGRATION_FAILURES, [
        ...[column('runId'), column('id'), column('version'), column('state'), column('code')],
        ...[column('error'), column('attempts')],
      ])
    }
    await this.#query(sql.NOTE_MIGRATIONS, [
      ...[column('id'), column('version'), column('state'), column('error')],
      ...[column('attempts'), column('applied'), column('startedAt'), column('durationMs')],
      column('runId'),
    ])
  }

  /** What is noted of each tenant, in order of their keys, page by page. */
  async *migrationStates(): AsyncGenerator<MigrationState, void, undefined> {
    let after: string | null = null
    for (;;) {
      const rows: readonly TenantRow[] = await this.#query(sql.LIST_MIGRATIONS, [after, LIST_PAGE])
      for (const row of rows) yield readMigrationState(row)
      if (rows.length < LIST_PAGE) return
      after = String(rows.at(-1)?.tenant_key)
    }
  }

  /** Removes notes of tenants that are gone. */
  async pruneMigrations(): Promise<void> {
    await this.#query(sql.PRUNE_MIGRATIONS, [])
  }

  /** One statement of a module that keeps its own beside this one, such as holds.ts. */
  async query(text: string, values: readonly unknown[]): Promise<readonly TenantRow[]> {
    return this.#perform(async client => (await client.query<TenantRow>(text, [...values])).rows)
  }

  async readKeyChecks(): Promise<readonly { keyId: string; ciphertext: string }[]> {
    const rows = await this.#query(sql.READ_KEY_CHECKS, [])
    return rows.map(row => ({ keyId: String(row.key_id), ciphertext: String(row.ciphertext) }))
  }

  async writeKeyCheck(keyId: string, ciphertext: string): Promise<void> {
    await this.#query(sql.WRITE_KEY_CHECK, [keyId, ciphertext])
  }

  /** Which master keys are in use. */
  async countSecrets(): Promise<readonly KeyUse[]> {
    const rows = await this.#query(sql.COUNT_SECRETS, [])
    return rows.map(({ key_id, secrets, tenants }) => ({
      keyId: textOf(key_id),
      secrets: Number(secrets),
      tenants: Number(tenants),
    }))
  }

  /**
   * Tenants with what is encrypted of them, in the order of their ids, page by page.
   *
   * @param notOf only those with a secret that is not of this key
   */
  async *secrets(
    notOf: string | null,
    pageRows = LIST_PAGE,
  ): AsyncGenerator<readonly TenantSecrets[], void, undefined> {
    let after = NIL_ID
    for (;;) {
      const prefix = notOf === null ? null : `v1.${notOf}.`
      const rows = await this.#query(sql.LIST_SECRETS, [after, prefix, pageRows])
      if (rows.length > 0) yield rows as unknown as readonly TenantSecrets[]
      if (rows.length < pageRows) return
      after = String(rows.at(-1)?.id)
    }
  }

  /**
   * Puts the same secrets, encrypted anew, in the place of what was read. No change of the tenants: versions stay.
   *
   * @param pairs as read, and as they are to be, row by row
   * @returns how many took it; the others were changed meanwhile and stand as they are
   */
  async rewrapSecrets(
    pairs: readonly (readonly [was: TenantSecrets, is: TenantSecrets])[],
  ): Promise<number> {
    const column = (pick: (pair: (typeof pairs)[number]) => string | null) => pairs.map(pick)
    const values = [
      column(([was]) => was.id),
      ...SECRET_COLUMNS.map(name => column(([was]) => was[name])),
      ...SECRET_COLUMNS.map(name => column(([, is]) => is[name])),
    ]
    const rows = await this.#perform(client =>
      inTransaction(client, async () => {
        await client.query(sql.BEGIN_REWRAP)
        return (await client.query<TenantRow>(sql.REWRAP, values)).rows
      }),
    )
    return rows.length
  }

  /** Takes a master key's check row away. @returns false where a secret is of it, or where it has none */
  async retireKey(keyId: string): Promise<boolean> {
    return (await this.#query(sql.RETIRE_KEY, [keyId])).length > 0
  }

  /** Some `db_password_encrypted`, newest rows first. */
  async sampleSecrets(count: number): Promise<readonly StoredSecret[]> {
    const rows = await this.#query(sql.SAMPLE_SECRETS, [count])
    return rows.map(row => ({ owner: String(row.id), ciphertext: String(row.ciphertext) }))
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
    const [row] = await this.#query(text, values)
    if (row === undefined) return null
    try {
      return parseTenantRow(row)
    } catch (error) {
      this.#complain(row, error)
      throw error
    }
  }

  async #basedOn(rows: readonly TenantRow[], id: TenantId): Promise<ListedTenant | null> {
    const [changed] = rows
    if (changed !== undefined) return listed(changed)
    if ((await this.findListed(id)) === null) return null
    throw conflict('the tenant was changed by someone else meanwhile; try again')
  }

  /** A statement that gives tenant `id` the database `db`, unless another tenant has it. */
  async #place(
    id: TenantId,
    { host, port, name }: Pick<NewDb, 'host' | 'port' | 'name'>,
    { allowSharedDatabase = false }: PlacementOptions,
    text: string,
    values: readonly unknown[],
  ): Promise<readonly TenantRow[]> {
    if (allowSharedDatabase) return this.#query(text, values)
    return this.transaction(async client => {
      await requireFreeDatabase(client, id, { host, port, name })
      return (await client.query<TenantRow>(text, [...values])).rows
    })
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

  async #query(text: string, values: readonly unknown[]): Promise<readonly TenantRow[]> {
    return this.query(text, values)
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

/**
 * In a transaction of `client`: takes the database for tenant `id` until its end.
 *
 * @throws Fault CONFLICT where another tenant has it
 */
export async function requireFreeDatabase(
  client: pg.ClientBase,
  id: TenantId,
  { host, port, name }: Pick<NewDb, 'host' | 'port' | 'name'>,
): Promise<void> {
  const place = `${host}:${port}/${name}`
  await client.query(sql.LOCK_DATABASE, [place])
  const found = await client.query<TenantRow>(sql.FIND_DATABASE_OWNER, [id, host, port, name])
  const [owner] = found.rows
  if (owner !== undefined && owner.id !== id) {
    throw conflict(
      `tenant ${owner.tenant_key} has the database ${place} already, and the two would share ` +
        'their data; allow a shared database if that is meant',
    )
  }
}

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

/** True where the statement was refused and the connection is as good as before. */
function isStatementError(error: unknown): boolean {
  if (error instanceof Fault) return true
  return error instanceof pg.DatabaseError && /^(22|23|40|42|P0)/.test(error.code ?? '')
}

/** A driver's error as a Fault. Its `detail` holds the whole row and goes no further. */
function registryFault(error: unknown): Fault {
  if (error instanceof Fault) return error
  const { message, code } = error as { message?: string; code?: string }
  if (code === '23505') {
    const { constraint } = error as { constraint?: string }
    if (constraint === 'tenants_bucket_prefix_unique') return conflict(String(message))
    const what = constraint === 'tenants_token_issuer_unique' ? 'issuer' : 'key'
    return conflict(`a tenant with this ${what} exists already`)
  }
  if ((error as { constraint?: string }).constraint === 'tenants_plan_known') {
    // A plan that goes (restrict_violation), or a tenant that takes one.
    if (code === '23001') return conflict('the plan is in use')
    const reason = 'plan: there is no such plan'
    return new Fault('VALIDATION_FAILED', reason, { publicMessage: reason })
  }
  if (code?.startsWith('23') || code?.startsWith('22')) {
    const reason = String(message)
    return new Fault('VALIDATION_FAILED', reason, { publicMessage: reason })
  }
  const cause = Object.assign(new Error(message), { code })
  const reason =
    code === '42P01' || code === '42703'
      ? 'the Registry has an older schema: run npm run db:registry-migrate'
      : `the Registry cannot be asked: ${message}`
  return new Fault('REGISTRY_UNAVAILABLE', reason, { cause })
}

function conflict(reason: string): Fault {
  return new Fault('CONFLICT', reason, { publicMessage: reason })
}

function bucketValues(bucket: NewBucket | null): readonly (string | null)[] {
  if (bucket === null) return [null, null, null, null, null, null, null]
  const { provider, endpoint, region, name, prefix, accessKeyEncrypted, secretKeyEncrypted } =
    bucket
  return [provider, endpoint, region, name, prefix, accessKeyEncrypted, secretKeyEncrypted]
}

function listed(row: TenantRow): ListedTenant {
  const shown = {
    id: String(row.id),
    key: String(row.tenant_key),
    name: row.name === null ? null : String(row.name),
    mode: String(row.mode),
    status: String(row.status),
    statusReason: row.status_reason === null ? null : String(row.status_reason),
    configVersion: Number(row.config_version),
    db: {
      host: textOf(row.db_host),
      port: row.db_port === null ? null : Number(row.db_port),
      name: textOf(row.db_name),
      user: textOf(row.db_user),
      passwordEncrypted: textOf(row.db_password_encrypted),
      sslMode: textOf(row.db_ssl_mode),
      poolMax: row.db_pool_max === null ? null : Number(row.db_pool_max),
    },
  }
  try {
    return { ...shown, tenant: parseTenantRow(row), problem: null }
  } catch (error) {
    const problem = error instanceof Fault ? error.reason : 'the row cannot be read'
    return { ...shown, tenant: null, problem }
  }
}

function readRevocation(row: TenantRow): Revocation {
  return {
    tenantId: row.tenant_id as TenantId,
    tokenId: String(row.token_id),
    expiresAtS: Number(row.expires_at_s),
  }
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}
