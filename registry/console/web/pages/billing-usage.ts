import { useEffect, useState } from 'preact/hooks'
import type { UsageItem, UsagePage } from '../../../admin/usage-list.ts'
import { ApiError, call, queryString } from '../lib/api.ts'
import { bytes, count, orDash, short } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { monthsUntil } from '../lib/month.ts'
import { Link } from '../lib/route.ts'
import { Bars } from '../ui/bars.ts'
import { Failure } from '../ui/failure.ts'
import { Table } from '../ui/table.ts'
import { StatementDialog } from './statement-dialog.ts'

const ROWS = 50
/** Each is a read of all that the fleet used in it. */
const MONTHS_CHARTED = 6

type Totals = UsagePage['totals']

/** What the fleet used month by month, and of one month each tenant. */
export function BillingUsage({ month }: { month: string }): View {
  const [shown, setShown] = useState<UsageItem | null>(null)
  return html`
    ${h(Charts, { month })}
    ${h(Tenants, { month, onStatement: setShown })}
    ${h(StatementDialog, { of: shown, month, onClose: () => setShown(null) })}
  `
}

/** One month after the other, so that a long look at the past holds nobody up. */
function Charts({ month }: { month: string }): View {
  const months = monthsUntil(month, MONTHS_CHARTED)
  const [totals, setTotals] = useState<ReadonlyMap<string, Totals>>(new Map())
  const [error, setError] = useState<ApiError | null>(null)
  useEffect(() => {
    const gone = new AbortController()
    const load = async () => {
      for (const one of [...months].reverse()) {
        const path = `/usage${queryString({ month: one, limit: 1 })}`
        const { result } = await call<UsagePage>(path, { signal: gone.signal })
        if (gone.signal.aborted) return
        setTotals(now => new Map(now).set(one, result.totals))
      }
    }
    load().catch(failure => {
      if (!gone.signal.aborted && failure instanceof ApiError) setError(failure)
    })
    return () => gone.abort()
  }, [])
  const bars = (title: string, read: (one: Totals) => number, format: (n: number) => string) => {
    const last = totals.get(month)
    const values = months.map(one => {
      const known = totals.get(one)
      return known === undefined ? null : read(known)
    })
    const total = last === undefined ? '…' : format(read(last))
    return h(Bars, { title, values, labels: months, format, total })
  }
  return html`
    ${error === null ? null : h(Failure, { error })}
    <div class="charts">
      ${bars('Requests', one => one.api_requests, short)}
      ${bars('Bytes in and out', one => one.bytes_in + one.bytes_out, bytes)}
      ${bars('Tenants with use', one => one.tenants, count)}
      ${bars('Storage', one => one.storage_gb * 1e9, bytes)}
      ${bars('PDFs', one => one.pdf_generated, short)}
    </div>
  `
}

interface TenantsProps {
  readonly month: string
  readonly onStatement: (tenant: UsageItem) => void
}

function Tenants({ month, onStatement }: TenantsProps): View {
  const [q, setQ] = useState('')
  const [page, setPage] = useState<UsagePage | null>(null)
  const [cursor, setCursor] = useState('')
  const [error, setError] = useState<ApiError | null>(null)
  useEffect(() => {
    const gone = new AbortController()
    const load = async () => {
      setError(null)
      const path = `/usage${queryString({ month, q, cursor, limit: ROWS })}`
      try {
        const { result } = await call<UsagePage>(path, { signal: gone.signal })
        setPage(result)
      } catch (failure) {
        if (!gone.signal.aborted && failure instanceof ApiError) setError(failure)
      }
    }
    // Typing rests for so long before it is asked.
    const timer = setTimeout(load, q === '' ? 0 : 250)
    return () => {
      clearTimeout(timer)
      gone.abort()
    }
  }, [q, cursor])
  const onSearch = (event: Event) => {
    setCursor('')
    setQ((event.currentTarget as HTMLInputElement).value)
  }
  return html`<section aria-labelledby="by-tenant">
    <div class="section-head">
      <h2 id="by-tenant">By tenant in ${month}</h2>
      <label class="inline">
        <span class="hidden">Search tenants</span>
        <input type="search" placeholder="Key or name" value=${q} maxlength="128" spellcheck=${false} autocomplete="off" onInput=${onSearch} />
      </label>
    </div>
    ${error === null ? null : h(Failure, { error })}
    ${
      page === null
        ? html`<div class="card" aria-busy=${error === null}></div>`
        : h(Table, {
            label: `By tenant in ${month}`,
            class: 'tenants',
            isEmpty: page.items.length === 0,
            empty: 'No tenant matches.',
            columns: [
              { title: 'Tenant' },
              { title: 'Plan', class: 'wide-only' },
              { title: 'Requests', class: 'number' },
              { title: 'Users', class: 'number mid' },
              { title: 'PDFs', class: 'number wide-only' },
              { title: 'Storage', class: 'number mid' },
              { title: 'Score', class: 'number wide-only' },
              { title: 'Statement' },
            ],
            children: page.items.map(item => h(Row, { key: item.tenant_id, item, onStatement })),
          })
    }
    ${
      page === null || (page.next_cursor === null && cursor === '')
        ? null
        : html`<nav class="pages" aria-label="Pages of the list">
            <button type="button" disabled=${cursor === ''} onClick=${() => setCursor('')}>First</button>
            <button type="button" disabled=${page.next_cursor === null} onClick=${() => setCursor(page.next_cursor ?? '')}>Next</button>
          </nav>`
    }
  </section>`
}

function Row({
  item,
  onStatement,
}: {
  item: UsageItem
  onStatement: (tenant: UsageItem) => void
}): View {
  return html`<tr>
    <th scope="row">
      ${h(Link, { to: `/tenants/${item.tenant_id}/usage`, class: 'key', children: item.tenant_key })}
      ${item.name === null ? null : html`<span class="name">${item.name}</span>`}
    </th>
    <td class="wide-only">${orDash(item.plan)}<span class="name">${item.mode}</span></td>
    <td class="number">${count(item.api_requests)}</td>
    <td class="number mid">${count(item.active_users)}</td>
    <td class="number wide-only">${count(item.pdf_generated)}</td>
    <td class="number mid">${bytes(item.storage_gb * 1e9)}</td>
    <td class="number wide-only">${count(item.usage_score)}</td>
    <td class="end-actions">
      <button type="button" aria-label=${`Show the statement of ${item.tenant_key}`} onClick=${() => onStatement(item)}>Show</button>
    </td>
  </tr>`
}
