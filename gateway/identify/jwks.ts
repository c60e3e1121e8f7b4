import { type CryptoKey, importJWK } from 'jose'

/** Algorithms of signatures that are checked by public keys (RFC 7518 section 3.1, RFC 8037). */
export const PUBLIC_KEY_ALGORITHMS = ['RS256', 'ES256', 'EdDSA'] as const
export type PublicKeyAlgorithm = (typeof PUBLIC_KEY_ALGORITHMS)[number]

/** A public key with the one algorithm that it verifies: nothing in a token chooses another. */
export interface PublicKey {
  readonly kid: string
  readonly algorithm: PublicKeyAlgorithm
  /** The key's own numbers: two copies of a key set hold the same key where these are the same. */
  readonly material: string
  readonly key: CryptoKey
}

/** Keys of one set: identity providers publish two to five. */
const KEYS_MAX = 32
const KID_CHARS_MAX = 256
const RSA_BITS_MIN = 2048
/** The cost of a verification grows with the square of the size: none of ours to pay without end. */
const RSA_BITS_MAX = 4096
/** Members of private and symmetric keys (RFC 7518 sections 6.2.2, 6.3.2, 6.4.1, RFC 8037 section 2). */
const SECRET_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']

/**
 * The usable keys of a JWKS (RFC 7517 section 5) by `kid`. A key that is not for verifying signatures by an
 * algorithm of ours is left out, as one set serves many purposes.
 *
 * @throws Error, naming no part of the text, where it is no key set, where it holds a private or symmetric
 * key (whoever reads it could sign), where one `kid` stands for two keys, or where no usable key is left
 */
export async function readJwks(text: string): Promise<ReadonlyMap<string, PublicKey>> {
  const keys = new Map<string, PublicKey>()
  for (const jwk of keysOf(text)) {
    if (jwk.kty === 'oct' || SECRET_MEMBERS.some(member => Object.hasOwn(jwk, member))) {
      throw new Error('the key set holds a private or symmetric key')
    }
    const key = await readKey(jwk)
    if (key === null) continue
    const known = keys.get(key.kid)
    if (known !== undefined && known.material !== key.material) {
      throw new Error('two keys of the key set have one kid')
    }
    keys.set(key.kid, key)
  }
  if (keys.size === 0) throw new Error('the key set holds no usable key')
  return keys
}

type Jwk = Readonly<Record<string, unknown>>

function keysOf(text: string): readonly Jwk[] {
  let set: unknown
  try {
    set = JSON.parse(text)
  } catch {
    throw new Error('the key set is not JSON')
  }
  const keys = isObject(set) ? set.keys : undefined
  if (!Array.isArray(keys) || !keys.every(isObject)) throw new Error('not a key set')
  if (keys.length > KEYS_MAX) throw new Error(`more than ${KEYS_MAX} keys`)
  return keys
}

async function readKey(jwk: Jwk): Promise<PublicKey | null> {
  const { kid } = jwk
  if (typeof kid !== 'string' || kid === '' || kid.length > KID_CHARS_MAX) return null
  if (jwk.use !== undefined && jwk.use !== 'sig') return null
  const ops = jwk.key_ops
  if (ops !== undefined && !(Array.isArray(ops) && ops.includes('verify'))) return null
  const kind = KINDS.find(({ kty, crv }) => kty === jwk.kty && (crv === null || crv === jwk.crv))
  if (kind === undefined) return null
  if (jwk.alg !== undefined && jwk.alg !== kind.algorithm) return null
  const numbers = kind.members.map(member => jwk[member])
  if (!numbers.every(isBase64url)) return null
  if (kind.kty === 'RSA' && !isSaneRsa(numbers as string[])) return null
  // Of all members only those that make up the key: no other has a say in what it may do.
  const bare = Object.fromEntries(kind.members.map((member, i) => [member, numbers[i]]))
  const { kty, crv, algorithm } = kind
  try {
    const key = await importJWK({ kty, ...(crv !== null && { crv }), ...bare }, algorithm)
    return { kid, algorithm, material: `${kty} ${numbers.join(' ')}`, key: key as CryptoKey }
  } catch {
    // A point that is not on its curve, for one.
    return null
  }
}

const KINDS = [
  { kty: 'RSA', crv: null, algorithm: 'RS256', members: ['n', 'e'] },
  { kty: 'EC', crv: 'P-256', algorithm: 'ES256', members: ['x', 'y'] },
  { kty: 'OKP', crv: 'Ed25519', algorithm: 'EdDSA', members: ['x'] },
] as const satisfies readonly {
  kty: string
  crv: string | null
  algorithm: PublicKeyAlgorithm
  members: readonly string[]
}[]

/** A modulus of 2048 to 4096 bits; an exponent that is odd, at least 3 (1 verifies all) and short. */
function isSaneRsa([n = '', e = '']: readonly string[]): boolean {
  const modulus = Buffer.from(n, 'base64url').toString('hex').replace(/^0+/, '')
  const exponent = Number.parseInt(Buffer.from(e, 'base64url').toString('hex'), 16)
  const bits = modulus.length * 4 - (Math.clz32(Number.parseInt(modulus[0] ?? '0', 16)) - 28)
  if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX) return false
  return exponent >= 3 && exponent <= 0xffff_ffff && exponent % 2 === 1
}

function isBase64url(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9_-]+$/.test(value)
}

function isObject(value: unknown): value is Jwk {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
