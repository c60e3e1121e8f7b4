import {
  EnvelopeError,
  type Keyring,
  SECRET_COLUMNS,
  type SecretColumn,
  type SecretPlace,
} from './envelope.ts'
import type { RegistryStore } from './store.ts'
import { replaceSecrets, type TenantSecrets, tenantSecrets } from './stored-secrets.ts'

/** A secret that no key opens: damaged, moved here from another row, or of a key that is not in the ring. */
export interface Unopened {
  readonly tenantId: string
  readonly tenantKey: string
  readonly column: SecretColumn
  readonly reason: string
}

export interface RewrapOptions {
  readonly store: Pick<RegistryStore, 'query' | 'transaction'>
  readonly keyring: Keyring
  /** Rows in one transaction, which other writers of these rows wait for. */
  readonly batchRows?: number
  /** After each batch: tenants done so far. */
  readonly onProgress?: (rewrapped: number) => void
}

export interface Rewrapped {
  /** Tenants whose secrets were encrypted anew. */
  readonly tenants: number
  readonly unopened: readonly Unopened[]
  /** False where tenants were changed again and again meanwhile: some may be left. */
  readonly isComplete: boolean
}

const BATCH_ROWS = 200
/** Each pass meets only rows that were changed during the one before. */
const PASSES_MAX = 10

/**
 * Brings every secret of the Registry under the key that encrypts, those in the older tool's format too, while
 * everything runs. What is done stands: after a kill the next run finds only the rest. An edit that comes between is never
 * lost. Gateways notice nothing: who holds a row as it was opens it by the old key, which has to be in every ring.
 *
 * @throws Fault REGISTRY_UNAVAILABLE
 */
export async function rewrapSecrets(options: RewrapOptions): Promise<Rewrapped> {
  const { store, keyring, batchRows = BATCH_ROWS, onProgress } = options
  let tenants = 0
  let unopened: Unopened[] = []
  for (let pass = 0; pass < PASSES_MAX; pass++) {
    unopened = []
    let overtaken = 0
    for await (const page of tenantSecrets(store, keyring.currentKeyId, batchRows)) {
      const pairs = page.flatMap(was => {
        const is = rewrapOne(keyring, was, unopened)
        return is === was ? [] : [[was, is] as const]
      })
      if (pairs.length === 0) continue
      const done = await replaceSecrets(store, pairs)
      tenants += done
      overtaken += pairs.length - done
      onProgress?.(tenants)
    }
    if (overtaken === 0) return { tenants, unopened, isComplete: true }
  }
  return { tenants, unopened, isComplete: false }
}

/** Why a secret does not open, in words that may be shown; null where it does. */
export function whyUnopened(
  keyring: Keyring,
  owner: string,
  column: SecretPlace['column'],
  ciphertext: string,
): string | null {
  try {
    keyring.decrypt(ciphertext, { owner, column })
    return null
  } catch (error) {
    return error instanceof EnvelopeError ? error.message : 'decrypt failed'
  }
}

/** `was` itself where nothing of it can be brought under the present key. */
function rewrapOne(keyring: Keyring, was: TenantSecrets, unopened: Unopened[]): TenantSecrets {
  const is: Record<string, unknown> = { ...was }
  let isChanged = false
  for (const column of SECRET_COLUMNS) {
    const ciphertext = was[column]
    if (!ciphertext || !keyring.isOutdated(ciphertext)) continue
    const place = { owner: was.id, column }
    try {
      is[column] = keyring.encrypt(keyring.decrypt(ciphertext, place), place)
      isChanged = true
    } catch (error) {
      const reason = error instanceof EnvelopeError ? error.message : 'decrypt failed'
      unopened.push({ tenantId: was.id, tenantKey: was.tenant_key, column, reason })
    }
  }
  return isChanged ? (is as TenantSecrets) : was
}
