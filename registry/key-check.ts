import type { Keyring } from './envelope.ts'
import { Fault } from './lib/errors.ts'
import type { RegistryStore } from './store.ts'
import { sampleSecrets } from './stored-secrets.ts'

/** What the key-check row says once decrypted. */
const KNOWN_TEXT = 'doorman key check'
/** Secrets tried on a Registry that has no key check yet. */
const SAMPLE = 20

type Store = Pick<RegistryStore, 'query'>

/** At start: does the master key fit? Newest first; bounded, though there is one row per key. */
const READ_KEY_CHECKS =
  'SELECT key_id, ciphertext FROM doorman_key_check ORDER BY created_at DESC LIMIT 100'

/** First start with a master key. */
const WRITE_KEY_CHECK =
  'INSERT INTO doorman_key_check (key_id, ciphertext) VALUES ($1, $2) ON CONFLICT DO NOTHING'

/** The master key is not the Registry's. */
export class KeyCheckError extends Error {
  override readonly name = 'KeyCheckError'
}

/**
 * At start: makes sure that `keyring` opens what is in the Registry, so that a wrong master key is one
 * clear error and not a decrypt failure per tenant. With a previous key in the ring a rotation passes.
 * Writes the check row of the current key where it is missing; a database role that may only read is
 * fine, the row then comes from `db:registry-migrate` or the CLI.
 *
 * @returns ids of keys that the Registry knows and the ring lacks: secrets of theirs, if any, do not open here
 * @throws KeyCheckError, or Fault REGISTRY_UNAVAILABLE
 */
export async function checkMasterKey(store: Store, keyring: Keyring): Promise<readonly string[]> {
  const rows = await readKeyChecks(store)
  const isKnown =
    rows.length > 0
      ? rows.some(({ keyId, ciphertext }) => opensCheck(keyring, keyId, ciphertext))
      : await opensSample(store, keyring)
  if (!isKnown) {
    throw new KeyCheckError(
      'MASTER_ENCRYPTION_KEY is not the key that this Registry was encrypted with (key check failed)',
    )
  }
  const keyId = keyring.currentKeyId
  const missing = rows.map(row => row.keyId).filter(id => !keyring.keyIds.includes(id))
  if (rows.some(row => row.keyId === keyId)) return missing
  try {
    await writeKeyCheck(
      store,
      keyId,
      keyring.encrypt(KNOWN_TEXT, { owner: keyId, column: 'key_check' }),
    )
  } catch (error) {
    if (!isReadOnly(error)) throw error
  }
  return missing
}

export async function readKeyChecks(
  store: Store,
): Promise<readonly { keyId: string; ciphertext: string }[]> {
  const rows = await store.query(READ_KEY_CHECKS, [])
  return rows.map(row => ({ keyId: String(row.key_id), ciphertext: String(row.ciphertext) }))
}

export async function writeKeyCheck(
  store: Store,
  keyId: string,
  ciphertext: string,
): Promise<void> {
  await store.query(WRITE_KEY_CHECK, [keyId, ciphertext])
}

function opensCheck(keyring: Keyring, keyId: string, ciphertext: string): boolean {
  try {
    return keyring.decrypt(ciphertext, { owner: keyId, column: 'key_check' }) === KNOWN_TEXT
  } catch {
    return false
  }
}

/** One secret that opens is proof enough: another may be damaged, which is that tenant's fault alone. */
async function opensSample(store: Store, keyring: Keyring): Promise<boolean> {
  const secrets = await sampleSecrets(store, SAMPLE)
  if (secrets.length === 0) return true
  return secrets.some(({ owner, ciphertext }) => {
    try {
      keyring.decrypt(ciphertext, { owner, column: 'db_password_encrypted' })
      return true
    } catch {
      return false
    }
  })
}

/** insufficient_privilege, read_only_sql_transaction */
function isReadOnly(error: unknown): boolean {
  const code = error instanceof Fault ? (error.cause as { code?: string } | undefined)?.code : ''
  return code === '42501' || code === '25006'
}
