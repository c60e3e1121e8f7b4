import { setTenantStatus, unarchiveTenant } from '../admin/status.ts'
import type { TenantStatus } from '../tenant.ts'
import { EXIT, type ExitCode } from './failure.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'

/** Idempotent: a status that is set already is success. */
export async function setStatus(
  session: Session,
  name: string,
  status: TenantStatus,
  reason: string | null,
  { output }: Streams,
): Promise<ExitCode> {
  const { id } = await findListed(session, name)
  const moved = await setTenantStatus(session, session.actor, id, status, reason)
  output.write(`${moved.tenant_key} is ${moved.status}\n`)
  return EXIT.ok
}

/** Comes back suspended, so that somebody looks at it before it is served. */
export async function unarchive(
  session: Session,
  name: string,
  { reason }: { readonly reason?: string },
  { output }: Streams,
): Promise<ExitCode> {
  const { id } = await findListed(session, name)
  const item = await unarchiveTenant(session, session.actor, id, reason ?? null)
  output.write(`${item.tenant_key} is ${item.status}: activate lets it be served\n`)
  return EXIT.ok
}
