import { Fault } from '../lib/errors.ts'
import { closePg } from '../lib/pg.ts'
import type { PlacementOptions } from '../tenant-write.ts'
import { createTenant, readInput, tenantInput } from './create.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readJsonLines } from './input.ts'
import type { Session } from './session.ts'
import type { Streams } from './streams.ts'
import { addUser, connectTenant, type OpenTenant, type UserInput, userInput } from './users.ts'

/** `create --batch`: one tenant per JSON line; those that exist are reported and left alone. */
export async function createBatch(
  session: Session,
  options: PlacementOptions,
  streams: Streams,
): Promise<ExitCode> {
  return eachLine(streams, async value => {
    const tenant = readInput(tenantInput, value)
    const id = await createTenant(session, tenant, options)
    return id === null ? `exists  ${tenant.key}` : `created ${tenant.key} ${id}`
  })
}

/** `add-user --batch`: one user per JSON line. Lines of one tenant in a row share its connection. */
export async function addUserBatch(session: Session, streams: Streams): Promise<ExitCode> {
  let open: { key: string; tenant: OpenTenant } | null = null
  const tenantOf = async ({ key }: UserInput) => {
    if (open?.key === key) return open.tenant
    if (open !== null) await closePg(open.tenant.client)
    open = null
    open = { key, tenant: await connectTenant(session, key) }
    return open.tenant
  }
  try {
    return await eachLine(streams, async value => {
      const user = readInput(userInput, value)
      const id = await addUser(session, await tenantOf(user), user)
      return id === null
        ? `exists  ${user.key} ${user.email}`
        : `created ${user.key} ${user.email} ${id}`
    })
  } finally {
    const last = open as { tenant: OpenTenant } | null
    if (last !== null) await closePg(last.tenant.client)
  }
}

/** One line that fails is reported and does not stop the others. */
async function eachLine(
  { input, output }: Streams,
  work: (value: unknown) => Promise<string>,
): Promise<ExitCode> {
  let failed = 0
  const say = (text: string) => output.write(`${text}\n`)
  for await (const { line, value } of readJsonLines(input)) {
    try {
      say(await work(value))
    } catch (error) {
      // Nothing further can succeed without the Registry or with a wrong master key.
      if (!(error instanceof CliFailure || error instanceof Fault)) throw error
      if (error instanceof Fault && error.code === 'REGISTRY_UNAVAILABLE') throw error
      failed += 1
      const reason = error instanceof Fault ? error.reason : error.message
      say(`failed  line ${line}: ${reason}`)
    }
  }
  return failed === 0 ? EXIT.ok : EXIT.failure
}
