import type { ClientBase } from 'pg'
import { z } from 'zod'
import { Fault, publicFault } from '../lib/errors.ts'
import { LIMIT_RULES, planLimitsInput } from '../limits.ts'
import { PLANS_MAX } from '../plans.ts'
import type { TenantRow } from '../tenant-row.ts'
import type { Actor } from './actor.ts'
import { type Expected, tellAudit } from './change.ts'
import type { AdminDeps } from './deps.ts'
import { etagOf, requireTag } from './etag.ts'

/** A plan as the control plane shows it. */
export interface PlanItem {
  readonly code: string
  readonly name: string
  readonly limits: unknown
  readonly weight: number
  /** That have it. */
  readonly tenants: number
  readonly created_at: string
  readonly updated_at: string
  /** Of what may be set, for If-Match. */
  readonly etag: string
}

export const PLAN_CODE = /^[a-z0-9][a-z0-9_-]{0,62}$/

const name = z
  .string('must be a text')
  .min(1, 'must not be empty')
  .max(200, 'must have 200 characters at most')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  .regex(/^[^\x00-\x1f\x7f]*$/, 'must have no control characters')
const { min, max } = LIMIT_RULES.weight
const weightText = `must be a whole number from ${min} to ${max}`
const weight = z.int(weightText).min(min, weightText).max(max, weightText)

export const planInput = z.strictObject({
  code: z
    .string('must be a text')
    .regex(PLAN_CODE, 'must be 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit'),
  name: name.optional(),
  limits: planLimitsInput.default({}),
  weight: weight.default(1),
})
export type PlanInput = z.output<typeof planInput>

/** `limits` takes the place of all limits that the plan had. */
export const planPatch = z.strictObject({
  name: name.optional(),
  limits: planLimitsInput.optional(),
  weight: weight.optional(),
})
export type PlanPatch = z.output<typeof planPatch>

type Deps = Pick<AdminDeps, 'store'>

const COLUMNS = `code, name, limits, weight, created_at, updated_at,
  (SELECT count(*)::int FROM tenants WHERE tenants.plan = plans.code) AS tenants`
const LIST = `SELECT ${COLUMNS} FROM plans ORDER BY code LIMIT ${PLANS_MAX}`
const FIND = `SELECT ${COLUMNS} FROM plans WHERE code = $1`
/** Bounded, for every gateway keeps all plans; two operators at the same moment may make one more. */
const ADD = `
  INSERT INTO plans (code, name, limits, weight) SELECT $1, $2, $3, $4
  WHERE (SELECT count(*) FROM plans) < ${PLANS_MAX}
  ON CONFLICT DO NOTHING RETURNING ${COLUMNS}`
const CHANGE = `
  UPDATE plans SET name = coalesce($2, name), limits = coalesce($3, limits),
    weight = coalesce($4, weight), updated_at = now()
  WHERE code = $1 RETURNING ${COLUMNS}`
/** Where a tenant takes it at this very moment, the foreign key tenants_plan_known refuses one of the two. */
const REMOVE = `
  DELETE FROM plans WHERE code = $1 AND NOT EXISTS (SELECT FROM tenants WHERE tenants.plan = $1)`

export async function listPlans({ store }: Deps): Promise<readonly PlanItem[]> {
  return (await store.query(LIST, [])).map(planItem)
}

/** @throws Fault NOT_FOUND */
export async function getPlan({ store }: Deps, code: string): Promise<PlanItem> {
  const [row] = await store.query(FIND, [code])
  if (row === undefined) throw noPlan(code)
  return planItem(row)
}

/** @throws Fault CONFLICT where there is one of this code, VALIDATION_FAILED */
export async function createPlan(
  { store }: Deps,
  actor: Actor,
  { code, name: shown = code, limits, weight: share }: PlanInput,
): Promise<PlanItem> {
  return store.transaction(async client => {
    await tellAudit(client, { actor, action: 'plan.create' })
    const { rows } = await client.query<TenantRow>(ADD, [code, shown, limits, share])
    const [row] = rows
    if (row !== undefined) return planItem(row)
    const text = `there is a plan ${code} already, or there are ${PLANS_MAX} plans`
    throw publicFault('CONFLICT', text)
  })
}

/** Gateways go by it within a second; no tenant's row moves. @throws Fault NOT_FOUND, PRECONDITION_FAILED */
export async function changePlan(
  { store }: Deps,
  actor: Actor,
  code: string,
  { name: shown, limits, weight: share }: PlanPatch,
  expected: Expected = {},
): Promise<PlanItem> {
  return store.transaction(async client => {
    await tellAudit(client, { actor, action: 'plan.update' })
    await requirePlan(client, code, expected)
    const values = [code, shown ?? null, limits ?? null, share ?? null]
    const { rows } = await client.query<TenantRow>(CHANGE, values)
    const [row] = rows
    if (row === undefined) throw noPlan(code)
    return planItem(row)
  })
}

/** @throws Fault NOT_FOUND, PRECONDITION_FAILED, CONFLICT while a tenant has it */
export async function removePlan(
  { store }: Deps,
  actor: Actor,
  code: string,
  expected: Expected = {},
): Promise<void> {
  await store.transaction(async client => {
    await tellAudit(client, { actor, action: 'plan.delete' })
    await requirePlan(client, code, expected)
    const { rowCount } = await client.query(REMOVE, [code])
    if (rowCount === 1) return
    const text = `plan ${code} is in use`
    throw new Fault('CONFLICT', text, { publicMessage: `The ${text}.` })
  })
}

/** Nobody else changes it before this transaction ends. */
async function requirePlan(client: ClientBase, code: string, expected: Expected): Promise<void> {
  const { rows } = await client.query<TenantRow>(`${FIND} FOR UPDATE OF plans`, [code])
  const [row] = rows
  if (row === undefined) throw noPlan(code)
  requireTag(`plan ${code}`, planItem(row).etag, expected)
}

function noPlan(code: string): Fault {
  return new Fault('NOT_FOUND', `no plan ${code}`, { publicMessage: 'There is no such plan.' })
}

function planItem(row: TenantRow): PlanItem {
  const [code, name, weight] = [String(row.code), String(row.name), Number(row.weight)]
  const { limits } = row
  return {
    ...{ code, name, limits, weight },
    etag: etagOf([code, name, limits, weight]),
    tenants: Number(row.tenants),
    created_at: (row.created_at as Date).toISOString(),
    updated_at: (row.updated_at as Date).toISOString(),
  }
}
