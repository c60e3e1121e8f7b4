import type { Client } from 'pg'
import { z } from 'zod'
import { audited } from '../admin/audited.ts'
import { connectTenantDatabase, addUser as insertUser } from '../admin/tenant-user.ts'
import { openConnections } from '../connection.ts'
import { hashPassword, PASSWORD_BYTES_MAX, PASSWORD_LENGTH_MIN } from '../lib/password.ts'
import { closePg } from '../lib/pg.ts'
import type { Tenant } from '../tenant.ts'
import { findTenant, type Session } from './session.ts'

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

export { closePg as closeTenant }
