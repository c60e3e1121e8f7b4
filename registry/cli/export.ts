import { exportTenant, summaryOf } from '../export/export.ts'
import type { TenantId } from '../tenant.ts'
import { EXIT, type ExitCode } from './failure.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'

export async function exportOne(
  session: Session,
  name: string,
  { to }: { readonly to: string },
  streams: Streams,
): Promise<ExitCode> {
  const { id } = await findListed(session, name)
  await exportTo(session, id, to, streams)
  return EXIT.ok
}

/** Progress goes to the error stream, so that the last line alone is the answer. */
export async function exportTo(
  session: Session,
  id: TenantId,
  to: string,
  { output, error }: Streams,
): Promise<void> {
  const say = (text: string) => error.write(`${text}\n`)
  const manifest = await exportTenant(session, session.actor, id, to, say)
  const { tables, rows, objects, bytes } = summaryOf(manifest)
  const { large_objects: large } = manifest.database
  if (large > 0) error.write(`doorman: ${large} large objects are not in the export\n`)
  output.write(
    `exported ${manifest.tenant.key} to ${to}: ${tables} tables, ${rows} rows, ${objects} objects, ${bytes} bytes\n`,
  )
}
