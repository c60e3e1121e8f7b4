import type { ClientBase } from 'pg'
import type { TenantRow } from '../tenant-row.ts'
import { formatDecimal, parseDecimal, SCALE } from './decimal.ts'
import { activeDays, type Change, valueAt } from './history.ts'
import type { BilledUse } from './price.ts'

/** What a statement is made of, but for its prices. */
export interface MonthUse extends BilledUse {
  readonly tenant_id: string
  readonly tenant_key: string
  readonly name: string | null
  readonly mode: string | null
  /** At the end of the month; of this one: now. */
  readonly plan: string | null
}

export interface Month {
  /** YYYY-MM. */
  readonly text: string
  readonly startMs: number
  readonly endMs: number
  readonly days: number
}

const DAY_MS = 86_400_000
/** A level stands for so many days after it was measured, where none is measured since. */
const LEVEL_DAYS = 35

const TENANT = 'SELECT tenant_key, name, mode, plan, status, created_at FROM tenants WHERE id = $1'

/** Status and plan of a tenant through all its life. Index admin_audit_tenant. */
const HISTORY = `
  SELECT extract(epoch FROM at) * 1000 AS at_ms, tenant_key, before, after FROM admin_audit
  WHERE tenant_id = $1 AND outcome = 'done'
    AND (before ?| ARRAY['status', 'plan'] OR after ?| ARRAY['status', 'plan'])
  ORDER BY id`

const SUMS = `
  SELECT coalesce(sum(api_requests), 0) AS api_requests,
    coalesce(sum(pdf_generated), 0) AS pdf_generated, coalesce(sum(bytes_in), 0) AS bytes_in,
    coalesce(sum(bytes_out), 0) AS bytes_out, coalesce(sum(websockets), 0) AS websockets,
    coalesce(sum(websocket_ms), 0) AS websocket_ms, coalesce(sum(responses_2xx), 0) AS responses_2xx,
    coalesce(sum(responses_3xx), 0) AS responses_3xx, coalesce(sum(responses_4xx), 0) AS responses_4xx,
    coalesce(max(active_users), 0) AS active_users
  FROM customer_usage_daily WHERE tenant_id = $1 AND date >= $2::date AND date < $3::date`

const COUNTERS = `
  SELECT name, sum(value) AS value FROM customer_usage_counters
  WHERE tenant_id = $1 AND date >= $2::date AND date < $3::date GROUP BY name`

const LEVELS = `
  SELECT date - $2::date AS day, storage_gb FROM customer_usage_daily
  WHERE tenant_id = $1 AND date >= $2::date - ${LEVEL_DAYS} AND date < $3::date
    AND (storage_measured_at IS NOT NULL OR storage_gb <> 0)
  ORDER BY date`

/** @returns the `count` months before it, latest last */
export function monthsBefore({ startMs }: Month, count: number): readonly string[] {
  const start = new Date(startMs)
  return Array.from({ length: count }, (_, i) =>
    new Date(Date.UTC(start.getUTCFullYear(), start.getUTCMonth() - count + i, 1))
      .toISOString()
      .slice(0, 7),
  )
}

/** @param text YYYY-MM */
export function monthOf(text: string): Month {
  const [year = 0, month = 0] = text.split('-').map(Number)
  const startMs = Date.UTC(year, month - 1, 1)
  const endMs = Date.UTC(year, month, 1)
  return { text, startMs, endMs, days: Math.round((endMs - startMs) / DAY_MS) }
}

/**
 * What a tenant used in a month, as it stands now; null: there never was such a tenant.
 *
 * @param people of the month, see `peopleOf`: to count them may take more than one statement
 */
export async function monthUse(
  client: ClientBase,
  tenantId: string,
  month: Month,
  nowMs: number,
  people: number,
): Promise<MonthUse | null> {
  const ask = async (text: string, values: readonly unknown[]) =>
    (await client.query<TenantRow>(text, [...values])).rows
  const [tenant] = await ask(TENANT, [tenantId])
  const history = await ask(HISTORY, [tenantId])
  const day = (ms: number) => new Date(ms).toISOString().slice(0, 10)
  const span = [tenantId, day(month.startMs), day(month.endMs)]
  const [sums = {}] = await ask(SUMS, span)
  const counters = await ask(COUNTERS, span)
  const levels = await ask(LEVELS, span)
  if (tenant === undefined && history.length === 0 && Number(sums.api_requests) === 0) return null

  const endMs = Math.min(month.endMs, nowMs)
  const statuses = changesOf(history, 'status')
  const createdMs = tenant?.created_at instanceof Date ? tenant.created_at.getTime() : 0
  const status = tenant === undefined ? null : String(tenant.status)
  const active = activeDays(statuses, status, createdMs, month.startMs, endMs)
  const plan = valueAt(changesOf(history, 'plan'), textOf(tenant?.plan), endMs - 1)
  const key = tenant?.tenant_key ?? history.at(-1)?.tenant_key ?? tenantId
  return {
    tenant_id: tenantId,
    tenant_key: String(key),
    name: textOf(tenant?.name),
    mode: textOf(tenant?.mode),
    plan,
    active_days: active.length,
    days_in_month: month.days,
    quantities: {
      ...Object.fromEntries(
        Object.entries(sums)
          .filter(([name]) => name !== 'websocket_ms')
          .map(([name, value]) => [name, String(value)]),
      ),
      // An older tool counted per day and kept no names: the busiest of its days is certain.
      active_users: String(Math.max(Number(sums.active_users), people)),
      websocket_minutes: formatDecimal((BigInt(String(sums.websocket_ms)) * SCALE) / 60_000n),
      storage_gb: formatDecimal(storageOf(levels, active, month.days)),
      ...Object.fromEntries(counters.map(({ name, value }) => [`counter:${name}`, String(value)])),
    },
  }
}

/** GB-months: the level of each day on which the tenant was active, by the days of the month. */
function storageOf(
  levels: readonly TenantRow[],
  active: readonly number[],
  daysInMonth: number,
): bigint {
  let sum = 0n
  for (const day of active) {
    const level = levels.findLast(row => Number(row.day) <= day)
    if (level === undefined || day - Number(level.day) > LEVEL_DAYS) continue
    sum += parseDecimal(String(level.storage_gb))
  }
  return sum / BigInt(daysInMonth)
}

function changesOf(rows: readonly TenantRow[], column: 'status' | 'plan'): Change<string>[] {
  return rows.flatMap(({ at_ms, before, after }) => {
    const [from, to] = [before, after] as [TenantRow | null, TenantRow | null]
    const isTold = (side: TenantRow | null) => side !== null && Object.hasOwn(side, column)
    if (!isTold(from) && !isTold(to)) return []
    return [{ atMs: Number(at_ms), from: textOf(from?.[column]), to: textOf(to?.[column]) }]
  })
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}
