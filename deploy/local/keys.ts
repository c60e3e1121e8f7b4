import { createHash, createHmac, generateKeyPairSync, randomBytes } from 'node:crypto'
import { readJson, writeJson } from './private-files.ts'

/** All secrets of the embedded system, made once. */
export interface Keys {
  readonly masterKey: string
  readonly jwtAccess: string
  readonly jwtRefresh: string
  /** Ed25519 private JWK with `kid`. */
  readonly contextSigning: Readonly<Record<string, string>>
  /** 32 bytes, base64url. */
  readonly contextContent: string
  readonly adminApiKey: string
  /** What the passwords of databases and buckets are derived from. */
  readonly seed: string
}

/** The keys in `file` (mode 0600), made on first use. */
export async function keepKeys(file: string): Promise<Keys> {
  const kept = await readJson<Keys>(file)
  if (kept !== null) return kept
  const keys = makeKeys()
  await writeJson(file, keys)
  return keys
}

/** All of them, new. */
export function makeKeys(): Keys {
  const secret = () => randomBytes(32).toString('base64url')
  return {
    masterKey: randomBytes(32).toString('hex'),
    jwtAccess: secret(),
    jwtRefresh: secret(),
    contextSigning: makeSigningKey(),
    contextContent: secret(),
    adminApiKey: secret(),
    seed: secret(),
  }
}

/** One password per purpose ("db:acme"): none has to be stored, and none tells another. */
export function derivePassword(keys: Keys, purpose: string): string {
  return createHmac('sha256', keys.seed).update(purpose).digest('base64url')
}

/** The public half of the signing key, as the app reads it. */
export function publicKeys(keys: Keys): string {
  const { d: _private, ...jwk } = keys.contextSigning
  return JSON.stringify({ keys: [jwk] })
}

function makeSigningKey(): Record<string, string> {
  const { privateKey } = generateKeyPairSync('ed25519')
  const { crv = '', d = '', x = '' } = privateKey.export({ format: 'jwk' })
  // RFC 7638: the required members in this order.
  const thumbprint = createHash('sha256').update(JSON.stringify({ crv, kty: 'OKP', x }))
  return { kty: 'OKP', crv, x, d, kid: thumbprint.digest('base64url') }
}
