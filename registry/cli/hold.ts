import { audited } from '../admin/audited.ts'
import { awaitHold, nameOf } from '../await-hold.ts'
import { HOLD_MS, HOLD_MS_MAX, placeHold, releaseHold } from '../holds.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'

export interface HoldFlags {
  readonly seconds?: number
  readonly reason?: string
}

/** Requests of the tenant wait until `release`, or until the hold ends by itself. */
export async function holdTenant(
  session: Session,
  name: string,
  { seconds = HOLD_MS / 1000, reason }: HoldFlags,
  { output }: Streams,
): Promise<ExitCode> {
  if (seconds < 1 || seconds * 1000 > HOLD_MS_MAX) {
    throw new CliFailure(EXIT.usage, `--seconds must be from 1 to ${HOLD_MS_MAX / 1000}`)
  }
  const { store } = session
  const { id, key } = await findListed(session, name)
  const entry = { action: 'tenant.hold', tenantId: id, tenantKey: key, reason: reason ?? null }
  const hold = await audited(session, { ...entry, details: { seconds } }, () =>
    placeHold(store, id, seconds * 1000, reason ?? null),
  )
  try {
    const acks = await awaitHold(store, hold, seconds * 1000, new AbortController().signal)
    for (const ack of acks) output.write(`${nameOf(ack)} holds it\n`)
    if (acks.length === 0) output.write('no gateway is live\n')
  } catch (error) {
    await releaseHold(store, id, hold.id)
    throw error
  }
  output.write(`${key} is held until ${new Date(hold.expiresAtMs).toISOString()} at the latest\n`)
  return EXIT.ok
}

/** Idempotent: a tenant that is not held is success. */
export async function releaseTenant(
  session: Session,
  name: string,
  { output }: Streams,
): Promise<ExitCode> {
  const { id, key } = await findListed(session, name)
  const entry = { action: 'tenant.release', tenantId: id, tenantKey: key }
  const wasHeld = await audited(
    session,
    entry,
    () => releaseHold(session.store, id, null),
    was => ({ was_held: was }),
  )
  output.write(wasHeld ? `${key} is served again\n` : `${key} was not held\n`)
  return EXIT.ok
}
