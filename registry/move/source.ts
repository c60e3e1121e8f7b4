import type { Client } from 'pg'
import { MoveRefused } from './place.ts'
import type { Schema } from './schema.ts'

/** Who may write to a table, but for its owner's own right to grant. */
const WRITERS = `
  SELECT DISTINCT coalesce(quote_ident(g.rolname), 'PUBLIC') AS role
  FROM pg_class c CROSS JOIN aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
    LEFT JOIN pg_roles g ON g.oid = x.grantee
  WHERE c.oid = ANY($1::text[]::regclass[]) AND x.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')`

const IS_OWNER = `
  SELECT quote_ident(datname) AS database, pg_has_role(datdba, 'USAGE') AS is_owner
  FROM pg_database WHERE datname = current_database()`

/** Sessions of the tenant's role, which are those of app replicas; they find out that they have to connect anew. */
const CUT_OTHERS = `
  SELECT count(pg_terminate_backend(pid))::int AS cut FROM pg_stat_activity
  WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()`

/**
 * Stops all writes of the tenant, by locks that end with this session: should the operator die, the database is as
 * before. It waits for transactions under way, those included whose client has left the gateway.
 *
 * @throws Error where a lock is not had within `waitMs`
 */
export async function stopWrites(
  client: Client,
  { tables }: Schema,
  waitMs: number,
): Promise<void> {
  await client.query('BEGIN')
  if (tables.length === 0) return
  await client.query(`SET LOCAL lock_timeout = ${Math.max(1, Math.floor(waitMs))}`)
  // SHARE: others may read, nobody may write or change the schema.
  await client.query(`LOCK TABLE ${tables.map(({ name }) => name).join(', ')} IN SHARE MODE`)
}

/**
 * Within the transaction that stopped the writes: when it commits, what still waits for its locks is refused, and so is
 * everything that comes later, for an app replica with an old pool must never write where nobody will look again.
 *
 * @returns the statements that undo it
 */
export async function refuseWritesForGood(
  client: Client,
  { tables }: Schema,
): Promise<readonly string[]> {
  const names = tables.map(({ name }) => name)
  const undo: string[] = []
  if (names.length > 0) {
    const { rows } = await client.query<{ role: string }>(WRITERS, [names])
    const roles = rows.map(({ role }) => role).join(', ')
    const rights = `INSERT, UPDATE, DELETE, TRUNCATE ON ${names.join(', ')}`
    if (roles !== '') await client.query(`REVOKE ${rights} FROM ${roles}`)
    undo.push(`GRANT ${rights} TO ${roles}`)
  }
  const { rows } = await client.query<{ database: string; is_owner: boolean }>(IS_OWNER)
  const [row] = rows
  if (row?.is_owner) {
    await client.query(`REVOKE CONNECT ON DATABASE ${row.database} FROM PUBLIC, CURRENT_USER`)
    const { rows: users } = await client.query('SELECT quote_ident(current_user) AS name')
    undo.push(`GRANT CONNECT ON DATABASE ${row.database} TO ${users[0]?.name}`)
  }
  return undo
}

/** @returns how many sessions there were */
export async function cutOtherSessions(client: Client): Promise<number> {
  const { rows } = await client.query<{ cut: number }>(CUT_OTHERS)
  return rows[0]?.cut ?? 0
}

/** @throws MoveRefused where the tenant's role could not be kept from writing, or its data not be read */
export async function checkSource(client: Client, schema: Schema): Promise<void> {
  const { rows } = await client.query<{ is_super: boolean; standby: boolean }>(
    `SELECT rolsuper AS is_super, pg_is_in_recovery() AS standby FROM pg_roles WHERE rolname = current_user`,
  )
  if (rows[0]?.standby) throw new MoveRefused('the tenant’s database is a standby')
  if (rows[0]?.is_super) {
    throw new MoveRefused(
      'the tenant’s role is a superuser, which nothing keeps from writing to the old database',
    )
  }
  const { foreignTables, refused } = schema
  if (foreignTables.length > 0) {
    throw new MoveRefused(`the tenant’s role does not own: ${foreignTables.join(', ')}`)
  }
  if (refused.length > 0) {
    throw new MoveRefused(
      `cannot be copied: ${refused.join(', ')}. Move it by pg_dump and pg_restore: see the runbook`,
    )
  }
}
