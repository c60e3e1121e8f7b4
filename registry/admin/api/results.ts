import { z } from 'zod'
import { MOVE_STEPS } from '../../move/move.ts'
import { SCOPES } from '../actor.ts'
import type { AuditItem, AuditPage } from '../audit.ts'
import type { TenantItem } from '../item.ts'
import type { AdminKey } from '../keys.ts'
import type { TenantPage } from '../list.ts'
import type { Moved } from '../move.ts'
import type { MoveEvents } from '../move-stream.ts'
import type { PlanItem } from '../plans.ts'
import type { ConnectionReport } from '../probe.ts'
import type { ProbeResult } from '../probe-result.ts'
import type { DailyUsage, Usage, UsageDay } from '../usage.ts'
import type { UsageItem, UsagePage, UsageTotals } from '../usage-list.ts'

/** What the API answers, for the OpenAPI document; the types of the service keep it true. */
const text = z.string()
const maybe = z.string().nullable()
const time = z.iso.datetime()
const count = z.int()

export const tenantResult = z.strictObject({
  id: z.uuid(),
  tenant_key: text,
  name: maybe,
  mode: text,
  status: text,
  status_reason: maybe,
  config_version: count,
  db_host: maybe,
  db_port: count.nullable(),
  db_name: maybe,
  db_user: maybe,
  has_db_password: z.boolean(),
  db_ssl_mode: maybe,
  db_pool_max: count.nullable(),
  bucket_provider: maybe,
  bucket_name: maybe,
  bucket_region: maybe,
  bucket_endpoint: maybe,
  bucket_prefix: maybe,
  has_bucket_keys: z.boolean(),
  app_url: maybe,
  plan: maybe,
  limits: z.unknown(),
  token_issuer: maybe,
  token_jwks_url: maybe,
  token_audience: maybe,
  tokens_valid_after: time.nullable(),
  schema_version: maybe,
  debug_until: time.nullable(),
  created_at: time.nullable(),
  updated_at: time.nullable(),
  archived_at: time.nullable(),
  billing_readiness: z.strictObject({
    shared_billing: z.boolean(),
    dedicated_billing: z.boolean(),
  }),
  problem: maybe,
}) satisfies z.ZodType<TenantItem>

export const movedResult = z.strictObject({
  dry_run: z.boolean(),
  tables: count,
  rows: count,
  held_ms: count,
  notes: z.array(text),
  undo: z.array(text),
  fence_problem: maybe,
}) satisfies z.ZodType<Moved>

export const moveEventResult = z.union([
  z.strictObject({ step: z.enum(MOVE_STEPS), text }) satisfies z.ZodType<MoveEvents['step']>,
  movedResult,
  z.strictObject({ code: text, message: text }) satisfies z.ZodType<MoveEvents['failed']>,
])

export const tenantPageResult = z.strictObject({
  items: z.array(tenantResult),
  total: count,
  limit: count,
  page: count.nullable(),
  next_cursor: maybe,
}) satisfies z.ZodType<TenantPage>

const probeResult = z.strictObject({
  ok: z.boolean(),
  step: z
    .enum([
      ...['configuration', 'address', 'connect', 'tls', 'credentials', 'database', 'bucket'],
      ...['query', 'list', 'write'],
    ] as NonNullable<ProbeResult['step']>[])
    .nullable(),
  message: text,
  took_ms: count,
}) satisfies z.ZodType<ProbeResult>

export const connectionResult = z.strictObject({
  ok: z.boolean(),
  database: probeResult,
  bucket: probeResult.nullable(),
}) satisfies z.ZodType<ConnectionReport>

const counters = {
  api_requests: count,
  pdf_generated: count,
  active_users: count,
  storage_gb: z.number(),
}

export const usageResult = z.strictObject({
  tenant_id: z.uuid(),
  month: text,
  ...counters,
  usage_score: z.number(),
  days: z.array(z.strictObject({ date: z.iso.date(), ...counters }) satisfies z.ZodType<UsageDay>),
  daily: z
    .array(
      z.strictObject({
        date: z.iso.date(),
        ...counters,
        responses_2xx: count,
        responses_3xx: count,
        responses_4xx: count,
        responses_5xx: count,
        requests_refused: count,
        requests_aborted: count,
        websockets: count,
        websocket_ms: count,
        bytes_in: count,
        bytes_out: count,
        duration_ms: count,
        database_bytes: count.nullable(),
        bucket_bytes: count.nullable(),
        counters: z.record(text, count),
      }) satisfies z.ZodType<DailyUsage>,
    )
    .exactOptional(),
}) satisfies z.ZodType<Usage>

export const usagePageResult = z.strictObject({
  month: text,
  totals: z.strictObject({
    tenants: count,
    api_requests: count,
    pdf_generated: count,
    storage_gb: z.number(),
    bytes_in: count,
    bytes_out: count,
  }) satisfies z.ZodType<UsageTotals>,
  items: z.array(
    z.strictObject({
      tenant_id: z.uuid(),
      tenant_key: text,
      name: maybe,
      mode: text,
      plan: maybe,
      ...counters,
      usage_score: z.number(),
    }) satisfies z.ZodType<UsageItem>,
  ),
  total: count,
  limit: count,
  page: count.nullable(),
  next_cursor: maybe,
}) satisfies z.ZodType<UsagePage>

export const planResult = z.strictObject({
  code: text,
  name: text,
  limits: z.unknown(),
  weight: count,
  tenants: count,
  created_at: time,
  updated_at: time,
  etag: text,
}) satisfies z.ZodType<PlanItem>

export const plansResult = z.strictObject({ items: z.array(planResult) })

export const planRemovedResult = z.strictObject({ code: text })

const auditItem = z.strictObject({
  id: text,
  at: time,
  actor: text,
  action: text,
  outcome: text,
  tenant_id: z.uuid().nullable(),
  tenant_key: maybe,
  request_id: maybe,
  reason: maybe,
  before: z.unknown(),
  after: z.unknown(),
}) satisfies z.ZodType<AuditItem>

export const auditPageResult = z.strictObject({
  items: z.array(auditItem),
  limit: count,
  next_cursor: maybe,
}) satisfies z.ZodType<AuditPage>

export const removedResult = z.strictObject({ id: z.uuid(), tenant_key: text })

export const holderResult = z.strictObject({ name: text, scope: z.enum(SCOPES) })

export const keysResult = z.strictObject({
  items: z.array(
    z.strictObject({
      name: text,
      scope: z.enum(SCOPES),
      created_at: time,
      revoked_at: time.nullable(),
    }) satisfies z.ZodType<AdminKey>,
  ),
})
