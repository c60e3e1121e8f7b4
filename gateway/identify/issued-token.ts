import { compactVerify } from 'jose'
import { Fault } from '../../registry/lib/errors.ts'
import { parseTenantId, type TenantId } from '../../registry/tenant.ts'
import { PUBLIC_KEY_ALGORITHMS, type PublicKey, type PublicKeyAlgorithm } from './jwks.ts'
import {
  invalid,
  parseObject,
  readPrincipal,
  readTimes,
  requirePlainHeader,
  requireUnexpired,
  TOKEN_BYTES_MAX,
  type Verdict,
} from './token.ts'

/** A token with a signature by a private key, taken apart and not verified yet. */
export interface IssuedToken {
  readonly text: string
  readonly kid: string
  readonly algorithm: PublicKeyAlgorithm
  /** Claim `iss`: whose keys to try. */
  readonly issuer: string
  /** Not to be believed before `checkSignature`. */
  readonly claims: Record<string, unknown>
}

/** What the claims of an issuer's tokens must say. */
export interface ClaimRules {
  readonly issuer: string
  readonly audience: string
  /** The one tenant that the issuer may speak for; null: the platform's issuer, which names any. */
  readonly tenant: TenantId | null
}

/**
 * A tenant's own issuer is not ours to trust with our memory: a token of it that is revoked is kept until it expires,
 * in the Registry and in every gateway.
 */
const TENANT_TOKEN_REST_MAX_S = 31 * 24 * 3600

/** Shortest signature: 64 bytes (ES256, EdDSA); longest: 512 (RSA of 4096 bits). */
const COMPACT_JWS = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86,683})$/
/** The tag of an HS256 token in base64url. */
const HMAC_CHARS = 43

/** True where `token` is no HS256 token by its shape: nothing but the length of its signature is looked at. */
export function isIssuedToken(token: string): boolean {
  return token.length - token.lastIndexOf('.') - 1 !== HMAC_CHARS
}

/**
 * Takes a compact JWS apart (RFC 7515 section 5.2).
 *
 * @throws Fault TOKEN_INVALID
 */
export function readIssuedToken(text: string): IssuedToken {
  if (text.length > TOKEN_BYTES_MAX) throw invalid('longer than 8 KiB')
  const parts = COMPACT_JWS.exec(text)
  if (parts === null) throw invalid('not a compact JWS')
  const [, headerText, payload, signature] = parts as unknown as [string, string, string, string]
  // One token has one spelling: the last character of base64url has bits that no decoder looks at.
  const spelled = Buffer.from(signature, 'base64url').toString('base64url')
  if (spelled !== signature) throw invalid('signature is not canonical')
  const header = parseObject(headerText)
  requirePlainHeader(header)
  const { alg, kid } = header
  const algorithm = PUBLIC_KEY_ALGORITHMS.find(known => known === alg)
  if (algorithm === undefined) throw invalid('algorithm is not one of ours')
  if (typeof kid !== 'string' || kid === '') throw invalid('no kid')
  const claims = parseObject(payload)
  if (typeof claims.iss !== 'string') throw invalid('no iss')
  return { text, kid, algorithm, issuer: claims.iss, claims }
}

/**
 * Through WebCrypto, which computes on the thread pool: the event loop goes on meanwhile.
 *
 * @throws Fault TOKEN_INVALID
 */
export async function checkSignature(token: IssuedToken, key: PublicKey): Promise<void> {
  try {
    await compactVerify(token.text, key.key, { algorithms: [key.algorithm] })
  } catch {
    throw invalid('signature')
  }
}

/**
 * What the claims of a token whose signature was checked say.
 *
 * @throws Fault TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_TENANT_MISSING
 */
export function readIssuedClaims(
  claims: Record<string, unknown>,
  rules: ClaimRules,
  nowMs: number,
): Verdict {
  if (claims.iss !== rules.issuer) throw invalid('iss')
  const { aud } = claims
  const isForUs = Array.isArray(aud) ? aud.includes(rules.audience) : aud === rules.audience
  if (!isForUs) throw invalid('aud')
  const { exp, issuedAtS } = readTimes(claims, nowMs)
  for (const [claim, words] of KIND_CLAIMS) {
    const kind = claims[claim] ?? null
    if (kind === null) continue
    if (typeof kind !== 'string' || !words.includes(kind.toLowerCase())) {
      throw invalid('wrong type of token')
    }
  }
  requireUnexpired(exp, nowMs)
  if (rules.tenant !== null && exp > nowMs / 1000 + TENANT_TOKEN_REST_MAX_S) {
    throw invalid('exp is more than 31 days off')
  }
  return {
    tenantId: tenantOf(claims.tenant_id, rules.tenant),
    // An identity provider knows `sub` (RFC 7519 section 4.1.2) and maybe not our `id`.
    principal: readPrincipal({ ...claims, id: claims.id ?? claims.sub }, exp),
    issuedAtS,
    expiresAtS: exp,
  }
}

/**
 * Claims by which issuers tell access tokens from others, and their words for one: ours, Keycloak's, Cognito's.
 * An ID token or a refresh token is no access token, whoever signed it.
 */
const KIND_CLAIMS: readonly (readonly [claim: string, words: readonly string[]])[] = [
  ['type', ['access']],
  ['typ', ['bearer', 'access', 'at+jwt']],
  ['token_use', ['access']],
]

function tenantOf(claim: unknown, only: TenantId | null): TenantId {
  const named = parseTenantId(claim)
  if (only === null) {
    if (named === null) throw new Fault('TOKEN_TENANT_MISSING', 'no tenant_id')
    return named
  }
  const isNamed = claim !== undefined && claim !== null
  if (isNamed && named !== only) throw invalid('the issuer does not speak for this tenant')
  return only
}
