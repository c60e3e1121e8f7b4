import { patchInput, readFields } from '../admin/fields.ts'
import type { TenantItem } from '../admin/item.ts'
import { patchTenant } from '../admin/patch.ts'
import { testConnection } from '../admin/probe.ts'
import type { ProbeResult } from '../admin/probe-result.ts'
import { rotateCredentials } from '../admin/rotate.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readLimits } from './limits-flag.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'

export interface EditFlags {
  readonly name?: string
  readonly plan?: string
  readonly limits?: string
  readonly appUrl?: string
  readonly mode?: string
  readonly reason?: string
}

/** Changes what is given and leaves the rest; an empty text takes a value away. */
export async function edit(
  session: Session,
  name: string,
  flags: EditFlags,
  { output }: Streams,
): Promise<ExitCode> {
  const { name: shown, plan, limits, appUrl, mode, reason } = flags
  const fields = {
    ...(shown !== undefined && { name: shown || null }),
    ...(plan !== undefined && { plan: plan || null }),
    ...(limits !== undefined && { limits: readLimits(limits) }),
    ...(appUrl !== undefined && { app_url: appUrl || null }),
    ...(mode !== undefined && { mode }),
  }
  const names = Object.keys(fields)
  if (names.length === 0) throw new CliFailure(EXIT.usage, 'there is nothing to change')
  const { id } = await findListed(session, name)
  const input = readFields(patchInput, {
    ...fields,
    ...(reason !== undefined && { status_reason: reason }),
  })
  const item = await patchTenant(session, session.actor, id, input)
  const values = names.map(field => `${field} ${JSON.stringify(item[field as keyof TenantItem])}`)
  output.write(`${item.tenant_key} has ${values.join(', ')}\n`)
  return EXIT.ok
}

/** Exit code 1 where database or bucket do not work. */
export async function test(
  session: Session,
  name: string,
  { json }: { readonly json?: boolean },
  { output }: Streams,
): Promise<ExitCode> {
  const { id } = await findListed(session, name)
  const report = await testConnection(session, session.actor, id)
  const say = (what: string, { ok, step, message, took_ms }: ProbeResult) =>
    `${ok ? 'ok  ' : 'FAIL'}  ${what}  ${message}${step === null ? '' : ` (${step})`}, ${took_ms} ms\n`
  if (json) output.write(`${JSON.stringify(report, null, 2)}\n`)
  else {
    output.write(say('database', report.database))
    output.write(report.bucket === null ? 'ok    bucket  none\n' : say('bucket  ', report.bucket))
  }
  return report.ok ? EXIT.ok : EXIT.failure
}

/** A new random password, which nobody needs to know. */
export async function rotate(
  session: Session,
  name: string,
  { reason }: { readonly reason?: string },
  { output }: Streams,
): Promise<ExitCode> {
  const { id } = await findListed(session, name)
  const item = await rotateCredentials(session, session.actor, id, reason ?? null)
  output.write(`${item.tenant_key}: role ${item.db_user} has a new password\n`)
  return EXIT.ok
}
