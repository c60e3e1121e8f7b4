import { addUser, connectTenantDatabase } from '../admin/tenant-user.ts'
import { openConnections } from '../connection.ts'
import type { Keyring, SecretPlace } from '../envelope.ts'
import { publicFault } from '../lib/errors.ts'
import { hashPassword } from '../lib/password.ts'
import { closePg } from '../lib/pg.ts'
import type { Tenant, TenantId } from '../tenant.ts'
import type { HostAccess } from './hosts.ts'
import type { FirstUser } from './spec.ts'

/**
 * What a run keeps of the first user's password: its hash, as the tenant's database will, and that sealed. So
 * whoever goes on with a run needs no secret for it.
 */
export async function sealPassword(
  keyring: Keyring,
  id: TenantId,
  password: string,
): Promise<string> {
  return keyring.encrypt(await hashPassword(password), placeOfFirstUser(id))
}

/**
 * Makes the first user of a tenant that was never active, so that one who is there already is of an earlier try
 * of this run, and gets the password of this one.
 *
 * @throws Fault VALIDATION_FAILED where no password is known
 */
export async function ensureFirstUser(
  { keyring, ca, addressPolicy }: HostAccess,
  tenant: Tenant,
  { email, name, roleId }: FirstUser,
  sealed: string | null,
): Promise<void> {
  if (sealed === null) {
    const text = 'the password of the first user is needed: go on with one'
    throw publicFault('VALIDATION_FAILED', text)
  }
  const passwordHash = keyring.decrypt(sealed, placeOfFirstUser(tenant.id))
  const { db } = openConnections(keyring, tenant)
  const client = await connectTenantDatabase(db, { tenantCa: ca, addressPolicy })
  try {
    const user = { email, name, roleId, passwordHash }
    await addUser(client, user, { replacesPassword: true })
  } finally {
    await closePg(client)
  }
}

export function placeOfFirstUser(tenantId: string): SecretPlace {
  return { owner: tenantId, column: 'first_user_hash' }
}
