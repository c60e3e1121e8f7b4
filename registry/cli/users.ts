import type { Client } from 'pg'
import { z } from 'zod'
import { openConnections } from '../connection.ts'
import { Fault } from '../lib/errors.ts'
import { hashPassword, PASSWORD_BYTES_MAX, PASSWORD_LENGTH_MIN } from '../lib/password.ts'
import { closePg, connectPg, sslOptions } from '../lib/pg.ts'
import { CliFailure, EXIT } from './failure.ts'
import { findTenant, type Session } from './session.ts'

const TIMEOUT_MS = 10_000

/** A user as `add-user` takes it from its options, and `add-user --batch` from a line. */
export const userInput = z.strictObject({
  key: z.string().min(1),
  email: z.email('must be an email address').max(254).toLowerCase(),
  name: z.string().min(1),
  role_id: z.int().min(1).max(2_147_483_647),
  password: z
    .string()
    .min(PASSWORD_LENGTH_MIN, `must have at least ${PASSWORD_LENGTH_MIN} characters`)
    .refine(text => Buffer.byteLength(text) <= PASSWORD_BYTES_MAX, 'is too long'),
})
export type UserInput = z.output<typeof userInput>

/** A user of a tenant; nothing where the email is taken, in whatever spelling. */
const INSERT_USER = `
  INSERT INTO users (email, name, role_id, password_hash, first_login)
  SELECT $1, $2, $3, $4, true WHERE NOT EXISTS (SELECT FROM users WHERE lower(email) = $1)
  ON CONFLICT DO NOTHING RETURNING id`

/** A connection to a tenant's database with the tenant's own role. The caller closes it. */
export async function connectTenant(session: Session, name: string): Promise<Client> {
  const tenant = await findTenant(session, name)
  const { db } = openConnections(await session.keyring(), tenant)
  try {
    return await connectPg(
      {
        host: db.host,
        port: db.port,
        database: db.name,
        user: db.user,
        password: db.password,
        ssl: sslOptions(db.ssl, session.tenantCa),
      },
      {
        connectTimeoutMs: 3000,
        statementTimeoutMs: TIMEOUT_MS,
        addressPolicy: session.addressPolicy,
        applicationName: 'doorman-cli',
      },
    )
  } catch (error) {
    const reason = error instanceof Fault ? error.reason : (error as Error).message
    throw new CliFailure(
      EXIT.failure,
      `the database of tenant ${tenant.key} cannot be reached: ${reason}`,
    )
  }
}

/** @returns the new user's id; null where the email is taken */
export async function addUser(client: Client, user: UserInput): Promise<string | null> {
  const hashed = await hashPassword(user.password)
  try {
    const values = [user.email, user.name, user.role_id, hashed]
    const { rows } = await client.query<{ id: unknown }>(INSERT_USER, values)
    return rows[0] === undefined ? null : String(rows[0].id)
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    if (code === '42P01') {
      throw new CliFailure(EXIT.failure, 'no users table yet: run npm run db:tenant-migrate first')
    }
    throw new CliFailure(EXIT.failure, `the user was not added: ${message}`)
  }
}

export { closePg as closeTenant }
