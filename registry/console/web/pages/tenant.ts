import type { TenantItem } from '../../../admin/item.ts'
import { type Answer, call } from '../lib/api.ts'
import { time } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { usePolled } from '../lib/poll.ts'
import { Link } from '../lib/route.ts'
import { Failure } from '../ui/failure.ts'
import { PageHead } from '../ui/page-head.ts'
import { Badge, StatusBadge } from '../ui/status.ts'
import { Tabs } from '../ui/tabs.ts'
import { NoPage } from './no-page.ts'
import { TenantActions } from './tenant-actions.ts'
import { TenantAudit } from './tenant-audit.ts'
import { TenantLive } from './tenant-live.ts'
import { TenantMaking } from './tenant-making.ts'
import { TenantOverview } from './tenant-overview.ts'
import { TenantUsage } from './tenant-usage.ts'

const TENANT_MS = 10_000

const TABS = [
  ['', 'Overview'],
  ['live', 'Live'],
  ['usage', 'Usage'],
  ['audit', 'Audit'],
] as const

/** What a part of the page gets: the tenant as it was last read, and its ETag for changes. */
export interface TenantViewProps {
  readonly tenant: TenantItem
  readonly etag: string | null
  readonly onChanged: () => void
}

/** One tenant. @param tab of its address */
export function TenantPage({ id, tab }: { id: string; tab: string }): View {
  const read = usePolled<Answer<TenantItem>>(`tenant ${id}`, TENANT_MS, (signal, isPoll) =>
    call<TenantItem>(`/tenants/${encodeURIComponent(id)}`, { signal, isPoll }),
  )
  const back = html`<p class="hint crumbs">${h(Link, { to: '/tenants', children: 'Tenants' })} /</p>`
  if (read.data === null) {
    return html`
      ${back}
      ${
        read.error === null
          ? html`<div class="card" aria-busy="true"></div>`
          : html`${h(PageHead, { title: 'Tenant' })}${h(Failure, { error: read.error, onRetry: read.reload })}`
      }
    `
  }
  const { result: tenant, etag } = read.data
  const view: TenantViewProps = { tenant, etag, onChanged: read.reload }
  const { tenant_key: key, name, status, status_reason: reason, mode, problem } = tenant
  return html`
    ${back}
    ${h(PageHead, {
      key: id,
      title: name ?? key,
      tab: key,
      aside: h(TenantActions, view),
      children: html`<p class="hint title-line">
        <code>${key}</code> ${h(StatusBadge, { status })} ${h(Badge, { text: mode })}
        ${tenant.debug_until === null ? null : h(Badge, { text: `debug until ${time(tenant.debug_until)}`, tone: 'warn' })}
        ${reason === null ? null : html`<span>“${reason}”</span>`}
      </p>`,
    })}
    ${read.error === null ? null : h(Failure, { error: read.error, onRetry: read.reload })}
    ${problem === null ? null : html`<p class="failure">This tenant cannot be served: ${problem}</p>`}
    ${h(Tabs, { label: 'Parts of the tenant', base: `/tenants/${id}`, tabs: TABS, current: tab })}
    ${status === 'provisioning' ? h(TenantMaking, view) : null}
    ${tabOf(tab, view)}
  `
}

function tabOf(tab: string, view: TenantViewProps): View {
  switch (tab) {
    case '':
      return h(TenantOverview, view)
    case 'live':
      return h(TenantLive, view)
    case 'usage':
      return h(TenantUsage, view)
    case 'audit':
      return h(TenantAudit, view)
    default:
      return h(NoPage, {})
  }
}
