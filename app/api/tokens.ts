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

export interface RefreshToken {
  readonly token: string
  /** What is stored instead of the token. */
  readonly sha256: Buffer
  readonly expiresAt: Date
}

export interface Tokens {
  access(subject: Subject, tenant: TenantId): Promise<string>
  refresh(subject: Subject, tenant: TenantId): Promise<RefreshToken>
  /**
   * Whose refresh token this is, and what it is stored as.
   *
   * @throws Fault TOKEN_INVALID (also one of another tenant), TOKEN_EXPIRED
   */
  verifyRefresh(token: string, tenant: TenantId): Promise<{ userId: string; sha256: Buffer }>
}

export function makeTokens(options: TokenOptions): Tokens {
  const accessKey = keyOf(options.accessSecret)
  const refreshKey = keyOf(options.refreshSecret)
  const refreshKeys = [refreshKey, ...options.refreshSecretsPrevious.map(keyOf)]

  const sign = (type: string, s: Subject, tenant: TenantId, key: Uint8Array, expS: number) =>
    new SignJWT({ id: s.id, email: s.email, role_id: s.role_id, tenant_id: tenant, type })
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
      .setJti(randomUUID())
      .setIssuedAt()
      .setExpirationTime(expS)
      .sign(key)

  return {
    access: (subject, tenant) =>
      sign('access', subject, tenant, accessKey, nowS() + options.accessLifeS),

    async refresh(subject, tenant) {
      const expiresAtS = nowS() + options.refreshLifeS
      const token = await sign('refresh', subject, tenant, refreshKey, expiresAtS)
      return { token, sha256: sha256(token), expiresAt: new Date(expiresAtS * 1000) }
    },

    async verifyRefresh(token, tenant) {
      const { type, tenant_id, id } = await verifyAny(token, refreshKeys)
      if (type !== 'refresh') throw invalid('not a refresh token')
      if (tenant_id !== tenant) throw invalid('refresh token of another tenant')
      if (typeof id !== 'string' && typeof id !== 'number') throw invalid('no user in the token')
      return { userId: String(id), sha256: sha256(token) }
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
