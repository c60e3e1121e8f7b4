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
}

export interface UsageDay {
  readonly date: string
  readonly api_requests: number
  readonly pdf_generated: number
  readonly active_users: number
  readonly storage_gb: number
}

/** Requests × 1 + PDFs × 50 + active users × 10 + GB × 5. */
const WEIGHTS = { api_requests: 1, pdf_generated: 50, active_users: 10, storage_gb: 5 } as const

/** $2 is the first day of the month. Primary key of customer_usage_daily; at most 31 rows. */
const DAYS = `
  SELECT to_char(date, 'YYYY-MM-DD') AS date, api_requests, pdf_generated, active_users, storage_gb
  FROM customer_usage_daily
  WHERE tenant_id = $1 AND date >= $2::date AND date < $2::date + interval '1 month' ORDER BY date`

/** Index (tenant_id, date, user_id). */
const PEOPLE = `
  SELECT count(DISTINCT user_id) AS people FROM user_activity_daily
  WHERE tenant_id = $1 AND date >= $2::date AND date < $2::date + interval '1 month'`

/** Usage outlives its tenant: it is billed afterwards. */
const IS_KNOWN = `
  SELECT EXISTS (SELECT FROM tenants WHERE id = $1)
    OR EXISTS (SELECT FROM customer_usage_daily WHERE tenant_id = $1) AS is_known`

/** @param month YYYY-MM @throws Fault NOT_FOUND */
export async function usageOf(
  { store }: Pick<AdminDeps, 'store'>,
  id: TenantId,
  month: string,
): Promise<Usage> {
  const values = [id, `${month}-01`]
  const { isKnown, days, people } = await store.use(async client => {
    const known = await client.query<{ is_known: boolean }>(IS_KNOWN, [id])
    const days = await client.query<Record<string, unknown>>(DAYS, values)
    const counted = await client.query<{ people: string }>(PEOPLE, values)
    return {
      isKnown: known.rows[0]?.is_known === true,
      days: days.rows.map(readDay),
      people: Number(counted.rows[0]?.people),
    }
  })
  if (!isKnown) {
    throw new Fault('NOT_FOUND', `no tenant ${id}`, { publicMessage: 'There is no such tenant.' })
  }
  const counts = {
    api_requests: sum(days, 'api_requests'),
    pdf_generated: sum(days, 'pdf_generated'),
    // An older tool counted per day and kept no names: the busiest of its days is certain.
    active_users: Math.max(people, ...days.map(day => day.active_users)),
    storage_gb: days.at(-1)?.storage_gb ?? 0,
  }
  return { tenant_id: id, month, ...counts, usage_score: scoreOf(counts), days }
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
