import { createHash, timingSafeEqual } from 'node:crypto'
import type { Principal } from '../../registry/context.ts'
import { Fault } from '../../registry/lib/errors.ts'
import { HmacSha256 } from '../../registry/lib/hmac.ts'
import { parseTenantId, type TenantId } from '../../registry/tenant.ts'

/** What a verified token says. */
export interface Verdict {
  readonly tenantId: TenantId
  readonly principal: Principal
  /**
   * Seconds since the epoch: `orig_iat`, the sign-in that a rotated token descends from, else `iat`;
   * without either the token predates every revocation.
   */
  readonly issuedAtS: number
  /** Seconds since the epoch. */
  readonly expiresAtS: number
}

/** HARDENING B.8. */
export const TOKEN_BYTES_MAX = 8192
const CLOCK_TOLERANCE_S = 30
const COMPACT_JWS = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})$/
/** Header members that change what is verified or with what (RFC 7515 section 4.1, RFC 7797). */
const FORBIDDEN_MEMBERS = ['crit', 'jku', 'jwk', 'x5u', 'x5c', 'x5t', 'x5t#S256', 'zip', 'b64']

/**
 * Verifies an HS256 token (RFC 7515, RFC 7519) by one of `secrets`. Own code, for this runs once per
 * request on a cache miss and jose's promise-based verify costs ten times as much; the algorithm is
 * fixed, so that nothing in the token chooses how it is checked (RFC 8725 section 3.1).
 *
 * @param typesAllowed values of claim `type`; null stands for a token without one
 * @throws Fault TOKEN_INVALID (one opaque code), TOKEN_EXPIRED, TOKEN_TENANT_MISSING
 */
export function verifyToken(
  token: string,
  secrets: readonly HmacSha256[],
  typesAllowed: readonly (string | null)[],
  nowMs: number,
): Verdict {
  if (token.length > TOKEN_BYTES_MAX) throw invalid('longer than 8 KiB')
  const parts = COMPACT_JWS.exec(token)
  if (parts === null) throw invalid('not a compact HS256 JWS')
  const [, header, payload, signature] = parts as unknown as [string, string, string, string]
  checkHeader(header)
  checkSignature(`${header}.${payload}`, signature, secrets)
  return readClaims(parseObject(payload), typesAllowed, nowMs)
}

/** The key of an HS256 secret; one longer than a block is hashed first (RFC 2104 section 2). */
export function secretKey(secret: string): HmacSha256 {
  const bytes = Buffer.from(secret, 'utf8')
  return new HmacSha256(bytes.length > 64 ? createHash('sha256').update(bytes).digest() : bytes)
}

/** Headers found good: an issuer writes the same one into all its tokens. */
const GOOD_HEADERS_MAX = 64
const GOOD_HEADER_CHARS_MAX = 256
const goodHeaders = new Set<string>()

function checkHeader(text: string): void {
  if (goodHeaders.has(text)) return
  const header = parseObject(text)
  if (header.alg !== 'HS256') throw invalid('algorithm is not HS256')
  requirePlainHeader(header)
  if (goodHeaders.size < GOOD_HEADERS_MAX && text.length <= GOOD_HEADER_CHARS_MAX) {
    goodHeaders.add(Buffer.from(text, 'latin1').toString('latin1'))
  }
}

/** Types of access tokens (RFC 9068 section 2.1), and nothing that would change how they are verified. */
export function requirePlainHeader(header: Record<string, unknown>): void {
  const { typ } = header
  if (typ !== undefined && !/^(application\/)?(at\+)?jwt$/i.test(String(typ))) throw invalid('typ')
  for (const member of FORBIDDEN_MEMBERS) {
    if (Object.hasOwn(header, member)) throw invalid(`header member ${member}`)
  }
}

function checkSignature(signed: string, signature: string, secrets: readonly HmacSha256[]): void {
  const given = Buffer.from(signature, 'latin1')
  for (const secret of secrets) {
    const expected = Buffer.from(secret.tag(signed), 'latin1')
    if (given.length === expected.length && timingSafeEqual(given, expected)) return
  }
  throw invalid('signature')
}

function readClaims(
  claims: Record<string, unknown>,
  typesAllowed: readonly (string | null)[],
  nowMs: number,
): Verdict {
  const { exp, issuedAtS } = readTimes(claims, nowMs)
  const type = claims.type ?? null
  if (!typesAllowed.includes(type as string | null)) throw invalid('wrong type of token')
  requireUnexpired(exp, nowMs)
  const tenantId = parseTenantId(claims.tenant_id)
  if (tenantId === null) throw new Fault('TOKEN_TENANT_MISSING', 'no tenant_id')
  return {
    tenantId,
    principal: readPrincipal(claims, exp),
    issuedAtS,
    expiresAtS: exp,
  }
}

/**
 * @returns seconds since the epoch; `issuedAtS` as in `Verdict`, 0 where there is none
 * @throws Fault TOKEN_INVALID; a token that expired is none of it
 */
export function readTimes(
  { exp, iat, nbf, orig_iat: signedInAt }: Record<string, unknown>,
  nowMs: number,
): { exp: number; issuedAtS: number } {
  const latestS = nowMs / 1000 + CLOCK_TOLERANCE_S
  if (!isTime(exp)) throw invalid('no exp')
  if (iat !== undefined && !isTime(iat)) throw invalid('iat')
  if (signedInAt !== undefined && !isTime(signedInAt)) throw invalid('orig_iat')
  if (nbf !== undefined && (!isTime(nbf) || nbf > latestS)) throw invalid('nbf')
  if (iat !== undefined && iat > latestS) throw invalid('issued in the future')
  return { exp, issuedAtS: iat === undefined ? 0 : Math.min(iat, signedInAt ?? iat) }
}

/** @throws Fault TOKEN_EXPIRED */
export function requireUnexpired(expS: number, nowMs: number): void {
  if (expS <= nowMs / 1000 - CLOCK_TOLERANCE_S) throw new Fault('TOKEN_EXPIRED', 'exp has passed')
}

/** Claims are data: they travel as base64url JSON only, never in a header of their own. */
export function readPrincipal(claims: Record<string, unknown>, exp: number): Principal {
  const { id, email, role_id: roleId, jti } = claims
  return {
    ...(typeof id === 'string' || typeof id === 'number' ? { sub: text(String(id), 'id') } : {}),
    ...(typeof email === 'string' ? { email: text(email, 'email') } : {}),
    ...(typeof roleId === 'string'
      ? { role_id: text(roleId, 'role_id') }
      : typeof roleId === 'number'
        ? { role_id: roleId }
        : {}),
    ...(typeof jti === 'string' ? { jti: text(jti, 'jti') } : {}),
    exp,
  }
}

/** Longest text of one claim; four of them fit the request header's 4 KiB. */
const CLAIM_CHARS_MAX = 320

function text(value: string, claim: string): string {
  if (value.length > CLAIM_CHARS_MAX) throw invalid(`claim ${claim} is too long`)
  return value
}

export function parseObject(base64url: string): Record<string, unknown> {
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.from(base64url, 'base64url').toString('utf8'))
  } catch {
    throw invalid('not JSON')
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw invalid('not a JSON object')
  }
  return parsed as Record<string, unknown>
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0
}

export function invalid(reason: string): Fault {
  return new Fault('TOKEN_INVALID', reason)
}
