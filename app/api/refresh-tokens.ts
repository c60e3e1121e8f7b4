import { randomUUID } from 'node:crypto'
import type { Queryable } from '../kit/db.ts'
import type { RefreshToken } from './tokens.ts'

/**
 * Takes the lock under which all refresh tokens of a user change: a refresh that runs beside a logout
 * would else insert a token that the logout does not see. False where there is no such user.
 */
export async function lockUser(tx: Queryable, userId: string): Promise<boolean> {
  const rows = await tx.query('SELECT 1 AS found FROM users WHERE id = $1 FOR NO KEY UPDATE', [
    userId,
  ])
  return rows.length > 0
}

/** Stores a token of a login (a new family) or of a rotation. The user is locked. */
export async function storeToken(
  tx: Queryable,
  userId: string,
  token: RefreshToken,
  family: string = randomUUID(),
): Promise<void> {
  await tx.query(
    `INSERT INTO refresh_tokens (token_sha256, family, user_id, expires_at)
     VALUES ($1, $2, $3, $4)`,
    [token.sha256, family, userId, token.expiresAt],
  )
}

export type Redeemed = { readonly family: string } | 'unknown' | 'reused'

/**
 * Marks a token as used. One that was used before was stolen, or its successor was: the whole family
 * is revoked, and the caller must let that be committed (RFC 9700 section 4.14.2). The user is locked.
 */
export async function redeemToken(
  tx: Queryable,
  userId: string,
  tokenSha256: Buffer,
): Promise<Redeemed> {
  const [row] = await tx.query<{ family: string; is_spent: boolean }>(
    `SELECT family, used_at IS NOT NULL OR revoked_at IS NOT NULL AS is_spent
     FROM refresh_tokens
     WHERE token_sha256 = $1 AND user_id = $2 AND expires_at > now()
     FOR UPDATE`,
    [tokenSha256, userId],
  )
  if (row === undefined) return 'unknown'
  if (row.is_spent) {
    await tx.query(
      'UPDATE refresh_tokens SET revoked_at = now() WHERE family = $1 AND revoked_at IS NULL',
      [row.family],
    )
    return 'reused'
  }
  await tx.query('UPDATE refresh_tokens SET used_at = now() WHERE token_sha256 = $1', [tokenSha256])
  return { family: row.family }
}

/** Signs a user out everywhere. The user is locked. */
export async function revokeTokens(tx: Queryable, userId: string): Promise<void> {
  await tx.query(
    'UPDATE refresh_tokens SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL',
    [userId],
  )
}

/** Keeps the table as large as what is alive: an expired token is refused without its row. */
export async function forgetExpiredTokens(tx: Queryable): Promise<void> {
  await tx.query(
    `DELETE FROM refresh_tokens WHERE token_sha256 IN (
       SELECT token_sha256 FROM refresh_tokens WHERE expires_at < now()
       LIMIT 100 FOR UPDATE SKIP LOCKED)`,
  )
}
