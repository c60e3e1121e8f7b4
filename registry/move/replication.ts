import { setTimeout as delay } from 'node:timers/promises'
import { type Client, escapeIdentifier, escapeLiteral } from 'pg'
import type { AddressPolicy } from '../lib/address.ts'
import type { PgTarget } from '../lib/pg.ts'
import { newPassword, scramVerifier } from '../lib/scram.ts'
import type { TenantId } from '../tenant.ts'
import { ADMIN_STATEMENT_MS, MoveRefused, openPlace, type Place } from './place.ts'
import type { Schema } from './schema.ts'

/** Who makes and ends the replication: roles of more rights than the tenant's. */
export interface LiveOptions {
  /** In the tenant's present database: may make roles with REPLICATION. */
  readonly sourceAdmin: PgTarget
  /** In the new database: may make subscriptions. */
  readonly targetAdmin: PgTarget
  /** Where the new server finds the old one. */
  readonly seenAt: { readonly host: string; readonly port: number }
}

export interface ReplicationOptions extends LiveOptions {
  readonly tenantId: TenantId
  /** Sessions of the tenant's two roles. */
  readonly source: Place
  readonly target: Place
  readonly schema: Schema
  readonly addressPolicy: AddressPolicy | null
}

/** Rows and changes that must be left before requests are made to wait. */
const LAG_BYTES_MAX = 4 * 1024 * 1024
const PROGRESS_MS = 1_000
const CATCH_UP_POLL_MS = 20
/** The first copy of a very large database; requests go on meanwhile. */
const COPY_MS_MAX = 24 * 3600 * 1000
const END_STATEMENT_MS = 15_000

/** Tables that would stop taking changes once they are published, or lose some on the way. */
const HINDRANCES = `
  SELECT 'the server’s wal_level is ' || current_setting('wal_level') || ', not logical' AS what
    WHERE current_setting('wal_level') <> 'logical'
  UNION ALL
  SELECT format('%s has no primary key and no other replica identity', c.oid::regclass) FROM pg_class c
    WHERE c.oid = ANY($1::text[]::regclass[]) AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (
      SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))
  UNION ALL
  SELECT format('%s is unlogged', c.oid::regclass) FROM pg_class c
    WHERE c.oid = ANY($1::text[]::regclass[]) AND c.relpersistence = 'u'
  UNION ALL
  SELECT format('the trigger %I of %s fires for replicated rows too', g.tgname, g.tgrelid::regclass) FROM pg_trigger g
    WHERE g.tgrelid = ANY($1::text[]::regclass[]) AND NOT g.tgisinternal AND g.tgenabled IN ('A', 'R')`

/**
 * Logical replication from the tenant's database into the new one, from a first copy of all rows to the last change
 * before the switch. The tenant is served all the while. It has a role, a publication and a slot on the old server and
 * a subscription on the new one, all of one name, which is the tenant's: what an operator who died has left is found
 * by it and cleared away by the next attempt. Until then the slot keeps the old server from recycling its log.
 */
export class Replication {
  readonly #options: ReplicationOptions
  readonly #name: string
  readonly #role: string
  readonly #sourceAdmin: Place
  readonly #targetAdmin: Place

  private constructor(options: ReplicationOptions, sourceAdmin: Place, targetAdmin: Place) {
    this.#options = options
    this.#name = replicationName(options.tenantId)
    this.#role = escapeIdentifier(this.#name)
    this.#sourceAdmin = sourceAdmin
    this.#targetAdmin = targetAdmin
  }

  /** Connects both administrators. @throws MoveRefused */
  static async open(options: ReplicationOptions): Promise<Replication> {
    const { sourceAdmin, targetAdmin, addressPolicy, source, target } = options
    await letIn(source.client, sourceAdmin, ['CONNECT'])
    await letIn(target.client, targetAdmin, ['CONNECT', 'CREATE'])
    const from = await openPlace(
      'the tenant’s server, as administrator,',
      sourceAdmin,
      addressPolicy,
      ADMIN_STATEMENT_MS,
    )
    try {
      const to = await openPlace(
        'the target server, as administrator,',
        targetAdmin,
        addressPolicy,
        ADMIN_STATEMENT_MS,
      )
      return new Replication(options, from, to)
    } catch (error) {
      await from.close()
      throw error
    }
  }

  /** @throws MoveRefused naming every hindrance */
  async check(): Promise<void> {
    const { source, schema } = this.#options
    const names = schema.tables.map(({ name }) => name)
    const { rows } = await source.client.query<{ what: string }>(HINDRANCES, [names])
    if (rows.length > 0) {
      throw new MoveRefused(`cannot be replicated: ${rows.map(({ what }) => what).join('; ')}`)
    }
  }

  /** The new database has the schema by now, and no rows. */
  async start(): Promise<void> {
    await this.#clearSource()
    const { schema, seenAt, sourceAdmin, targetAdmin } = this.#options
    const source = this.#options.source.client
    const password = newPassword()
    await this.#makeRole(password)
    const tables = schema.tables.map(({ name }) => name)
    const database = escapeIdentifier(sourceAdmin.database)
    await source.query(`GRANT CONNECT ON DATABASE ${database} TO ${this.#role}`)
    for (const namespace of await namespacesOf(source, tables)) {
      await source.query(`GRANT USAGE ON SCHEMA ${namespace} TO ${this.#role}`)
    }
    if (tables.length > 0)
      await source.query(`GRANT SELECT ON ${tables.join(', ')} TO ${this.#role}`)
    const what = tables.length > 0 ? `FOR TABLE ${tables.join(', ')}` : ''
    await source.query(`CREATE PUBLICATION ${this.#role} ${what}`)
    const dsn = conninfo({
      ...{ host: seenAt.host, port: String(seenAt.port), dbname: sourceAdmin.database },
      ...{ user: this.#name, password, connect_timeout: '10' },
      // The new server has no CA of ours. Its way to the old one is between two servers of the operator's.
      sslmode: sourceAdmin.ssl === false ? 'disable' : 'require',
    })
    const owner = await currentUser(this.#options.target.client)
    // Rows are written in the name of their tables' owner.
    await this.#targetAdmin.client.query(`GRANT ${owner} TO CURRENT_USER`)
    await refusable(`the target server takes no subscription of ${targetAdmin.user}`, () =>
      this.#targetAdmin.client.query(
        `CREATE SUBSCRIPTION ${this.#role} CONNECTION ${escapeLiteral(dsn)} PUBLICATION ${this.#role}
         WITH (copy_data = true, disable_on_error = true)`,
      ),
    )
  }

  /**
   * Waits until every table is there and what is left to come is little.
   *
   * @param onProgress tables that are there, and bytes of the old server's log that are not yet applied
   */
  async untilCopied(
    signal: AbortSignal,
    onProgress: (copied: number, lagBytes: number) => void,
  ): Promise<void> {
    const deadline = Date.now() + COPY_MS_MAX
    for (;;) {
      signal.throwIfAborted()
      const { copied, all } = await this.#tables()
      const lagBytes = await this.#lagBytes(null)
      // Kept awake, for they are needed at the end.
      await Promise.all(this.#tenants().map(client => client.query('SELECT')))
      onProgress(copied, lagBytes)
      if (copied === all && lagBytes < LAG_BYTES_MAX) return
      if (Date.now() > deadline) throw new MoveRefused('the first copy took longer than a day')
      await delay(PROGRESS_MS, undefined, { signal })
    }
  }

  /** Nobody writes by now. Waits until the last change is in the new database, for good. */
  async catchUp(signal: AbortSignal): Promise<void> {
    const { rows } = await this.#sourceAdmin.client.query<{ lsn: string }>(
      'SELECT pg_current_wal_insert_lsn()::text AS lsn',
    )
    const lsn = rows[0]?.lsn as string
    while ((await this.#lagBytes(lsn)) > 0) {
      await this.#tables()
      await delay(CATCH_UP_POLL_MS, undefined, { signal })
    }
  }

  /** Ends the flow, slot and all. What is left on the old server goes with the tenant's right to write there. */
  async end(): Promise<void> {
    const admin = this.#targetAdmin.client
    const owner = await currentUser(this.#options.target.client)
    await admin.query(`SET statement_timeout = ${END_STATEMENT_MS}`)
    await admin.query(`DROP SUBSCRIPTION ${this.#role}`)
    await admin.query(`REVOKE ${owner} FROM CURRENT_USER`)
    await letClear(this.#sourceAdmin.client, this.#options.source.client, this.#name)
  }

  /** @param owner within the transaction that closes the old database */
  async withdraw(owner: Client): Promise<void> {
    await withdraw(owner, this.#name)
  }

  /** After that transaction. */
  async dropRole(): Promise<void> {
    await this.#sourceAdmin.client.query(`DROP ROLE IF EXISTS ${this.#role}`)
  }

  /** Takes everything of it away, by new sessions, for the old ones may be gone. The new database is dropped next. */
  async abandon(): Promise<void> {
    const { source, sourceAdmin, targetAdmin, addressPolicy } = this.#options
    await this.close()
    const admin = await openPlace(
      'the tenant’s server',
      sourceAdmin,
      addressPolicy,
      ADMIN_STATEMENT_MS,
    )
    try {
      const owner = await openPlace(
        'the tenant’s database',
        source.target,
        addressPolicy,
        ADMIN_STATEMENT_MS,
      )
      try {
        // The other end first: it would only connect anew.
        await dropSubscription(targetAdmin, this.#name, addressPolicy)
        await clearSource(admin.client, owner.client, this.#name)
      } finally {
        await owner.close()
      }
    } finally {
      await admin.close()
    }
  }

  cut(): void {
    this.#sourceAdmin.cut()
    this.#targetAdmin.cut()
  }

  async close(): Promise<void> {
    await this.#sourceAdmin.close()
    await this.#targetAdmin.close()
  }

  async #makeRole(password: string): Promise<void> {
    const { client } = this.#sourceAdmin
    const role = `CREATE ROLE ${this.#role} LOGIN PASSWORD ${escapeLiteral(await scramVerifier(password))}`
    const { user } = this.#options.sourceAdmin
    await refusable(`${user} may not make a role that replicates`, async () => {
      const { rows } = await client.query(`SELECT FROM pg_roles WHERE rolname = 'rds_replication'`)
      // Amazon RDS has no REPLICATION to give; a role stands for it.
      await client.query(rows.length === 0 ? `${role} REPLICATION` : role)
      if (rows.length > 0) await client.query(`GRANT rds_replication TO ${this.#role}`)
    })
  }

  async #tables(): Promise<{ copied: number; all: number }> {
    const { rows } = await this.#targetAdmin.client.query<{
      copied: number
      all: number
      is_enabled: boolean
    }>(
      `SELECT s.subenabled AS is_enabled, count(*) FILTER (WHERE r.srsubstate = 'r')::int AS copied, count(r)::int AS all
       FROM pg_subscription s LEFT JOIN pg_subscription_rel r ON r.srsubid = s.oid
       WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
       GROUP BY s.subenabled`,
      [this.#name],
    )
    const [row] = rows
    if (row === undefined) throw new MoveRefused('the subscription is gone')
    if (!row.is_enabled) {
      throw new MoveRefused('the new database refuses a row; the log of its server says which')
    }
    return row
  }

  /** @param lsn up to which; null: now */
  async #lagBytes(lsn: string | null): Promise<number> {
    const { rows } = await this.#sourceAdmin.client.query<{ lag: string | null; status: string }>(
      `SELECT pg_wal_lsn_diff(coalesce($2::pg_lsn, pg_current_wal_insert_lsn()), confirmed_flush_lsn)::text AS lag,
         wal_status AS status
       FROM pg_replication_slots WHERE slot_name = $1`,
      [this.#name, lsn],
    )
    const [row] = rows
    if (row === undefined || row.status === 'lost') {
      throw new MoveRefused('the old server has dropped the slot')
    }
    return Number(row.lag ?? Number.POSITIVE_INFINITY)
  }

  async #clearSource(): Promise<void> {
    await clearSource(this.#sourceAdmin.client, this.#options.source.client, this.#name)
  }

  #tenants(): readonly Client[] {
    return [this.#options.source.client, this.#options.target.client]
  }
}

/** Of the role, the publication, the slot and the subscription of a tenant's move. */
export function replicationName(tenantId: TenantId): string {
  return `doorman_move_${tenantId.replaceAll('-', '')}`
}

/**
 * Drops what the operator of an earlier move of this tenant has left on the new server by dying: the subscription, and
 * with it the database, for no one but a move that has not switched has one by that name.
 *
 * @param admin in any database of the server
 * @returns whether there was one
 */
export async function dropLeftPlace(
  admin: PgTarget,
  wanted: { readonly database: string; readonly user: string },
  tenantId: TenantId,
  addressPolicy: AddressPolicy | null,
): Promise<boolean> {
  const name = replicationName(tenantId)
  const place = await openPlace('the target server', admin, addressPolicy, ADMIN_STATEMENT_MS)
  try {
    const { rows } = await place.client.query(
      `SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
       WHERE s.subname = $1 AND d.datname = $2`,
      [name, wanted.database],
    )
    if (rows.length === 0) return false
    // Who drops it decides: a move that has done so itself meanwhile is about to serve the tenant from there.
    const there = { ...admin, database: wanted.database }
    if (!(await dropSubscription(there, name, addressPolicy))) return false
    await place.client.query(
      `DROP DATABASE IF EXISTS ${escapeIdentifier(wanted.database)} WITH (FORCE)`,
    )
    await place.client.query(`DROP ROLE IF EXISTS ${escapeIdentifier(wanted.user)}`)
    return true
  } finally {
    await place.close()
  }
}

/**
 * Without its slot, which the old server may not be there to drop: that is done over there.
 *
 * @returns false: there was none
 */
async function dropSubscription(
  admin: PgTarget,
  name: string,
  addressPolicy: AddressPolicy | null,
): Promise<boolean> {
  const quoted = escapeIdentifier(name)
  const place = await openPlace('the target server', admin, addressPolicy, ADMIN_STATEMENT_MS)
  try {
    const { rows } = await place.client.query(
      `SELECT FROM pg_subscription WHERE subname = $1
       AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [name],
    )
    if (rows.length === 0) return false
    await place.client.query(`ALTER SUBSCRIPTION ${quoted} DISABLE`)
    await place.client.query(`ALTER SUBSCRIPTION ${quoted} SET (slot_name = NONE)`)
    await place.client.query(`DROP SUBSCRIPTION ${quoted}`)
    return true
  } finally {
    await place.close()
  }
}

/** Its own, and those by which its tables are first copied. */
const SLOTS = `
  SELECT s.slot_name AS slot FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid
  WHERE s.database = current_database() AND (s.slot_name = $1 OR a.usename = $1)`
const CUT_SLOT = `
  SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
  WHERE slot_name = $1 AND active_pid IS NOT NULL`
const DROP_SLOT =
  'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1'

/** @param admin and the tenant's own role, both in the tenant's database */
async function clearSource(admin: Client, owner: Client, name: string): Promise<void> {
  const quoted = escapeIdentifier(name)
  const { rows: slots } = await admin.query<{ slot: string }>(SLOTS, [name])
  for (const { slot } of slots) {
    await admin.query(CUT_SLOT, [slot])
    await admin.query(DROP_SLOT, [slot])
  }
  const { rows } = await admin.query('SELECT FROM pg_roles WHERE rolname = $1', [name])
  if (rows.length > 0) await letClear(admin, owner, name)
  await withdraw(owner, name)
  await admin.query(`DROP ROLE IF EXISTS ${quoted}`)
}

/** What a role was granted is taken back by who granted it, who must be a member of it. */
async function letClear(admin: Client, owner: Client, name: string): Promise<void> {
  await admin.query(`GRANT ${escapeIdentifier(name)} TO ${await currentUser(owner)}`)
}

async function withdraw(owner: Client, name: string): Promise<void> {
  const quoted = escapeIdentifier(name)
  await owner.query(`DROP PUBLICATION IF EXISTS ${quoted}`)
  const { rows } = await owner.query('SELECT FROM pg_roles WHERE rolname = $1', [name])
  if (rows.length > 0) await owner.query(`DROP OWNED BY ${quoted}`)
}

/**
 * Databases that Doorman has made are open to their owner alone. The right of an administrator to connect stays: it is
 * one that administrators have by default.
 */
async function letIn(owner: Client, admin: PgTarget, rights: readonly string[]): Promise<void> {
  for (const right of rights) {
    const { rows } = await owner.query<{ is_needed: boolean }>(
      `SELECT NOT has_database_privilege($1, datname, $2) AND pg_has_role(datdba, 'USAGE') AS is_needed
       FROM pg_database WHERE datname = current_database() AND EXISTS (
         SELECT FROM pg_roles WHERE rolname = $1)`,
      [admin.user, right],
    )
    if (!rows[0]?.is_needed) continue
    const [database, role] = [escapeIdentifier(admin.database), escapeIdentifier(admin.user)]
    await owner.query(`GRANT ${right} ON DATABASE ${database} TO ${role}`)
  }
}

async function namespacesOf(client: Client, tables: readonly string[]): Promise<readonly string[]> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT DISTINCT relnamespace::regnamespace::text AS name FROM pg_class
     WHERE oid = ANY($1::text[]::regclass[])`,
    [tables],
  )
  return rows.map(({ name }) => name)
}

async function currentUser(client: Client): Promise<string> {
  const { rows } = await client.query<{ name: string }>('SELECT quote_ident(current_user) AS name')
  return rows[0]?.name as string
}

async function refusable<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw new MoveRefused(`${what}: ${(error as Error).message}`, { cause: error })
  }
}

/** As libpq reads it: every value quoted. */
function conninfo(parts: Readonly<Record<string, string>>): string {
  return Object.entries(parts)
    .map(([key, value]) => `${key}='${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`)
    .join(' ')
}
