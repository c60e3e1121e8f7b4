import { type DropPlan, dropPlanned, planDrop } from '../admin/drop-database.ts'
import { removeTenant, requireRemovable } from '../admin/remove.ts'
import { requireRow } from '../admin/row.ts'
import { exportTo } from './export.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { askLine } from './input.ts'
import { findListed, type Session } from './session.ts'
import type { Streams } from './streams.ts'

export interface DeleteFlags {
  /** The key once more, where nobody can be asked. */
  readonly yesDelete?: string
  readonly force?: boolean
  /** false with --no-export. */
  readonly export: boolean
  readonly to?: string
  readonly dropDatabase?: boolean
  readonly reason?: string
}

/**
 * Exports a tenant and takes it away. All that can be refused is refused before anything is written, and the row goes
 * last: what fails in between leaves a tenant that can be deleted again.
 */
export async function deleteTenant(
  session: Session,
  name: string,
  flags: DeleteFlags,
  streams: Streams,
): Promise<ExitCode> {
  const { store, actor, archiveGraceDays } = session
  const { output } = streams
  const { force = false, reason = null, to } = flags
  if (flags.export && to === undefined) {
    throw new CliFailure(EXIT.usage, '--to DIR is required: it is exported first (or --no-export)')
  }
  const { id, key } = await findListed(session, name)
  requireRemovable(await requireRow(store, id), archiveGraceDays, force)
  const plan = flags.dropDatabase ? await planDrop(session, id) : null
  await confirm(key, flags, plan, streams)
  if (flags.export && to !== undefined) await exportTo(session, id, to, streams)
  let isDropped = false
  await removeTenant(session, actor, id, {
    confirm: key,
    force,
    reason,
    ...(plan !== null && {
      beforeCommit: async client => {
        isDropped = await dropPlanned(session, client, id, plan)
      },
    }),
  })
  output.write(`${key} is deleted; its usage and its audit stay\n`)
  if (plan !== null) {
    const what = `database ${plan.database} and role ${plan.role}`
    output.write(isDropped ? `dropped ${what}\n` : `kept ${what}: they were not made here\n`)
  }
  return EXIT.ok
}

async function confirm(
  key: string,
  { yesDelete }: DeleteFlags,
  plan: DropPlan | null,
  { input, error }: Streams,
): Promise<void> {
  if (yesDelete === undefined && !input.isTTY) {
    throw new CliFailure(EXIT.usage, `--yes-delete ${key} is required where nobody can be asked`)
  }
  const also = plan === null ? '' : ` and its database ${plan.database}`
  const typed =
    yesDelete ?? (await askLine(`Type ${key} to delete this tenant${also}: `, input, error))
  if (typed !== key) throw new CliFailure(EXIT.usage, 'that is not its key: nothing was deleted')
}
