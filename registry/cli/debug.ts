import { debugBody } from '../admin/api/queries.ts'
import { endDebug, listDebugged, startDebug } from '../admin/debug.ts'
import { readFields } from '../admin/fields.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'
import { table } from './view.ts'

export interface DebugFlags {
  readonly minutes?: number
  readonly reason?: string
  readonly off?: boolean
  readonly json?: boolean
}

/** Long enough to try again what failed, and over before it is forgotten. */
const MINUTES_DEFAULT = 15

/** Without a tenant: which ones are looked at closely now. With one: begins, or with `off` ends, to look at it. */
export function debugTenant(
  session: Session,
  name: string | undefined,
  flags: DebugFlags,
  streams: Streams,
): Promise<ExitCode> {
  const { minutes, reason, off, json } = flags
  const isSetting = minutes !== undefined || reason !== undefined
  if (name === undefined) {
    if (off || isSetting) throw new CliFailure(EXIT.usage, 'KEY is required')
    return showDebugged(session, json === true, streams)
  }
  if (json) throw new CliFailure(EXIT.usage, '--json is for the list, which has no KEY')
  if (!off) return begin(session, name, flags, streams)
  if (isSetting) throw new CliFailure(EXIT.usage, '--off takes neither --minutes nor --reason')
  return end(session, name, streams)
}

async function begin(
  session: Session,
  name: string,
  { minutes = MINUTES_DEFAULT, reason }: DebugFlags,
  { output }: Streams,
): Promise<ExitCode> {
  const asked = readFields(debugBody, { minutes, reason })
  const { id } = await findListed(session, name)
  const { tenant_key: key, debug_until: until } = await startDebug(
    session,
    session.actor,
    id,
    asked,
  )
  output.write(`each request of ${key} is logged until ${until}\n`)
  return EXIT.ok
}

/** Idempotent: a tenant that nobody looks at is success. */
async function end(session: Session, name: string, { output }: Streams): Promise<ExitCode> {
  const { id, key } = await findListed(session, name)
  await endDebug(session, session.actor, id)
  output.write(`requests of ${key} are logged like all others\n`)
  return EXIT.ok
}

async function showDebugged(
  session: Session,
  isJson: boolean,
  { output }: Streams,
): Promise<ExitCode> {
  const debugged = await listDebugged(session)
  const rows = debugged.map(({ tenant_key, debug_until, actor, reason }) => [
    ...[tenant_key, debug_until, actor ?? '-', reason ?? '-'],
  ])
  const text = table(['KEY', 'UNTIL', 'BY', 'REASON'], rows)
  output.write(`${isJson ? JSON.stringify(debugged, null, 2) : text}\n`)
  return EXIT.ok
}
