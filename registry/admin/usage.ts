import { Fault } from '../lib/errors.ts'
import type { TenantId } from '../tenant.ts'
import type { AdminDeps } from './deps.ts'

/** What a tenant used in one month (UTC). */
export interface Usage {
  readonly tenant_id: string
  /** YYYY-MM. */
  readonly month: string
  readonly api_requests: number
  readonly pdf_generated: number
  /** People, each counted once, however many days they came. */
  readonly active_users: number
  /** A level, not a flow: as it was last measured in the month. */
  readonly storage_gb: number
  readonly usage_score: number
  readonly days: readonly UsageDay[]
  /** Only where it is asked for: all that is counted of each day. */
  readonly daily?: readonly DailyUsage[]
}

export interface UsageDay {
  readonly date: string
  readonly api_requests: number
  readonly pdf_generated: number
  readonly active_users: number
  readonly storage_gb: number
}

/** A day with all that is counted; what each means stands in ARCHITECTURE.md. */
export interface DailyUsage extends UsageDay {
  readonly responses_2xx: number
  readonly responses_3xx: number
  readonly responses_4xx: number
  readonly responses_5xx: number
  readonly requests_refused: number
  readonly requests_aborted: number
  readonly websockets: number
  readonly websocket_ms: number
  readonly bytes_in: number
  readonly bytes_out: number
  readonly duration_ms: number
  /** As last measured on that day; null: it was not. */
  readonly database_bytes: number | null
  readonly bucket_bytes: number | null
  /** The app's own, by name. */
  readonly counters: Readonly<Record<string, number>>
}

/** Requests × 1 + PDFs × 50 + active users × 10 + GB × 5. */
const WEIGHTS = { api_requests: 1, pdf_generated: 50, active_users: 10, storage_gb: 5 } as const

/** $2 is the first day of the month. Primary keys; at most 31 rows. */
const DAYS = `
  SELECT daily.*, to_char(daily.date, 'YYYY-MM-DD') AS date,
    storage_measured_at IS NOT NULL OR storage_gb <> 0 AS is_measured,
    (SELECT coalesce(jsonb_object_agg(name, value), '{}') FROM customer_usage_counters AS own
      WHERE own.tenant_id = daily.tenant_id AND own.date = daily.date) AS counters
  FROM customer_usage_daily AS daily
  WHERE tenant_id = $1 AND daily.date >= $2::date AND daily.date < $2::date + interval '1 month'
  ORDER BY daily.date`

/** People of the month, each once; see migrations/registry/0018_metering.sql. */
const PEOPLE = `
  SELECT usage_people($1, $2::date, ($2::date + interval '1 month')::date) AS people`

/** Usage outlives its tenant: it is billed afterwards. */
const IS_KNOWN = `
  SELECT EXISTS (SELECT FROM tenants WHERE id = $1)
    OR EXISTS (SELECT FROM customer_usage_daily WHERE tenant_id = $1) AS is_known`

/** @param month YYYY-MM @throws Fault NOT_FOUND */
export async function usageOf(
  { store }: Pick<AdminDeps, 'store'>,
  id: TenantId,
  month: string,
  isDaily = false,
): Promise<Usage> {
  const values = [id, `${month}-01`]
  const {
    isKnown,
    days: rows,
    people,
  } = await store.use(async client => {
    const known = await client.query<{ is_known: boolean }>(IS_KNOWN, [id])
    const days = await client.query<Record<string, unknown>>(DAYS, values)
    const counted = await client.query<{ people: string }>(PEOPLE, values)
    return {
      isKnown: known.rows[0]?.is_known === true,
      days: days.rows,
      people: Number(counted.rows[0]?.people),
    }
  })
  if (!isKnown) {
    throw new Fault('NOT_FOUND', `no tenant ${id}`, { publicMessage: 'There is no such tenant.' })
  }
  const days = rows.map(readDay)
  const measured = rows.findLast(row => row.is_measured === true)
  const counts = {
    api_requests: sum(days, 'api_requests'),
    pdf_generated: sum(days, 'pdf_generated'),
    // An older tool counted per day and kept no names: the busiest of its days is certain.
    active_users: Math.max(people, ...days.map(day => day.active_users)),
    storage_gb: Number(measured?.storage_gb ?? 0),
  }
  return {
    tenant_id: id,
    month,
    ...counts,
    usage_score: scoreOf(counts),
    days,
    ...(isDaily && { daily: rows.map(readDaily) }),
  }
}

/** To the millionth, which is what storage is measured to; floating point adds noise beyond. */
export function scoreOf(counts: Readonly<Record<keyof typeof WEIGHTS, number>>): number {
  const score = (Object.keys(WEIGHTS) as (keyof typeof WEIGHTS)[]).reduce(
    (total, name) => total + counts[name] * WEIGHTS[name],
    0,
  )
  return Math.round(score * 1e6) / 1e6
}

function sum(days: readonly UsageDay[], name: 'api_requests' | 'pdf_generated'): number {
  return days.reduce((total, day) => total + day[name], 0)
}

function readDay(row: Readonly<Record<string, unknown>>): UsageDay {
  return {
    date: String(row.date),
    api_requests: Number(row.api_requests),
    pdf_generated: Number(row.pdf_generated),
    active_users: Number(row.active_users),
    storage_gb: Number(row.storage_gb),
  }
}

function readDaily(row: Readonly<Record<string, unknown>>): DailyUsage {
  const bytes = (value: unknown) => (value === null ? null : Number(value))
  return {
    ...readDay(row),
    responses_2xx: Number(row.responses_2xx),
    responses_3xx: Number(row.responses_3xx),
    responses_4xx: Number(row.responses_4xx),
    responses_5xx: Number(row.responses_5xx),
    requests_refused: Number(row.requests_refused),
    requests_aborted: Number(row.requests_aborted),
    websockets: Number(row.websockets),
    websocket_ms: Number(row.websocket_ms),
    bytes_in: Number(row.bytes_in),
    bytes_out: Number(row.bytes_out),
    duration_ms: Number(row.duration_ms),
    database_bytes: bytes(row.database_bytes),
    bucket_bytes: bytes(row.bucket_bytes),
    counters: row.counters as Record<string, number>,
  }
}
