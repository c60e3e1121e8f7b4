import { z } from 'zod'
import { fleetOf, fleetResult } from '../../live/fleet.ts'
import { pulseOf, pulseResult, STEPS_S, type StepS } from '../../live/pulse.ts'
import { TENANTS_ASKED_MAX, TOP_MAX } from '../../live/question.ts'
import { tenantStateOf, tenantStateResult } from '../../live/tenant-state.ts'
import { LIVE_MS } from '../../membership.ts'
import { parseTenantId, type TenantId } from '../../tenant.ts'
import { wrongField } from '../fields.ts'
import { requireRow } from '../row.ts'
import { type Operation, operation } from './operation.ts'

/** Finer than 15 s more tenants would not fit into an answer. */
const FINE_IDS_MAX = 25
const TOP_DEFAULT = 20
const STEPS = Object.keys(STEPS_S) as [StepS, ...StepS[]]

const ids = z
  .string('must be given once: ids of tenants with commas between them')
  .max(TENANTS_ASKED_MAX * 40)
  .transform((text, context): TenantId[] => {
    const parsed = text.split(',').map(id => parseTenantId(id.trim()))
    const read = parsed.flatMap(id => id ?? [])
    if (read.length === parsed.length && read.length <= TENANTS_ASKED_MAX) return read
    context.addIssue(
      `must be at most ${TENANTS_ASKED_MAX} ids of tenants, with commas between them`,
    )
    return z.NEVER
  })

const pulseQuery = z.strictObject({
  ids,
  step: z.enum(STEPS, `must be one of ${STEPS.join(', ')} (seconds)`).optional(),
})

const topMessage = `must be a whole number from 0 to ${TOP_MAX}`
const fleetQuery = z.strictObject({
  top: z
    .string('must be given once')
    .regex(/^\d{1,3}$/, topMessage)
    .transform(Number)
    .refine(top => top <= TOP_MAX, topMessage)
    .default(TOP_DEFAULT),
})

/** What is so at this moment, asked of all gateways at once. */
export const LIVE_OPERATIONS: readonly Operation[] = [
  operation({
    ...{ name: 'getTenantState', method: 'GET', path: '/tenants/:id/state', scope: 'read' },
    summary: 'How each gateway, and each of its replicas, has it now: cache, breakers, connections',
    result: tenantStateResult,
    run: async ({ deps, id, gateways }) => {
      await requireRow(deps.store, id)
      return { message: 'State.', result: await tenantStateOf(gateways, id) }
    },
  }),
  operation({
    ...{ name: 'getPulse', method: 'GET', path: '/pulse', scope: 'read' },
    summary: 'Traffic of up to 100 tenants in the last 5 minutes, by steps of 5 to 60 seconds',
    query: pulseQuery,
    result: pulseResult,
    run: async ({ gateways, query: { ids, step } }) => {
      if (step === '5' && ids.length > FINE_IDS_MAX) {
        throw wrongField('step', `must be 15 or more for more than ${FINE_IDS_MAX} tenants`)
      }
      return { message: 'Pulse.', result: await pulseOf(gateways, ids, step) }
    },
  }),
  operation({
    ...{ name: 'getFleet', method: 'GET', path: '/fleet', scope: 'read' },
    summary:
      'Gateways and replicas with health and load, and the busiest tenants of the last minute',
    query: fleetQuery,
    result: fleetResult,
    run: async ({ deps, gateways, query: { top } }) => ({
      message: 'Fleet.',
      result: await fleetOf(gateways, deps.store, top, LIVE_MS),
    }),
  }),
]
