import { Fault } from '../lib/errors.ts'
import { checkContext, checkUpstreams } from './environment.ts'
import { type Finding, fail, type Patient } from './finding.ts'
import { checkListener, checkMigrations, checkReach, checkTriggers } from './registry.ts'
import { checkMasterKey, checkTenants } from './tenants.ts'

type Check = readonly [name: string, run: (patient: Patient) => Promise<readonly Finding[]>]

/** Those that need the Registry, in the order in which one explains the next. */
const OF_REGISTRY: readonly Check[] = [
  ['migrations', checkMigrations],
  ['triggers', checkTriggers],
  ['listener', checkListener],
  ['master key', checkMasterKey],
  ['tenants', checkTenants],
]
const OF_ENVIRONMENT: readonly Check[] = [
  ['context keys', checkContext],
  ['replicas', checkUpstreams],
]

/** Looks at the whole installation. Each finding is yielded as soon as it is there; none throws. */
export async function* examine(patient: Patient): AsyncGenerator<Finding, void, undefined> {
  const reach = await attempt(['registry', checkReach], patient)
  yield* reach
  const isReached = reach.some(({ check, level }) => check === 'registry' && level === 'ok')
  for (const check of [...(isReached ? OF_REGISTRY : []), ...OF_ENVIRONMENT]) {
    yield* await attempt(check, patient)
  }
}

/** A check that cannot be made is a finding as well. */
async function attempt([name, run]: Check, patient: Patient): Promise<readonly Finding[]> {
  try {
    return await run(patient)
  } catch (error) {
    const reason = error instanceof Fault ? error.reason : (error as Error).message
    const todo = 'see that TENANT_REGISTRY_DB_URL is right, and mend what stands above first'
    return [fail(name, reason, todo)]
  }
}
