import { SCOPES, type Scope } from '../admin/actor.ts'
import { createAdminKey, listAdminKeys, revokeAdminKey } from '../admin/keys.ts'
import { Fault } from '../lib/errors.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import type { Session } from './session.ts'
import type { Streams } from './streams.ts'
import { table } from './view.ts'

/** Makes a key of the admin API and writes it out, this once. */
export async function createKey(
  { store, actor }: Session,
  name: string,
  { scope }: { scope: string },
  { output, error }: Streams,
): Promise<ExitCode> {
  if (!(SCOPES as readonly string[]).includes(scope)) {
    throw new CliFailure(EXIT.usage, `--scope must be one of ${SCOPES.join(', ')}`)
  }
  try {
    const key = await createAdminKey({ store }, actor, name, scope as Scope)
    output.write(`${key}\n`)
    error.write(`admin key ${name} may ${scope}; it is not shown again\n`)
    return EXIT.ok
  } catch (failure) {
    if (!(failure instanceof Fault && failure.code === 'CONFLICT')) throw failure
    throw new CliFailure(EXIT.exists, failure.reason)
  }
}

export async function revokeKey(
  { store, actor }: Session,
  name: string,
  { output }: Streams,
): Promise<ExitCode> {
  try {
    await revokeAdminKey({ store }, actor, name)
    output.write(`admin key ${name} is revoked\n`)
    return EXIT.ok
  } catch (failure) {
    if (!(failure instanceof Fault && failure.code === 'NOT_FOUND')) throw failure
    throw new CliFailure(EXIT.notFound, `there is no admin key ${name}`)
  }
}

export async function listKeys(
  { store }: Session,
  { json }: { json?: boolean },
  { output }: Streams,
): Promise<ExitCode> {
  const keys = await listAdminKeys({ store })
  const cells = keys.map(key => [key.name, key.scope, key.created_at, key.revoked_at ?? '-'])
  const text = json
    ? JSON.stringify(keys, null, 2)
    : table(['NAME', 'SCOPE', 'CREATED', 'REVOKED'], cells)
  output.write(`${text}\n`)
  return EXIT.ok
}
