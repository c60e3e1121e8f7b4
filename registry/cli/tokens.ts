import { audited } from '../admin/audited.ts'
import { revokeTenantSessions } from '../admin/sessions.ts'
import { revokeTokens } from '../revocation-rows.ts'
import { parseTenantId, type TenantId } from '../tenant.ts'
import { jtiTokenId, type Revocation, tokenIdOf } from '../token-id.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readSecrets } from './input.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'

/** Idempotent, but that each call moves the line. */
export async function revokeSessions(
  session: Session,
  name: string,
  { output }: Streams,
): Promise<ExitCode> {
  const { id, key } = await findListed(session, name)
  const { tokens_valid_after: since } = await revokeTenantSessions(session, session.actor, id, null)
  output.write(`${key} refuses sessions begun before ${since}\n`)
  return EXIT.ok
}

/** By its jti, or by the token itself on standard input. */
export async function revokeToken(
  session: Session,
  name: string,
  flags: { jti?: string; expires?: Date },
  streams: Streams,
): Promise<ExitCode> {
  const { id, key } = await findListed(session, name)
  const { jti, expires } = flags
  if (jti !== undefined && expires === undefined) {
    throw new CliFailure(EXIT.usage, '--expires is required with --jti')
  }
  const revocation =
    jti !== undefined && expires !== undefined
      ? { tenantId: id, tokenId: jtiTokenId(jti), expiresAtS: expires.getTime() / 1000 }
      : readRevocation(
          id,
          (await readSecrets(['Token'], streams.input, streams.error))[0] as string,
        )
  const until = new Date(revocation.expiresAtS * 1000).toISOString()
  const details = { token_id: revocation.tokenId, until }
  const entry = { action: 'tenant.revoke_token', tenantId: id, tenantKey: key, details }
  await audited(session, entry, () => revokeTokens(session.store, [revocation]))
  streams.output.write(`${key} refuses token ${revocation.tokenId} until ${until}\n`)
  return EXIT.ok
}

/** What a token says of itself. Its signature is not looked at: to refuse a false one does no harm. */
function readRevocation(tenantId: TenantId, token: string): Revocation {
  const wrong = (what: string) => new CliFailure(EXIT.usage, `the token ${what}`)
  let claims: Record<string, unknown>
  try {
    const payload = Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8')
    claims = JSON.parse(payload) as Record<string, unknown>
  } catch {
    throw wrong('cannot be read')
  }
  const { tenant_id, jti, exp } = claims ?? {}
  if (typeof exp !== 'number' || !Number.isFinite(new Date(exp * 1000).getTime())) {
    throw wrong('has no exp')
  }
  if (parseTenantId(tenant_id) !== tenantId) throw wrong('is of another tenant')
  const tokenId = tokenIdOf(typeof jti === 'string' ? jti : undefined, token)
  return { tenantId, tokenId, expiresAtS: Math.ceil(exp) }
}
