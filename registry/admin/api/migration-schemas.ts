import { z } from 'zod'
import type { MigrationPlan } from '../../migrate/plan.ts'
import { RUN_STATES, type RunOptions } from '../../migrate/runs.ts'
import { parseTenantId, parseTenantKey } from '../../tenant.ts'
import type { FailurePage, RunItem } from '../migration-runs.ts'
import type { FleetSummary } from '../migration-summary.ts'

const AT_ONCE_MAX = 64
const TENANTS_MAX = 1000
const CANARIES_MAX = 100_000
const RATE_MAX = 6000
const RETRIES_MAX = 20
const LIMIT_MAX = 200

const whole = (min: number, max: number) => {
  const message = `must be a whole number from ${min} to ${max}`
  return z.int(message).min(min, message).max(max, message)
}
const flag = z.boolean('must be true or false')
const version = z.string('must be a text').regex(/^\d{4}$/, 'must be a version of four digits')
const tenantName = z
  .string('must be a key or an id')
  .refine(name => parseTenantId(name) !== null || parseTenantKey(name) !== null, {
    message: 'must be a key or an id',
  })
const tooMany = `must be ${TENANTS_MAX} tenants at most`
const failureLimit = z.union(
  [
    z.int().min(0).max(1_000_000).transform(String),
    z.string().regex(/^(\d{1,6}|(100|\d{1,2}(\.\d{1,3})?)%)$/),
  ],
  'must be a count such as 5, or a share such as "2%"',
)

/** What a run is for; without `tenants` it is the fleet. */
export const runBody = z
  .strictObject({
    tenants: z
      .array(tenantName, 'must be a list')
      .min(1, 'must name one at least')
      .max(TENANTS_MAX, tooMany)
      .nullable()
      .default(null),
    to: version.nullable().default(null),
    concurrency: whole(1, AT_ONCE_MAX).default(8),
    per_host: whole(1, AT_ONCE_MAX).default(2),
    canary: whole(0, CANARIES_MAX).default(0),
    max_failures: failureLimit.nullable().default(null),
    include_suspended: flag.default(true),
    include_dedicated: flag.default(false),
    laggards: flag.default(false),
    rate_per_minute: whole(1, RATE_MAX).nullable().default(null),
    retries: whole(0, RETRIES_MAX).default(3),
  })
  .prefault({}) satisfies z.ZodType<RunOptions>

/** What of a run is done again; absent: what failed, and where its runner died all that is left. */
export const retryBody = z
  .strictObject({
    what: z.enum(['failed', 'unfinished'], 'must be failed or unfinished').optional(),
  })
  .default({})

const digits = (min: number, max: number) =>
  z
    .string('must be given once')
    .regex(/^\d{1,6}$/, `must be a whole number from ${min} to ${max}`)
    .transform(Number)
    .refine(n => n >= min && n <= max, `must be a whole number from ${min} to ${max}`)
const yesOrNo = z
  .enum(['true', 'false'], 'must be true or false')
  .transform(text => text === 'true')

export const planQuery = z.strictObject({
  /** Keys or ids, by commas. */
  tenants: z
    .string('must be given once')
    .transform(text => text.split(','))
    .pipe(z.array(tenantName).max(TENANTS_MAX, tooMany))
    .optional(),
  to: version.optional(),
  include_suspended: yesOrNo.default(true),
  include_dedicated: yesOrNo.default(false),
  sql: yesOrNo.default(false),
})

export const runsQuery = z.strictObject({ limit: digits(1, 100).default(50) })

export const failuresQuery = z.strictObject({
  limit: digits(1, LIMIT_MAX).default(50),
  cursor: z.string('must be given once').max(32, 'must be next_cursor of a page').optional(),
})

const text = z.string()
const maybe = z.string().nullable()
const time = z.iso.datetime()
const count = z.int()

export const runResult = z.strictObject({
  id: z.uuid(),
  state: z.enum(RUN_STATES),
  started_by: text,
  retry_of: z.uuid().nullable(),
  options: z.strictObject({
    tenants: z.array(text).nullable(),
    to: maybe,
    concurrency: count,
    per_host: count,
    canary: count,
    max_failures: maybe,
    include_suspended: z.boolean(),
    include_dedicated: z.boolean(),
    laggards: z.boolean(),
    rate_per_minute: z.number().nullable(),
    retries: count,
  }) satisfies z.ZodType<RunOptions>,
  target: maybe,
  wave: maybe,
  tenants: count.nullable(),
  ok: count,
  failed: count,
  skipped: count,
  left: count.nullable(),
  rate_per_s: z.number().nullable(),
  eta_s: count.nullable(),
  runner: maybe,
  problem: maybe,
  cancelled_by: maybe,
  started_at: time,
  began_at: time.nullable(),
  heartbeat_at: time,
  ended_at: time.nullable(),
}) satisfies z.ZodType<RunItem>

export const runsResult = z.strictObject({ items: z.array(runResult) })

export const failuresResult = z.strictObject({
  items: z.array(
    z.strictObject({
      tenant_id: z.uuid(),
      tenant_key: maybe,
      version: maybe,
      code: text,
      error: text,
      attempts: count,
      at: time,
    }),
  ),
  limit: count,
  next_cursor: maybe,
}) satisfies z.ZodType<FailurePage>

const tenantList = z.strictObject({
  count,
  items: z.array(
    z.strictObject({
      tenant_id: z.uuid(),
      tenant_key: text,
      status: text,
      schema_version: maybe,
      error: maybe,
      attempts: count,
      tried_at: time.nullable(),
    }),
  ),
})

export const summaryResult = z.strictObject({
  target: maybe,
  tenants: count,
  versions: z.array(z.strictObject({ version: maybe, tenants: count })),
  states: z.array(z.strictObject({ state: maybe, tenants: count })),
  laggards: tenantList,
  failed: tenantList,
  running: runResult.nullable(),
  runs: z.array(runResult),
}) satisfies z.ZodType<FleetSummary>

export const planResult = z.strictObject({
  tenants: count,
  pending: count,
  problems: count,
  items: z.array(
    z.strictObject({
      tenant_id: z.uuid(),
      tenant_key: text,
      version: maybe,
      pending: z.array(text),
      problem: maybe,
    }),
  ),
  is_truncated: z.boolean(),
  files: z.array(z.strictObject({ name: text, tenants: count, sql: maybe })),
}) satisfies z.ZodType<MigrationPlan>
