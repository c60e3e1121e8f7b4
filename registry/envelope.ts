import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  type KeyObject,
  pbkdf2,
  randomBytes,
  scrypt,
} from 'node:crypto'
import { promisify } from 'node:util'

/**
 * Envelope encryption of the secrets in the Registry (DESIGN 4.4).
 *
 * New values: `v1.<key id>.<base64url(iv 12 ‖ ciphertext ‖ tag 16)>`, AES-256-GCM, the additional data
 * being `<tenant id>:<column>`, so that a ciphertext moved to another row or column does not open
 * (NIST SP 800-38D; a random 96-bit iv is good for 2^32 values per key).
 *
 * Old values, read but never written: `base64(iv 16 ‖ tag 16 ‖ ciphertext)`, AES-256-GCM without
 * additional data, key = PBKDF2-SHA256(master, `tenant-registry-salt`, 100,000 rounds).
 */
const IV_BYTES = 12
const TAG_BYTES = 16
const LEGACY_IV_BYTES = 16
const LEGACY_SALT = 'tenant-registry-salt'
const LEGACY_ROUNDS = 100_000
/** scrypt N = 2^15, r = 8: 32 MiB, about 60 ms, once per key at start. */
const KDF = { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 * 1024 } as const
const KDF_SALT = 'doorman-envelope-v1'
const FORMAT = /^v1\.([0-9a-f]{16})\.([A-Za-z0-9_-]{38,})$/

/** The columns of `tenants` that hold a ciphertext; the key rotation goes through all of them. */
export const SECRET_COLUMNS = [
  'db_password_encrypted',
  'bucket_access_key_encrypted',
  'bucket_secret_key_encrypted',
] as const
export type SecretColumn = (typeof SECRET_COLUMNS)[number]

/** Where a secret stands; part of what its tag covers. `owner` is a tenant id. */
export interface SecretPlace {
  readonly owner: string
  readonly column: SecretColumn | 'key_check' | 'host_admin_password' | 'first_user_hash'
}

/** A ciphertext that does not open. Carries neither the ciphertext nor the reason's bytes. */
export class EnvelopeError extends Error {
  override readonly name = 'EnvelopeError'
}

interface MasterKey {
  readonly id: string
  /** As an object: of bytes Node makes one for every cipher, 4 µs to seal or open and not 14. */
  readonly key: KeyObject
  readonly legacyKey: KeyObject
}

/** The master keys: the first encrypts, all decrypt. */
export class Keyring {
  readonly #keys: readonly MasterKey[]

  private constructor(keys: readonly MasterKey[]) {
    this.#keys = keys
  }

  /** Derives the keys; slow by intent, once at start. `masters` is 64 hex digits or any long text each. */
  static async derive(masters: readonly string[]): Promise<Keyring> {
    if (masters.length === 0) throw new EnvelopeError('no master key')
    return new Keyring(await Promise.all(masters.map(deriveMasterKey)))
  }

  get currentKeyId(): string {
    return this.#current.id
  }

  /** Of all keys, that of the one which encrypts first. An id tells nothing of its key. */
  get keyIds(): readonly string[] {
    return this.#keys.map(({ id }) => id)
  }

  get #current(): MasterKey {
    return this.#keys[0] as MasterKey
  }

  encrypt(plaintext: string, place: SecretPlace): string {
    const { id, key } = this.#current
    const iv = randomBytes(IV_BYTES)
    const cipher = createCipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES })
    cipher.setAAD(additionalData(place))
    const sealed = Buffer.concat([iv, cipher.update(plaintext, 'utf8'), cipher.final()])
    return `v1.${id}.${Buffer.concat([sealed, cipher.getAuthTag()]).toString('base64url')}`
  }

  /** @throws EnvelopeError when no key opens it: tampered with, moved, or of another master key */
  decrypt(ciphertext: string, place: SecretPlace): string {
    const format = FORMAT.exec(ciphertext)
    if (format === null) return this.#decryptLegacy(ciphertext)
    const master = this.#keys.find(({ id }) => id === format[1])
    if (master === undefined) throw new EnvelopeError(`unknown master key id ${format[1]}`)
    const bytes = Buffer.from(format[2] as string, 'base64url')
    return open(
      master.key,
      bytes.subarray(0, IV_BYTES),
      bytes.subarray(IV_BYTES, -TAG_BYTES),
      bytes.subarray(-TAG_BYTES),
      additionalData(place),
    )
  }

  /** True where `ciphertext` is of an old format or of a key that no longer encrypts. */
  isOutdated(ciphertext: string): boolean {
    return keyIdOf(ciphertext) !== this.#current.id
  }

  #decryptLegacy(ciphertext: string): string {
    const bytes = Buffer.from(ciphertext, 'base64')
    const head = LEGACY_IV_BYTES + TAG_BYTES
    if (bytes.length < head) throw new EnvelopeError('not a known ciphertext format')
    for (const [i, { legacyKey }] of this.#keys.entries()) {
      try {
        return open(
          legacyKey,
          bytes.subarray(0, LEGACY_IV_BYTES),
          bytes.subarray(head),
          bytes.subarray(LEGACY_IV_BYTES, head),
          null,
        )
      } catch (error) {
        if (i === this.#keys.length - 1) throw error
      }
    }
    throw new EnvelopeError('no master key')
  }
}

/** The id of the master key that made `ciphertext`; null where it is of the old format, which names none. */
export function keyIdOf(ciphertext: string): string | null {
  return FORMAT.exec(ciphertext)?.[1] ?? null
}

function open(
  key: KeyObject,
  iv: Buffer,
  sealed: Buffer,
  tag: Buffer,
  additional: Buffer | null,
): string {
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES })
    if (additional !== null) decipher.setAAD(additional)
    decipher.setAuthTag(tag)
    return Buffer.concat([decipher.update(sealed), decipher.final()]).toString('utf8')
  } catch {
    // One opaque error: which check failed is of use to an attacker only.
    throw new EnvelopeError('the ciphertext does not open with this master key')
  }
}

function additionalData({ owner, column }: SecretPlace): Buffer {
  return Buffer.from(`${owner}:${column}`, 'utf8')
}

async function deriveMasterKey(master: string): Promise<MasterKey> {
  const [key, legacyKey] = await Promise.all([
    /^[0-9a-fA-F]{64}$/.test(master)
      ? Buffer.from(master, 'hex')
      : (promisify(scrypt) as (p: string, s: string, n: number, o: typeof KDF) => Promise<Buffer>)(
          master,
          KDF_SALT,
          32,
          KDF,
        ),
    promisify(pbkdf2)(master, LEGACY_SALT, LEGACY_ROUNDS, 32, 'sha256'),
  ])
  const id = createHash('sha256').update('doorman-key-id').update(key).digest('hex').slice(0, 16)
  return { id, key: createSecretKey(key), legacyKey: createSecretKey(legacyKey) }
}
