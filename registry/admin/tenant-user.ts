import type { Client } from 'pg'
import type { DbConnection } from '../connection.ts'
import { type Fault, publicFault } from '../lib/errors.ts'
import { messageForLog } from '../lib/log-error.ts'
import { connectPg } from '../lib/pg.ts'
import type { AdminDeps } from './deps.ts'
import { databaseProblem, tenantLimits, tenantTarget } from './probe-database.ts'

/** A user of a tenant's own database. */
export interface NewUser {
  /** In lower case. */
  readonly email: string
  readonly name: string
  readonly roleId: number
  readonly passwordHash: string
}

/** Nothing where the email is taken, in whatever spelling. */
const INSERT = `
  INSERT INTO users (email, name, role_id, password_hash, first_login)
  SELECT $1, $2, $3, $4, true WHERE NOT EXISTS (SELECT FROM users WHERE lower(email) = $1)
  ON CONFLICT DO NOTHING RETURNING id`
const SET_PASSWORD = `UPDATE users SET password_hash = $2 WHERE lower(email) = $1`
const UNDEFINED_TABLE = '42P01'

/** A connection with the tenant's own role. The caller closes it. @throws Fault CONNECTION_TEST_FAILED */
export async function connectTenantDatabase(
  db: DbConnection,
  deps: Pick<AdminDeps, 'tenantCa' | 'addressPolicy'>,
): Promise<Client> {
  try {
    return await connectPg(tenantTarget(db, deps), tenantLimits(deps))
  } catch (error) {
    const [, problem] = databaseProblem(error)
    throw failed(`the database of the tenant cannot be reached: ${problem}`)
  }
}

/**
 * @param options.replacesPassword where the email is taken, its user gets this password
 * @returns the new user's id; null where the email is taken
 * @throws Fault CONNECTION_TEST_FAILED
 */
export async function addUser(
  client: Client,
  { email, name, roleId, passwordHash }: NewUser,
  { replacesPassword = false } = {},
): Promise<string | null> {
  try {
    const { rows } = await client.query<{ id: unknown }>(INSERT, [
      ...[email, name, roleId, passwordHash],
    ])
    if (rows[0] !== undefined) return String(rows[0].id)
    if (replacesPassword) await client.query(SET_PASSWORD, [email, passwordHash])
    return null
  } catch (error) {
    if ((error as { code?: string }).code === UNDEFINED_TABLE) {
      throw failed('no users table yet: run npm run db:tenant-migrate first')
    }
    throw failed(`the user was not added: ${messageForLog(error)}`)
  }
}

function failed(text: string): Fault {
  return publicFault('CONNECTION_TEST_FAILED', text)
}
