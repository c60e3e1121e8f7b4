import { Fault } from '../lib/errors.ts'
import type { PlacementOptions } from '../tenant-write.ts'
import { createTenant, readInput, tenantInput } from './create.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readJsonLines } from './input.ts'
import type { Session } from './session.ts'
import {
  addUser,
  closeTenant,
  connectTenant,
  type OpenTenant,
  type UserInput,
  userInput,
} from './users.ts'

type Say = (text: string) => void

/** `create --batch`: one tenant per JSON line; those that exist are reported and left alone. */
export async function createBatch(
  session: Session,
  options: PlacementOptions,
  input: NodeJS.ReadableStream,
  say: Say,
): Promise<ExitCode> {
  return eachLine(input, say, async value => {
    const tenant = readInput(tenantInput, value)
    const id = await createTenant(session, tenant, options)
    return id === null ? `exists  ${tenant.key}` : `created ${tenant.key} ${id}`
  })
}

/** `add-user --batch`: one user per JSON line. Lines of one tenant in a row share its connection. */
export async function addUserBatch(
  session: Session,
  input: NodeJS.ReadableStream,
  say: Say,
): Promise<ExitCode> {
  let open: { key: string; tenant: OpenTenant } | null = null
  const tenantOf = async ({ key }: UserInput) => {
    if (open?.key === key) return open.tenant
    if (open !== null) await closeTenant(open.tenant.client)
    open = null
    open = { key, tenant: await connectTenant(session, key) }
    return open.tenant
  }
  try {
    return await eachLine(input, say, async value => {
      const user = readInput(userInput, value)
      const id = await addUser(session, await tenantOf(user), user)
      return id === null
        ? `exists  ${user.key} ${user.email}`
        : `created ${user.key} ${user.email} ${id}`
    })
  } finally {
    const last = open as { tenant: OpenTenant } | null
    if (last !== null) await closeTenant(last.tenant.client)
  }
}

/** One line that fails is reported and does not stop the others. */
async function eachLine(
  input: NodeJS.ReadableStream,
  say: Say,
  work: (value: unknown) => Promise<string>,
): Promise<ExitCode> {
  let failed = 0
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
