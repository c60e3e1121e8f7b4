import { readFields } from '../admin/fields.ts'
import {
  changePlan,
  createPlan,
  listPlans,
  planInput,
  planPatch,
  removePlan,
} from '../admin/plans.ts'
import { Fault } from '../lib/errors.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readLimits } from './limits-flag.ts'
import type { Session } from './session.ts'
import type { Streams } from './streams.ts'
import { table } from './view.ts'

export interface PlanFlags {
  readonly name?: string
  readonly limits?: string
  readonly weight?: number
}

/** Makes the plan, or changes what is given of it. */
export async function setPlan(
  session: Session,
  code: string,
  { name, limits, weight }: PlanFlags,
  { output }: Streams,
): Promise<ExitCode> {
  const fields = {
    ...(name !== undefined && { name }),
    ...(limits !== undefined && { limits: readLimits(limits) }),
    ...(weight !== undefined && { weight }),
  }
  const patch = readFields(planPatch, fields)
  const input = readFields(planInput, { code, ...fields })
  const plan = await changePlan(session, session.actor, code, patch).catch(error => {
    if (!(error instanceof Fault && error.code === 'NOT_FOUND')) throw error
    return createPlan(session, session.actor, input)
  })
  output.write(`plan ${plan.code} has ${JSON.stringify(plan.limits)}, weight ${plan.weight}\n`)
  return EXIT.ok
}

export async function showPlans(
  session: Session,
  { json }: { readonly json?: boolean },
  { output }: Streams,
): Promise<ExitCode> {
  const plans = await listPlans(session)
  const cells = plans.map(({ code, name, limits, weight, tenants }) => [
    ...[code, name, JSON.stringify(limits), String(weight), String(tenants)],
  ])
  const text = json
    ? JSON.stringify(plans, null, 2)
    : table(['CODE', 'NAME', 'LIMITS', 'WEIGHT', 'TENANTS'], cells)
  output.write(`${text}\n`)
  return EXIT.ok
}

/** Refused while a tenant has it. */
export async function deletePlan(
  session: Session,
  code: string,
  { output }: Streams,
): Promise<ExitCode> {
  try {
    await removePlan(session, session.actor, code)
  } catch (error) {
    if (!(error instanceof Fault && error.code === 'NOT_FOUND')) throw error
    throw new CliFailure(EXIT.notFound, `there is no plan ${code}`)
  }
  output.write(`plan ${code} is deleted\n`)
  return EXIT.ok
}
