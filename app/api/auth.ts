import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { Fault } from '../../registry/lib/errors.ts'
import {
  DUMMY_PASSWORD_HASH,
  hashPassword,
  PASSWORD_BYTES_MAX,
  PASSWORD_LENGTH_MIN,
  verifyPassword,
} from '../../registry/lib/password.ts'
import { parseTenantKey } from '../../registry/tenant.ts'
import type { Routes } from '../handle.ts'
import { requireUser, type Scope } from '../kit/tenant-kit.ts'
import {
  forgetExpiredTokens,
  lockUser,
  redeemToken,
  revokeTokens,
  storeToken,
} from './refresh-tokens.ts'
import type { Subject, Tokens } from './tokens.ts'

interface UserRow {
  readonly id: string
  readonly email: string
  readonly name: string | null
  readonly role_id: number
  readonly password_hash: string | null
  readonly first_login: boolean
  readonly is_active: boolean
}

const USER_COLUMNS = 'id, email, name, role_id, password_hash, first_login, is_active'
// In bytes, as it is verified: a password that is refused unread would be refused too fast.
const secretText = z
  .string()
  .min(1)
  .refine(text => Buffer.byteLength(text) <= PASSWORD_BYTES_MAX, 'too long')

const loginBody = z.object({
  tenant_key: z.string().optional(),
  // PostgreSQL's text cannot hold NUL.
  email: z
    .string()
    .min(1)
    .max(320)
    .refine(email => !email.includes('\0')),
  password: secretText,
})
/** Stands for it: the work is done, and the answer is no. */
const UNUSABLE_LOGIN = { email: 'nobody', password: 'nothing' }

const refreshBody = z.object({ refreshToken: z.string().min(1).max(8192) })

/** Both spellings are in use. */
const passwordBody = z
  .object({
    currentPassword: secretText.optional(),
    current_password: secretText.optional(),
    newPassword: secretText.optional(),
    new_password: secretText.optional(),
  })
  .transform(body => ({
    current: body.currentPassword ?? body.current_password,
    next: body.newPassword ?? body.new_password,
  }))
  .pipe(
    z.object({
      current: z.string('currentPassword is required'),
      next: z
        .string('newPassword is required')
        .min(
          PASSWORD_LENGTH_MIN,
          `newPassword must have ${PASSWORD_LENGTH_MIN} characters or more`,
        ),
    }),
  )

export function authRoutes(app: FastifyInstance, { reading, mutating }: Routes, tokens: Tokens) {
  // Not in one transaction: no connection is held while a password is hashed, and a reused refresh
  // token must leave its mark although the answer is an error.
  app.post(
    '/api/auth/login',
    reading(async (scope, request) => {
      // A login that cannot be right is answered as one that is wrong, after the same work: any other
      // answer would tell that the tenant exists, for of an unknown one the gateway answers so.
      const body = loginBody.safeParse(request.body).data ?? UNUSABLE_LOGIN
      const result = await login(scope, tokens, body)
      return { message: 'Signed in.', result }
    }),
  )

  app.post(
    '/api/auth/refresh-token',
    reading(async (scope, request) => {
      const { refreshToken } = refreshBody.parse(request.body)
      const result = await rotate(scope, tokens, refreshToken)
      return { message: 'Token renewed.', result }
    }),
  )

  app.get(
    '/api/auth/logout',
    mutating(async scope => {
      const { id } = requireUser(scope.principal)
      if (await lockUser(scope.db, id)) await revokeTokens(scope.db, id)
      return { message: 'Signed out.', result: null }
    }),
  )

  app.get(
    '/api/auth/profile',
    reading(async scope => {
      const user = await userById(scope, requireUser(scope.principal).id)
      const { id, email, name, role_id } = user
      const { id: tenantId, key } = scope.tenant
      return {
        message: 'Profile.',
        result: { id, email, name, role_id, tenant: { id: tenantId, key } },
      }
    }),
  )

  app.post(
    '/api/auth/change-password',
    reading(async (scope, request) => {
      const { id } = requireUser(scope.principal)
      const { current, next } = passwordBody.parse(request.body)
      await changePassword(scope, id, current, next)
      return { message: 'Password changed. Sign in again.', result: null }
    }),
  )
}

async function login(scope: Scope, tokens: Tokens, body: z.infer<typeof loginBody>) {
  const email = body.email.trim().toLowerCase()
  const isOtherTenant =
    body.tenant_key !== undefined && parseTenantKey(body.tenant_key) !== scope.tenant.key
  const [user] = await scope.db.query<UserRow>(
    `SELECT ${USER_COLUMNS} FROM users WHERE email = $1`,
    [email],
  )
  // The same work whoever it is, so that the time does not tell whether a user exists.
  const known = user?.is_active === true ? user.password_hash : null
  const isRight = await verifyPassword(known ?? DUMMY_PASSWORD_HASH, body.password)
  const isUsable = body !== UNUSABLE_LOGIN
  if (user === undefined || known === null || !isRight || isOtherTenant || !isUsable) {
    throw wrongCredentials()
  }

  const refresh = await tokens.refresh(subjectOf(user), scope.tenant.id)
  await scope.db.transaction(async tx => {
    const [now] = await tx.query<{ password_hash: string | null; is_active: boolean }>(
      'SELECT password_hash, is_active FROM users WHERE id = $1 FOR NO KEY UPDATE',
      [user.id],
    )
    // Changed while we verified: that change signed everyone out, this login included.
    if (now?.password_hash !== known || !now.is_active) throw wrongCredentials()
    await storeToken(tx, user.id, refresh)
    await forgetExpiredTokens(tx)
  })
  return {
    id: user.id,
    first_login: user.first_login,
    accessToken: await tokens.access(subjectOf(user), scope.tenant.id),
    refreshToken: refresh.token,
  }
}

async function rotate(scope: Scope, tokens: Tokens, token: string) {
  const { userId, sha256, startedAtS } = await tokens.verifyRefresh(token, scope.tenant.id)
  const outcome = await scope.db.transaction(async tx => {
    if (!(await lockUser(tx, userId))) return 'unknown'
    const redeemed = await redeemToken(tx, userId, sha256)
    if (typeof redeemed === 'string') return redeemed
    const user = await userById({ ...scope, db: { ...scope.db, query: tx.query } }, userId)
    const next = await tokens.refresh(subjectOf(user), scope.tenant.id, startedAtS)
    await storeToken(tx, userId, next, redeemed.family)
    return { user, refreshToken: next.token }
  })
  if (typeof outcome === 'string') {
    throw new Fault('TOKEN_INVALID', `refresh token is ${outcome}`)
  }
  return {
    accessToken: await tokens.access(subjectOf(outcome.user), scope.tenant.id, startedAtS),
    refreshToken: outcome.refreshToken,
  }
}

async function changePassword(scope: Scope, id: string, current: string, next: string) {
  const user = await userById(scope, id)
  if (!(await verifyPassword(user.password_hash ?? DUMMY_PASSWORD_HASH, current))) {
    throw new Fault('VALIDATION_FAILED', 'current password is wrong', {
      publicMessage: 'currentPassword is not right.',
    })
  }
  const hashed = await hashPassword(next)
  await scope.db.transaction(async tx => {
    const changed = await tx.query(
      `UPDATE users SET password_hash = $2, first_login = false, updated_at = now()
       WHERE id = $1 AND password_hash = $3 RETURNING id`,
      [id, hashed, user.password_hash],
    )
    if (changed.length === 0) throw new Fault('CONFLICT', 'the password changed meanwhile')
    await revokeTokens(tx, id)
  })
}

/** @throws Fault TOKEN_INVALID where the token's user is gone or was switched off */
async function userById(scope: Scope, id: string): Promise<UserRow> {
  const [user] = await scope.db.query<UserRow>(
    `SELECT ${USER_COLUMNS} FROM users WHERE id = $1 AND is_active`,
    [id],
  )
  if (user === undefined) throw new Fault('TOKEN_INVALID', 'the user does not exist or is inactive')
  return user
}

function subjectOf(user: UserRow): Subject {
  return { id: String(user.id), email: user.email, role_id: user.role_id }
}

function wrongCredentials(): Fault {
  return new Fault('INVALID_CREDENTIALS', 'unknown user, inactive user or wrong password')
}
