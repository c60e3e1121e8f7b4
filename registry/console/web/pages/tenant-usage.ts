import type { DailyUsage, Usage } from '../../../admin/usage.ts'
import { call, queryString } from '../lib/api.ts'
import { bytes, count, short } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { monthOr, thisMonth } from '../lib/month.ts'
import { usePolled } from '../lib/poll.ts'
import { go, usePlace } from '../lib/route.ts'
import { Bars } from '../ui/bars.ts'
import { Failure } from '../ui/failure.ts'
import { MonthChoice } from '../ui/month-choice.ts'
import type { TenantViewProps } from './tenant.ts'
import { TenantCredits } from './tenant-credits.ts'

const USAGE_MS = 60_000

/** What the tenant used in a month, day by day (UTC). */
export function TenantUsage({ tenant }: TenantViewProps): View {
  const { id } = tenant
  const { query } = usePlace()
  const month = monthOr(query.get('month'), thisMonth())
  const usage = usePolled(`usage ${id} ${month}`, USAGE_MS, async (signal, isPoll) => {
    const path = `/tenants/${id}/usage${queryString({ month, daily: 'true' })}`
    const { result } = await call<Usage>(path, { signal, isPoll })
    return result
  })
  const onMonth = (value: string) => go(`/tenants/${id}/usage?month=${value}`, { isReplaced: true })
  return html`
    <div class="filters">
      ${h(MonthChoice, { month, onChoice: onMonth })}
      <p class="hint">Days are counted in UTC.</p>
    </div>
    ${usage.error === null ? null : h(Failure, { error: usage.error, onRetry: usage.reload })}
    ${usage.data === null ? html`<div class="card" aria-busy="true"></div>` : h(Month, { usage: usage.data })}
    ${h(TenantCredits, { tenant })}
  `
}

function Month({ usage }: { usage: Usage }): View {
  const days = daysOf(usage)
  const labels = days.map(({ date }) => date.slice(5))
  const of = (read: (day: DailyUsage) => number | null) =>
    days.map(({ usage: day }) => (day === null ? 0 : read(day)))
  const sum = (read: (day: DailyUsage) => number) =>
    days.reduce((total, { usage: day }) => total + (day === null ? 0 : read(day)), 0)
  const storage = days.map(({ usage: day }) =>
    day === null || (day.database_bytes === null && day.bucket_bytes === null)
      ? null
      : (day.database_bytes ?? 0) + (day.bucket_bytes ?? 0),
  )
  const traffic = (day: DailyUsage) => day.bytes_in + day.bytes_out
  const failed = (day: DailyUsage) => day.responses_5xx
  return html`
    <div class="charts">
      ${h(Bars, { title: 'Requests', labels, values: of(day => day.api_requests), format: count, total: short(usage.api_requests) })}
      ${h(Bars, { title: 'Answers of 5xx', labels, values: of(failed), format: count, total: short(sum(failed)) })}
      ${h(Bars, { title: 'Bytes in and out', labels, values: of(traffic), format: bytes, total: bytes(sum(traffic)) })}
      ${h(Bars, { title: 'Active users', labels, values: of(day => day.active_users), format: count, total: short(usage.active_users) })}
      ${h(Bars, { title: 'Storage', labels, values: storage, format: bytes, total: bytes(usage.storage_gb * 1e9) })}
      ${h(Bars, { title: 'PDFs', labels, values: of(day => day.pdf_generated), format: count, total: short(usage.pdf_generated) })}
    </div>
    <p class="hint">Usage score of the month: <strong>${count(usage.usage_score)}</strong></p>
  `
}

/** Every day of the month until today; those without use too, or the chart would lie about the time between. */
function daysOf(usage: Usage): { date: string; usage: DailyUsage | null }[] {
  const known = new Map((usage.daily ?? []).map(day => [day.date, day]))
  const [year = 0, month = 0] = usage.month.split('-').map(Number)
  const length = new Date(Date.UTC(year, month, 0)).getUTCDate()
  return Array.from({ length }, (_, i) => {
    const date = `${usage.month}-${String(i + 1).padStart(2, '0')}`
    return { date, usage: known.get(date) ?? null }
  })
}
