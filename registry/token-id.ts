import { hash } from 'node:crypto'
import type { TenantId } from './tenant.ts'

/** That one token is refused from now on. */
export interface Revocation {
  readonly tenantId: TenantId
  /** See `tokenIdOf`. Two tenants may have the same one. */
  readonly tokenId: string
  /** Claim `exp` of the token, seconds since the epoch: until then it has to be refused. */
  readonly expiresAtS: number
}

/** A jti that is its own id: UUIDs, ULIDs, hex, base64url. No colon, which sets the hashes apart. */
const PLAIN_JTI = /^[A-Za-z0-9._~-]{1,128}$/

/**
 * What a token is revoked by: its jti, or a hash where the jti is long or has bytes that PostgreSQL or a
 * log would not take. A token without jti goes by the hash of what its signature covers, and not of the
 * whole: some signatures can be rewritten without becoming invalid (ECDSA's s, RFC 6979 aside), what
 * they cover cannot.
 *
 * @param token a compact JWS
 */
export function tokenIdOf(jti: string | undefined, token: string): string {
  if (jti === undefined || jti === '') {
    return `sha256:${hash('sha256', token.slice(0, token.lastIndexOf('.')), 'base64url')}`
  }
  return jtiTokenId(jti)
}

/** The same for a token of which only the jti is known. */
export function jtiTokenId(jti: string): string {
  return PLAIN_JTI.test(jti) ? jti : `jti-sha256:${hash('sha256', jti, 'base64url')}`
}
