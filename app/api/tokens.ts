import { createHash, randomUUID } from 'node:crypto'
import { errors, type JWTPayload, jwtVerify, SignJWT } from 'jose'
import { Fault } from '../../registry/lib/errors.ts'
import type { Secret } from '../../registry/lib/secret.ts'
import type { TenantId } from '../../registry/tenant.ts'

export interface TokenOptions {
  readonly accessSecret: Secret
  readonly refreshSecret: Secret
  /** Secrets that were replaced and whose refresh tokens still count. */
  readonly refreshSecretsPrevious: readonly Secret[]
  readonly accessLifeS: number
  readonly refreshLifeS: number
}

/** Whom a token is for. */
export interface Subject {
  readonly id: string
  readonly email: string
  readonly role_id: number
}

/**
 * Seconds since the epoch: when the session began that a token belongs to. It outlives every rotation, as
 * claim `orig_iat`, so that "sign everyone out" ends the sessions begun before and not only the tokens
 * issued before: one that is rotated at that very moment falls too.
 */
export type SessionStartS = number

export interface RefreshToken {
  readonly token: string
  /** What is stored instead of the token. */
  readonly sha256: Buffer
  readonly expiresAt: Date
}

export interface Tokens {
  /** @param startedAtS absent: the session begins now */
  access(subject: Subject, tenant: TenantId, startedAtS?: SessionStartS): Promise<string>
  refresh(subject: Subject, tenant: TenantId, startedAtS?: SessionStartS): Promise<RefreshToken>
  /**
   * Whose refresh token this is, what it is stored as, and when its session began.
   *
   * @throws Fault TOKEN_INVALID (also one of another tenant), TOKEN_EXPIRED
   */
  verifyRefresh(
    token: string,
    tenant: TenantId,
  ): Promise<{ userId: string; sha256: Buffer; startedAtS: SessionStartS }>
}

export function makeTokens(options: TokenOptions): Tokens {
  const accessKey = keyOf(options.accessSecret)
  const refreshKey = keyOf(options.refreshSecret)
  const refreshKeys = [refreshKey, ...options.refreshSecretsPrevious.map(keyOf)]

  const sign = (
    type: string,
    { id, email, role_id }: Subject,
    tenant: TenantId,
    key: Uint8Array,
    lifeS: number,
    startedAtS: SessionStartS | undefined,
  ) => {
    const issuedAtS = nowS()
    const claims = { id, email, role_id, tenant_id: tenant, type }
    return new SignJWT({ ...claims, orig_iat: startedAtS ?? issuedAtS })
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
      .setJti(randomUUID())
      .setIssuedAt(issuedAtS)
      .setExpirationTime(issuedAtS + lifeS)
      .sign(key)
  }

  return {
    access: (subject, tenant, startedAtS) =>
      sign('access', subject, tenant, accessKey, options.accessLifeS, startedAtS),

    async refresh(subject, tenant, startedAtS) {
      const { refreshLifeS } = options
      const expiresAt = new Date((nowS() + refreshLifeS) * 1000)
      const token = await sign('refresh', subject, tenant, refreshKey, refreshLifeS, startedAtS)
      return { token, sha256: sha256(token), expiresAt }
    },

    async verifyRefresh(token, tenant) {
      const { type, tenant_id, id, iat, orig_iat } = await verifyAny(token, refreshKeys)
      if (type !== 'refresh') throw invalid('not a refresh token')
      if (tenant_id !== tenant) throw invalid('refresh token of another tenant')
      if (typeof id !== 'string' && typeof id !== 'number') throw invalid('no user in the token')
      // A token of an earlier release has no other time than its own.
      const startedAtS = typeof orig_iat === 'number' ? orig_iat : (iat as number)
      return { userId: String(id), sha256: sha256(token), startedAtS }
    },
  }
}

async function verifyAny(token: string, keys: readonly Uint8Array[]): Promise<JWTPayload> {
  for (const key of keys) {
    try {
      const { payload } = await jwtVerify(token, key, {
        algorithms: ['HS256'],
        requiredClaims: ['exp', 'iat', 'jti'],
      })
      return payload
    } catch (error) {
      if (error instanceof errors.JWTExpired) throw new Fault('TOKEN_EXPIRED', 'refresh token')
      if (!(error instanceof errors.JWSSignatureVerificationFailed)) {
        throw invalid(error instanceof Error ? error.message : 'not a token')
      }
    }
  }
  throw invalid('signature does not match')
}

function keyOf(secret: Secret): Uint8Array {
  return new TextEncoder().encode(secret.reveal())
}

function sha256(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

function nowS(): number {
  return Math.floor(Date.now() / 1000)
}

function invalid(reason: string): Fault {
  return new Fault('TOKEN_INVALID', reason)
}
