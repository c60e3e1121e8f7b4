import type { Client } from 'pg'
import { z } from 'zod'
import { audited } from '../admin/audited.ts'
import { connectTenantDatabase, addUser as insertUser } from '../admin/tenant-user.ts'
import { openConnections } from '../connection.ts'
import { hashPassword, PASSWORD_BYTES_MAX, PASSWORD_LENGTH_MIN } from '../lib/password.ts'
import { closePg } from '../lib/pg.ts'
import type { Tenant } from '../tenant.ts'
import { readInput } from './create.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readSecrets } from './input.ts'
import { findTenant, type Session } from './session.ts'
import type { Streams } from './streams.ts'

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

/** `add-user`. */
export async function addOneUser(
  session: Session,
  key: string,
  flags: { email?: string; name?: string; roleId?: number },
  streams: Streams,
): Promise<ExitCode> {
  const plain = { key, email: flags.email, name: flags.name, role_id: flags.roleId }
  readInput(userInput, { ...plain, password: 'not yet read' })
  const [password] = await readSecrets(['Password'], streams.input, streams.error)
  const user = readInput(userInput, { ...plain, password })
  const open = await connectTenant(session, key)
  try {
    const id = await addUser(session, open, user)
    if (id === null) throw new CliFailure(EXIT.exists, `user ${user.email} exists already`)
    streams.output.write(`created ${user.email} ${id}\n`)
    return EXIT.ok
  } finally {
    await closePg(open.client)
  }
}

export interface OpenTenant {
  readonly tenant: Tenant
  readonly client: Client
}

/** A connection to a tenant's database with the tenant's own role. The caller closes it. */
export async function connectTenant(session: Session, name: string): Promise<OpenTenant> {
  const tenant = await findTenant(session, name)
  const { db } = openConnections(await session.keyring(), tenant)
  return { tenant, client: await connectTenantDatabase(db, session) }
}

/** @returns the new user's id; null where the email is taken */
export async function addUser(
  session: Session,
  { tenant, client }: OpenTenant,
  { email, name, role_id: roleId, password }: UserInput,
): Promise<string | null> {
  const passwordHash = await hashPassword(password)
  const of = { tenantId: tenant.id, tenantKey: tenant.key, details: { email, role_id: roleId } }
  return audited(
    session,
    { ...of, action: 'tenant.add_user' },
    () => insertUser(client, { email, name, roleId, passwordHash }),
    id => ({ user_id: id }),
  )
}
