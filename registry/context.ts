import { randomBytes, timingSafeEqual } from 'node:crypto'
import {
  type CryptoKey,
  calculateJwkThumbprint,
  compactDecrypt,
  decodeProtectedHeader,
  importJWK,
  type JSONWebKeySet,
  type JWK,
  jwtVerify,
} from 'jose'
import { z } from 'zod'
import type { TenantConnections } from './connection.ts'
import { Fault } from './lib/errors.ts'
import { HmacSha256 } from './lib/hmac.ts'
import { makeNestedJwt } from './lib/nested-jwt.ts'
import { parseTenantId, SSL_MODES, type Tenant, type TenantId, type TenantKey } from './tenant.ts'

/**
 * The tenant context (DESIGN 4.2): what the gateway tells the app about a request's tenant.
 *
 * `x-tenant-context` is a nested JWT (RFC 7519 section 5.2): EdDSA signed, then encrypted with
 * `dir` + `A256GCM`; minted rarely. `x-tenant-request` is an HMAC under the context's `mac` key that
 * binds one request (method, target, user, id, time) to it; made for every request.
 */
export const CONTEXT_HEADER = 'x-tenant-context'
export const REQUEST_HEADER = 'x-tenant-request'
/** Longest life of a context in seconds. */
export const CONTEXT_LIFE_S = 60
/** A context is at most this long; one that would be longer is not sent (fail closed). */
export const CONTEXT_BYTES_MAX = 4096
/** How far the request header's `iat` may be off, in milliseconds; also the replay window. */
export const REQUEST_SKEW_MS = 30_000
/** A request header longer than this is refused before it is parsed. */
const REQUEST_HEADER_BYTES_MAX = 4096
const CONTEXT_TYPE = 'tenant-context+jwt'

export interface ContextClaims extends TenantConnections {
  readonly tid: TenantId
  readonly key: TenantKey
  readonly mode: 'shared' | 'dedicated'
  readonly ver: number
  /** Key of the request header's HMAC. */
  readonly mac: HmacSha256
  /** Seconds since the epoch. */
  readonly exp: number
}

export interface MintedContext {
  readonly token: string
  readonly mac: HmacSha256
  /** Milliseconds since the epoch. */
  readonly expiresAtMs: number
}

/** The gateway's half: it alone holds the signing key. */
export interface ContextMinter {
  mint(tenant: Tenant, connections: TenantConnections, nowMs: number): Promise<MintedContext>
}

/** The app's half: public keys and content keys. */
export interface ContextVerifier {
  /** @throws Fault CONTEXT_INVALID, one opaque code whatever was wrong; the reason is for the log */
  verify(token: string, nowMs: number): Promise<ContextClaims>
}

/**
 * @param signingJwk Ed25519 private JWK; its `kid`, or else its RFC 7638 thumbprint, goes into the header
 * @param contentKeys 32 bytes each, base64url; the first encrypts
 */
export async function makeContextMinter(
  signingJwk: JWK,
  contentKeys: readonly string[],
): Promise<ContextMinter> {
  // Only of one that can be taken out a KeyObject may be made (DEP0204).
  const signingKey = await importJWK(signingJwk, 'EdDSA', { extractable: true })
  const signingKid = signingJwk.kid ?? (await calculateJwkThumbprint(signingJwk))
  const [content] = await readContentKeys(contentKeys)
  if (content === undefined) throw new Error('no content key')
  const seal = makeNestedJwt({
    signingKey: signingKey as CryptoKey,
    signingKid,
    type: CONTEXT_TYPE,
    contentKey: content.key,
    contentKid: content.kid,
  })

  return {
    async mint(tenant, { db, bucket }, nowMs) {
      const mac = randomBytes(32)
      const issuedAtS = Math.floor(nowMs / 1000)
      const claims = {
        tid: tenant.id,
        key: tenant.key,
        mode: tenant.mode,
        ver: tenant.configVersion,
        db,
        ...(bucket === null ? {} : { bucket }),
        mac: mac.toString('base64url'),
        ...{ iss: 'doorman', aud: 'app', iat: issuedAtS, exp: issuedAtS + CONTEXT_LIFE_S },
      }
      const token = seal(claims)
      if (token.length > CONTEXT_BYTES_MAX) {
        throw new Fault('TENANT_CONFIG_INVALID', `context of tenant ${tenant.id} is over 4 KiB`)
      }
      return { token, mac: new HmacSha256(mac), expiresAtMs: (issuedAtS + CONTEXT_LIFE_S) * 1000 }
    },
  }
}

const claimsSchema = z.object({
  iat: z.int(),
  exp: z.int(),
  tid: z.string(),
  key: z.string(),
  mode: z.enum(['shared', 'dedicated']),
  ver: z.int().nonnegative(),
  mac: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  db: z.object({
    host: z.string().min(1),
    port: z.int().min(1).max(65_535),
    name: z.string().min(1),
    user: z.string().min(1),
    password: z.string(),
    ssl: z.enum(SSL_MODES).nullable().default(null),
    pool_max: z.int().positive().nullable().default(null),
  }),
  bucket: z
    .object({
      provider: z.string().nullable().default(null),
      endpoint: z.string().nullable().default(null),
      region: z.string().nullable().default(null),
      name: z.string().min(1),
      prefix: z.string().nullable().default(null),
      access_key: z.string().nullable().default(null),
      secret_key: z.string().nullable().default(null),
    })
    .optional(),
})

/**
 * @param jwks public Ed25519 keys, each with a `kid`
 * @param contentKeys 32 bytes each, base64url; all decrypt
 */
export async function makeContextVerifier(
  jwks: JSONWebKeySet,
  contentKeys: readonly string[],
): Promise<ContextVerifier> {
  const publicKeys = new Map<string, CryptoKey | Uint8Array>()
  for (const jwk of jwks.keys) {
    const kid = jwk.kid ?? (await calculateJwkThumbprint(jwk))
    publicKeys.set(kid, await importJWK(jwk, 'EdDSA'))
  }
  const decryptKeys = new Map((await readContentKeys(contentKeys)).map(c => [c.kid, c.key]))

  return {
    async verify(token, nowMs) {
      try {
        if (token.length > CONTEXT_BYTES_MAX) throw new Error('over 4 KiB')
        const contentKey = decryptKeys.get(decodeProtectedHeader(token).kid ?? '')
        if (contentKey === undefined) throw new Error('unknown content key')
        const { plaintext } = await compactDecrypt(token, contentKey, {
          keyManagementAlgorithms: ['dir'],
          contentEncryptionAlgorithms: ['A256GCM'],
        })
        const { payload } = await jwtVerify(
          new TextDecoder().decode(plaintext),
          header => {
            const key = publicKeys.get(header.kid ?? '')
            if (key === undefined) throw new Error('unknown signing key')
            return key
          },
          {
            algorithms: ['EdDSA'],
            typ: CONTEXT_TYPE,
            issuer: 'doorman',
            audience: 'app',
            currentDate: new Date(nowMs),
            requiredClaims: ['iat', 'exp'],
          },
        )
        return readClaims(payload, nowMs)
      } catch (error) {
        if (error instanceof Fault) throw error
        const reason = error instanceof Error ? error.message : 'not a context'
        throw new Fault('CONTEXT_INVALID', reason)
      }
    },
  }
}

function readClaims(payload: unknown, nowMs: number): ContextClaims {
  const claims = claimsSchema.parse(payload)
  const tid = parseTenantId(claims.tid)
  if (tid === null) throw new Error('tid is not a UUID')
  if (claims.exp - claims.iat > CONTEXT_LIFE_S) throw new Error('lives too long')
  if (claims.iat * 1000 - nowMs > REQUEST_SKEW_MS) throw new Error('issued in the future')
  return {
    tid,
    key: claims.key as TenantKey,
    mode: claims.mode,
    ver: claims.ver,
    db: claims.db,
    bucket: claims.bucket ?? null,
    mac: new HmacSha256(Buffer.from(claims.mac, 'base64url')),
    exp: claims.exp,
  }
}

async function readContentKeys(keys: readonly string[]) {
  return Promise.all(
    keys.map(async k => {
      const key = Buffer.from(k, 'base64url')
      if (key.length !== 32) throw new Error('a content key must be 32 bytes, base64url')
      const kid = await calculateJwkThumbprint({ kty: 'oct', k: key.toString('base64url') })
      return { kid, key }
    }),
  )
}

/** Who makes the request, from its verified token; absent on routes without a user. */
export interface Principal {
  readonly sub?: string
  readonly email?: string
  readonly role_id?: string | number
  readonly jti?: string
  /** Seconds since the epoch. */
  readonly exp?: number
}

/** The principal of a route without a user, ready for the header. */
export const NO_PRINCIPAL = encodePrincipal({})

export function encodePrincipal(principal: Principal): string {
  return Buffer.from(JSON.stringify(principal), 'utf8').toString('base64url')
}

/**
 * The value of `x-tenant-request`.
 *
 * @param target exactly as it is forwarded, query included
 * @param principal from `encodePrincipal`
 * @param requestId unique for this attempt, without a dot: the app refuses one that it saw before
 */
export function signRequest(
  mac: HmacSha256,
  method: string,
  target: string,
  principal: string,
  requestId: string,
  nowMs: number,
): string {
  const tag = requestTag(mac, method, target, principal, requestId, String(nowMs))
  return `v1.${principal}.${requestId}.${nowMs}.${tag}`
}

export interface VerifiedRequest {
  readonly principal: Principal
  readonly requestId: string
  /** Milliseconds since the epoch. */
  readonly issuedAtMs: number
}

const principalSchema = z.object({
  sub: z.string().optional(),
  email: z.string().optional(),
  role_id: z.union([z.string(), z.number()]).optional(),
  jti: z.string().optional(),
  exp: z.number().optional(),
})

/**
 * Checks the request header against the context's key. Replays are the caller's to refuse: it keeps
 * the ids of the window.
 *
 * @param readPrincipal given where the caller keeps what it read; called after the tag proved right
 * @throws Fault CONTEXT_INVALID
 */
export function verifyRequest(
  header: string,
  mac: HmacSha256,
  method: string,
  target: string,
  nowMs: number,
  readPrincipal: (text: string) => Principal = decodePrincipal,
): VerifiedRequest {
  if (header.length > REQUEST_HEADER_BYTES_MAX) throw refused('request header too long')
  const parts = header.split('.')
  if (parts.length !== 5 || parts[0] !== 'v1') throw refused('request header malformed')
  const [, principal, requestId, issuedAt, tag] = parts as [string, string, string, string, string]
  if (!isSameTag(tag, requestTag(mac, method, target, principal, requestId, issuedAt))) {
    throw refused('request tag does not match')
  }
  const issuedAtMs = Number(issuedAt)
  if (!(Math.abs(nowMs - issuedAtMs) <= REQUEST_SKEW_MS)) throw refused('request too old or early')
  return { principal: readPrincipal(principal), requestId, issuedAtMs }
}

/** A SHA-256 in base64url. */
const TAG_CHARS = 43
const givenTag = Buffer.alloc(TAG_CHARS)
const expectedTag = Buffer.alloc(TAG_CHARS)

function isSameTag(given: string, expected: string): boolean {
  if (given.length !== TAG_CHARS) return false
  // UTF-8 and not Latin-1, which would take U+0141 for "A"; what does not fit is cut, and differs.
  if (givenTag.write(given, 'utf8') !== TAG_CHARS) return false
  expectedTag.write(expected, 'latin1')
  return timingSafeEqual(givenTag, expectedTag)
}

/** @throws Fault CONTEXT_INVALID */
export function decodePrincipal(text: string): Principal {
  try {
    return principalSchema.parse(
      JSON.parse(Buffer.from(text, 'base64url').toString('utf8')),
    ) as Principal
  } catch {
    throw refused('principal malformed')
  }
}

function requestTag(
  mac: HmacSha256,
  method: string,
  target: string,
  principal: string,
  requestId: string,
  issuedAt: string,
): string {
  return mac.tag(`v1\n${method}\n${target}\n${principal}\n${requestId}\n${issuedAt}`)
}

function refused(reason: string): Fault {
  return new Fault('CONTEXT_INVALID', reason)
}
