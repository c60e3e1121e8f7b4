import pg, { type Client } from 'pg'
import { Fault } from '../lib/errors.ts'
import { scramVerifier } from '../lib/scram.ts'

/** A role's comment says whose it is: another role of that name is never taken over nor dropped. */
const markOf = (tenantId: string) => `doorman tenant ${tenantId}`

const FIND_ROLE = `SELECT shobj_description(oid, 'pg_authid') AS mark FROM pg_roles WHERE rolname = $1`
const FIND_DATABASE = `SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = $1`
const IS_SUPERUSER = 'SELECT rolsuper FROM pg_roles WHERE rolname = current_user'
const DUPLICATE_DATABASE = '42P04'

/** The tenant's role with this password, whether it was there or not. @throws Fault CONFLICT */
export async function ensureRole(
  client: Client,
  name: string,
  password: string,
  tenantId: string,
): Promise<void> {
  const role = pg.escapeIdentifier(name)
  const verifier = pg.escapeLiteral(await scramVerifier(password))
  // At once: a role without its comment would be a stranger's to the next run.
  await client.query('BEGIN')
  try {
    const { rows } = await client.query<{ mark: string | null }>(FIND_ROLE, [name])
    const [found] = rows
    if (found === undefined) {
      await client.query(`CREATE ROLE ${role} LOGIN PASSWORD ${verifier}`)
      await client.query(`COMMENT ON ROLE ${role} IS ${pg.escapeLiteral(markOf(tenantId))}`)
      const { rows: own } = await client.query<{ rolsuper: boolean }>(IS_SUPERUSER)
      // Whoever is no superuser must be able to become the owner that it gives a database to.
      if (!own[0]?.rolsuper) await client.query(`GRANT ${role} TO CURRENT_USER`)
    } else if (found.mark !== markOf(tenantId)) {
      throw new Fault('CONFLICT', `there is a role ${name} already, which is not this tenant’s`)
    } else await client.query(`ALTER ROLE ${role} LOGIN PASSWORD ${verifier}`)
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  }
}

/** The tenant's database, which nobody else may connect to. @throws Fault CONFLICT */
export async function ensureDatabase(client: Client, name: string, role: string): Promise<void> {
  const database = pg.escapeIdentifier(name)
  if ((await ownerOf(client, name)) === null) {
    try {
      await client.query(`CREATE DATABASE ${database} OWNER ${pg.escapeIdentifier(role)}`)
    } catch (error) {
      // Another run was faster; whose it is is looked at below.
      if ((error as { code?: string }).code !== DUPLICATE_DATABASE) throw error
    }
  }
  const owner = await ownerOf(client, name)
  if (owner !== role) {
    throw new Fault('CONFLICT', `there is a database ${name} already, which ${owner} owns`)
  }
  await client.query(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`)
}

/**
 * Takes both away where they are this tenant's, and leaves them where they are not.
 *
 * @returns false where they are not
 */
export async function dropObjects(
  client: Client,
  names: { readonly database: string; readonly role: string },
  tenantId: string,
): Promise<boolean> {
  const { rows } = await client.query<{ mark: string | null }>(FIND_ROLE, [names.role])
  if (rows[0]?.mark !== markOf(tenantId)) return false
  if ((await ownerOf(client, names.database)) === names.role) {
    await client.query(`DROP DATABASE ${pg.escapeIdentifier(names.database)} WITH (FORCE)`)
  }
  await client.query(`DROP ROLE ${pg.escapeIdentifier(names.role)}`)
  return true
}

async function ownerOf(client: Client, database: string): Promise<string | null> {
  const { rows } = await client.query<{ owner: string }>(FIND_DATABASE, [database])
  return rows[0]?.owner ?? null
}
