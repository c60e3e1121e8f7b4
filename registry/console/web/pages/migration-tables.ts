import type { RunItem } from '../../../admin/migration-runs.ts'
import type { FleetSummary } from '../../../admin/migration-summary.ts'
import { ago, count, orDash, span, time } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Link } from '../lib/route.ts'
import { StatusBadge } from '../ui/status.ts'
import { Table } from '../ui/table.ts'
import { RunState } from './migration-progress.ts'

export function RunTable({ runs }: { runs: readonly RunItem[] }): View {
  return html`<section aria-labelledby="runs">
    <h2 id="runs">Last runs</h2>
    ${h(Table, {
      label: 'Last runs',
      isEmpty: runs.length === 0,
      empty: 'Nobody has started one.',
      columns: [
        { title: 'Started' },
        { title: 'State' },
        { title: 'Tenants', class: 'number mid' },
        { title: 'Failed', class: 'number' },
        { title: 'Took', class: 'number mid' },
        { title: 'By', class: 'mid' },
      ],
      children: runs.map(
        run => html`<tr key=${run.id}>
          <th scope="row" title=${time(run.started_at)}>
            ${h(Link, { to: `/migrations/runs/${run.id}`, children: ago(run.started_at) })}
          </th>
          <td>${h(RunState, { run })}</td>
          <td class="number mid">${run.tenants === null ? '–' : count(run.tenants)}</td>
          <td class=${`number ${run.failed > 0 ? 'bad' : ''}`}>${count(run.failed)}</td>
          <td class="number mid">${tookOf(run)}</td>
          <td class="mid place">${run.started_by}${run.retry_of === null ? null : html`<span class="name">a retry</span>`}</td>
        </tr>`,
      ),
    })}
  </section>`
}

export function tookOf({ began_at: from, ended_at: to }: RunItem): string {
  return from === null || to === null ? '–' : span(Date.parse(to) - Date.parse(from))
}

export interface LaggingProps {
  readonly id: string
  readonly title: string
  readonly tenants: FleetSummary['failed']
  readonly withError: boolean
}

/** The first of them, by key. */
export function LaggingTenants({ id, title, tenants, withError }: LaggingProps): View {
  const { count: all, items } = tenants
  const shown = all > items.length ? ` (the first ${count(items.length)} of ${count(all)})` : ''
  return html`<section aria-labelledby=${id}>
    <h2 id=${id}>${title}${shown}</h2>
    ${h(Table, {
      label: title,
      class: 'tenants',
      columns: [
        { title: 'Tenant' },
        { title: 'Status', class: 'mid' },
        { title: 'Version' },
        ...(withError ? [{ title: 'Why' }, { title: 'Tries', class: 'number wide-only' }] : []),
        { title: 'Tried', class: 'wide-only' },
      ],
      children: items.map(
        tenant => html`<tr key=${tenant.tenant_id}>
          <th scope="row">${h(Link, { to: `/tenants/${tenant.tenant_id}`, class: 'key', children: tenant.tenant_key })}</th>
          <td class="mid">${h(StatusBadge, { status: tenant.status })}</td>
          <td class="mono">${orDash(tenant.schema_version)}</td>
          ${
            withError
              ? html`<td class="why">${orDash(tenant.error)}</td><td class="number wide-only">${count(tenant.attempts)}</td>`
              : null
          }
          <td class="wide-only" title=${time(tenant.tried_at)}>${ago(tenant.tried_at)}</td>
        </tr>`,
      ),
    })}
  </section>`
}
