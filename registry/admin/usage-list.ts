import { peopleOf } from '../billing/month-people.ts'
import type { AdminDeps } from './deps.ts'
import { type ListQuery, listTenants } from './list.ts'
import { scoreOf } from './usage.ts'

/** A line of a month's bill. */
export interface UsageItem {
  readonly tenant_id: string
  readonly tenant_key: string
  readonly name: string | null
  readonly mode: string
  readonly plan: string | null
  readonly api_requests: number
  readonly pdf_generated: number
  readonly active_users: number
  readonly storage_gb: number
  readonly usage_score: number
}

export interface UsageTotals {
  /** That have used anything. */
  readonly tenants: number
  readonly api_requests: number
  readonly pdf_generated: number
  readonly storage_gb: number
  readonly bytes_in: number
  readonly bytes_out: number
}

export interface UsagePage {
  readonly month: string
  /** Of the whole fleet, whatever the filter. */
  readonly totals: UsageTotals
  readonly items: readonly UsageItem[]
  readonly total: number
  readonly limit: number
  readonly page: number | null
  readonly next_cursor: string | null
}

/** Of the tenants $1 in the month that begins at $2. Primary key, at most 31 rows for each. */
const COUNTS = `
  SELECT tenant_id, sum(api_requests) AS api_requests, sum(pdf_generated) AS pdf_generated,
    max(active_users) AS busiest_day, (array_agg(storage_gb ORDER BY date DESC)
      FILTER (WHERE storage_measured_at IS NOT NULL OR storage_gb <> 0))[1] AS storage_gb
  FROM customer_usage_daily
  WHERE tenant_id = ANY($1::uuid[]) AND date >= $2::date AND date < $2::date + interval '1 month'
  GROUP BY tenant_id`

/** As in usage.ts; NULL where there are sketches to be read, which may take more than a statement. */
const PEOPLE = `
  SELECT tenant_id, CASE WHEN NOT EXISTS (
      SELECT FROM user_sketch_daily AS sketches WHERE sketches.tenant_id = ids.tenant_id
        AND date >= $2::date AND date < $2::date + interval '1 month')
    THEN usage_people(tenant_id, $2::date, ($2::date + interval '1 month')::date) END AS people
  FROM unnest($1::uuid[]) AS ids (tenant_id)`

/** Of the whole fleet in the month that begins at $1, tenants that are deleted by now too; a read of all its rows. */
const TOTALS = `
  SELECT count(*) AS tenants, coalesce(sum(requests), 0) AS api_requests,
    coalesce(sum(pdfs), 0) AS pdf_generated, coalesce(sum(storage), 0) AS storage_gb,
    coalesce(sum(bytes_in), 0) AS bytes_in, coalesce(sum(bytes_out), 0) AS bytes_out
  FROM (
    SELECT sum(api_requests) AS requests, sum(pdf_generated) AS pdfs, sum(bytes_in) AS bytes_in,
      sum(bytes_out) AS bytes_out, (array_agg(storage_gb ORDER BY date DESC)
        FILTER (WHERE storage_measured_at IS NOT NULL OR storage_gb <> 0))[1] AS storage
    FROM customer_usage_daily
    WHERE date >= $1::date AND date < $1::date + interval '1 month' GROUP BY tenant_id
  ) AS of_tenants`

/**
 * What each tenant of a page used, by the same rules as `usageOf`: one page of tenants first, so that the
 * counting is bounded by it.
 *
 * @param month YYYY-MM
 */
export async function listUsage(
  deps: Pick<AdminDeps, 'store'>,
  query: ListQuery,
  month: string,
): Promise<UsagePage> {
  const { items, ...page } = await listTenants(deps, query)
  const values = [items.map(({ id }) => id), `${month}-01`]
  const { counts, people, totals } = await deps.store.use(async client => ({
    counts: byTenant((await client.query(COUNTS, values)).rows),
    people: byTenant((await client.query(PEOPLE, values)).rows),
    totals: (await client.query<Row>(TOTALS, [`${month}-01`])).rows[0] as Row,
  }))
  const sketched = new Map<string, number>()
  for (const [id, row] of people) {
    if (row.people !== null) continue
    sketched.set(id, (await peopleOf(deps.store, id, [month])).get(month) ?? 0)
  }
  return {
    month,
    totals: {
      tenants: Number(totals.tenants),
      api_requests: Number(totals.api_requests),
      pdf_generated: Number(totals.pdf_generated),
      storage_gb: Number(totals.storage_gb),
      bytes_in: Number(totals.bytes_in),
      bytes_out: Number(totals.bytes_out),
    },
    ...page,
    items: items.map(({ id, tenant_key, name, mode, plan }) => {
      const row = counts.get(id)
      const used = {
        api_requests: Number(row?.api_requests ?? 0),
        pdf_generated: Number(row?.pdf_generated ?? 0),
        active_users: Math.max(
          sketched.get(id) ?? Number(people.get(id)?.people ?? 0),
          Number(row?.busiest_day ?? 0),
        ),
        storage_gb: Number(row?.storage_gb ?? 0),
      }
      return {
        ...{ tenant_id: id, tenant_key, name, mode, plan },
        ...used,
        usage_score: scoreOf(used),
      }
    }),
  }
}

type Row = Readonly<Record<string, unknown>>

function byTenant(rows: readonly Row[]): ReadonlyMap<string, Row> {
  return new Map(rows.map(row => [String(row.tenant_id), row]))
}
