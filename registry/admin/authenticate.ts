import { timingSafeEqual } from 'node:crypto'
import { Fault } from '../lib/errors.ts'
import type { Scope } from './actor.ts'
import type { AdminDeps } from './deps.ts'
import { FailureLimit } from './failure-limit.ts'
import { findAdminKey, hasAdminKeys, hashOf } from './keys.ts'

/** Whose key a request came with. */
export interface KeyHolder {
  readonly name: string
  readonly scope: Scope
}

/** Name of the key of the environment in the audit. */
export const FIRST_KEY = 'ADMIN_API_KEY'
const KEY_CHARS_MAX = 1024

/**
 * Knows admin keys: the first one, of the environment, and named ones. Keys are compared by hash, in a time
 * that does not depend on them; addresses that try wrong ones are slowed down.
 */
export class Authenticator {
  readonly #deps: Pick<AdminDeps, 'store' | 'log'>
  readonly #firstHash: Buffer | null
  readonly #failures = new FailureLimit()

  constructor(deps: Pick<AdminDeps, 'store' | 'log'>, firstKey: string | undefined) {
    this.#deps = deps
    this.#firstHash = firstKey === undefined ? null : hashOf(firstKey)
  }

  /**
   * @param key as it was sent; null: none was
   * @throws Fault ADMIN_KEY_INVALID, ADMIN_LIMITED, ADMIN_DISABLED, REGISTRY_UNAVAILABLE
   */
  async authenticate(key: string | null, address: string): Promise<KeyHolder> {
    // Without a first key even a request without any costs a look-up.
    const isCounted = key !== null || this.#firstHash === null
    if (isCounted && !this.#failures.mayTry(address, performance.now())) {
      throw new Fault('ADMIN_LIMITED', `too many wrong admin keys from ${address}`)
    }
    const holder = key === null || key.length > KEY_CHARS_MAX ? null : await this.#find(key)
    if (holder !== null) return holder
    if (isCounted) this.#failures.add(address, performance.now())
    if (this.#firstHash === null && !(await hasAdminKeys(this.#deps))) {
      this.#deps.log.warn(
        'the admin API was called and has no key: ADMIN_API_KEY, or admin-key create',
      )
      throw new Fault('ADMIN_DISABLED', 'neither ADMIN_API_KEY nor a named key')
    }
    throw new Fault('ADMIN_KEY_INVALID', key === null ? 'no admin key' : 'a wrong admin key')
  }

  async #find(key: string): Promise<KeyHolder | null> {
    const hash = hashOf(key)
    if (this.#firstHash !== null && timingSafeEqual(hash, this.#firstHash)) {
      return { name: FIRST_KEY, scope: 'own' }
    }
    // Looked up by hash: the time of the look-up tells of the hash, from which no key can be made.
    return findAdminKey(this.#deps, hash)
  }
}
