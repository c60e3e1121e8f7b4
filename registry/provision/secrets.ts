import { type Keyring, keyIdOf, type SecretPlace } from '../envelope.ts'
import { whyUnopened } from '../rewrap.ts'
import type { RegistryStore } from '../store.ts'
import { placeOfFirstUser } from './first-user.ts'
import { placeOfHost } from './hosts.ts'

/** A secret that is in no tenant's row: of a database host, or of a tenant that is being made. */
interface OtherSecret {
  readonly kind: 'host' | 'run'
  /** Name of the host, or the tenant's key. */
  readonly name: string
  readonly owner: string
  readonly ciphertext: string
}

const LIST = `
  SELECT 'host' AS kind, name, name AS owner, admin_password_encrypted AS ciphertext
  FROM database_hosts
  UNION ALL SELECT 'run', tenant_key, tenant_id::text, first_user_hash_encrypted
  FROM provisioning_runs WHERE first_user_hash_encrypted IS NOT NULL
  ORDER BY kind, name`
const REWRAP = {
  host: `UPDATE database_hosts SET admin_password_encrypted = $3
    WHERE name = $1 AND admin_password_encrypted = $2 RETURNING name`,
  run: `UPDATE provisioning_runs SET first_user_hash_encrypted = $3
    WHERE tenant_key = $1 AND first_user_hash_encrypted = $2 RETURNING tenant_key`,
} as const

export interface SecretCheck {
  readonly name: string
  /** null: it opens. */
  readonly problem: string | null
  /** null: of the older tool. */
  readonly keyId: string | null
}

/** Whether each opens; none is shown. */
export async function checkOtherSecrets(
  store: RegistryStore,
  keyring: Keyring,
): Promise<readonly SecretCheck[]> {
  return (await list(store)).map(secret => {
    const { owner, column } = placeOf(secret)
    return {
      name: `${secret.kind === 'host' ? 'host' : 'first user of'} ${secret.name}`,
      problem: whyUnopened(keyring, owner, column, secret.ciphertext),
      keyId: keyIdOf(secret.ciphertext),
    }
  })
}

/**
 * Brings them under the key that encrypts; one that was changed meanwhile is left to the next run.
 *
 * @returns those that do not open, and how many were encrypted anew
 */
export async function rewrapOtherSecrets(
  store: RegistryStore,
  keyring: Keyring,
): Promise<{ readonly hosts: number; readonly unopened: readonly SecretCheck[] }> {
  let hosts = 0
  for (const secret of await list(store)) {
    const { kind, name, ciphertext } = secret
    const place = placeOf(secret)
    if (!keyring.isOutdated(ciphertext)) continue
    if (whyUnopened(keyring, place.owner, place.column, ciphertext) !== null) continue
    const sealed = keyring.encrypt(keyring.decrypt(ciphertext, place), place)
    const rows = await store.query(REWRAP[kind], [name, ciphertext, sealed])
    if (kind === 'host') hosts += rows.length
  }
  const checks = await checkOtherSecrets(store, keyring)
  return { hosts, unopened: checks.filter(({ problem }) => problem !== null) }
}

async function list(store: RegistryStore): Promise<readonly OtherSecret[]> {
  return (await store.query(LIST, [])) as unknown as readonly OtherSecret[]
}

function placeOf({ kind, owner }: OtherSecret): SecretPlace {
  return kind === 'host' ? placeOfHost(owner) : placeOfFirstUser(owner)
}
