import { userName } from '../registry/lib/user-name.ts'
import { addRun, type ClaimedRun, claimRun } from '../registry/migrate/runs.ts'
import type { RegistryStore } from '../registry/store.ts'
import type { FleetResult } from './fleet.ts'
import type { Options } from './options.ts'
import { runOptionsOf } from './run-options.ts'
import { RunRecord, runnerName } from './run-record.ts'
import { reasonOf } from './tenant-database.ts'

/**
 * Runs `work` with a row in the Registry that shows it from the first moment to how it ended, so that a run of the
 * command line is seen, and cancelled, like one of the admin API.
 *
 * @throws Error where the Registry does not take it, or what `work` throws
 */
export async function recordRun(
  store: RegistryStore,
  options: Options,
  work: (record: RunRecord) => Promise<FleetResult>,
): Promise<FleetResult> {
  const id = await addRun(store, {
    startedBy: `cli:${userName()}`,
    isFleet: options.tenants.length === 0,
    options: runOptionsOf(options),
  })
  if ((await claimRun(store, id, runnerName())) === null) throw new Error(`run ${id} is gone`)
  return follow(new RunRecord(store, id), work)
}

/** The same for a run that the admin API has noted. @returns null where nobody waits for a runner */
export async function takeOverRun(
  store: RegistryStore,
  id: string,
  work: (record: RunRecord, claimed: ClaimedRun) => Promise<FleetResult>,
): Promise<FleetResult | null> {
  const claimed = await claimRun(store, id, runnerName())
  if (claimed === null) return null
  return follow(new RunRecord(store, id), record => work(record, claimed))
}

async function follow(
  record: RunRecord,
  work: (record: RunRecord) => Promise<FleetResult>,
): Promise<FleetResult> {
  let result: FleetResult
  try {
    result = await work(record)
  } catch (error) {
    // The first error is the one to be told.
    await record.end({ state: 'interrupted', problem: reasonOf(error) }).catch(() => {})
    throw error
  }
  await record.end(record.endOf(result))
  return result
}
