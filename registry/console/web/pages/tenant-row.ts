import type { TenantItem } from '../../../admin/item.ts'
import { ago, ms, orDash, percent, rate, time } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Link } from '../lib/route.ts'
import { useMay } from '../lib/session.ts'
import type { Traffic } from '../lib/traffic.ts'
import { Sparkline } from '../ui/sparkline.ts'
import { Badge, StatusBadge } from '../ui/status.ts'
import { type Asked, TenantRowActions } from './tenant-actions.ts'

/** Shares of failed requests from which a figure is marked. */
const ERRORS_WARN = 0.01
const ERRORS_BAD = 0.05

export interface TenantRowProps {
  readonly tenant: TenantItem
  readonly traffic: Traffic | null
  /** The gateways could not be asked: what is shown is old. */
  readonly isPulseLost: boolean
  readonly ask: (asked: Asked) => void
}

export function TenantRow({ tenant, traffic, isPulseLost, ask }: TenantRowProps): View {
  const may = useMay()
  const etag = `"${tenant.config_version}"`
  const { id, tenant_key: key, name, problem, status_reason: reason } = tenant
  return html`<tr>
    <th scope="row">
      ${h(Link, { to: `/tenants/${id}`, class: 'key', children: key })}
      ${name === null ? null : html`<span class="name">${name}</span>`}
      <span class="narrow-only">${h(StatusBadge, { status: tenant.status })}</span>
      ${problem === null ? null : html`<span class="problem">⚠ ${problem}</span>`}
    </th>
    <td class="mid">
      ${h(StatusBadge, { status: tenant.status })}
      ${tenant.debug_until === null ? null : html`<span title=${`until ${time(tenant.debug_until)}`}>${h(Badge, { text: 'debug', tone: 'warn' })}</span>`}
      ${reason === null ? null : html`<span class="reason">${reason}</span>`}
    </td>
    <td class="wide-only">${tenant.mode}</td>
    ${h(TrafficCells, { traffic, isPulseLost })}
    <td class="wide-only mono place">${orDash(tenant.db_name)}<span class="name">${orDash(tenant.db_host)}</span></td>
    <td class="widest-only mono">${orDash(tenant.schema_version)}</td>
    <td class="widest-only" title=${time(tenant.updated_at)}>${ago(tenant.updated_at)}</td>
    ${may.operate ? html`<td class="end">${h(TenantRowActions, { tenant, etag, ask })}</td>` : null}
  </tr>`
}

function TrafficCells({
  traffic,
  isPulseLost,
}: {
  traffic: Traffic | null
  isPulseLost: boolean
}): View {
  if (traffic === null) {
    const text = isPulseLost ? 'unknown' : '…'
    return html`<td class="traffic hint">${text}</td><td class="traffic"></td><td class="traffic mid"></td>`
  }
  const { now, perS, errors, p99Ms } = traffic
  const tone = toneOf(now.errorShare)
  const stale = isPulseLost ? ' stale' : ''
  const cell = (figure: string, name: string, spark: View) =>
    html`<td class=${`traffic ${name}${stale}`}><div class="figure"><span>${figure}</span>${spark}</div></td>`
  return html`
    ${cell(rate(now.perS), '', h(Sparkline, { values: perS, floor: 1 }))}
    ${cell(
      now.requests === 0 ? '–' : percent(now.errorShare),
      tone,
      h(Sparkline, { values: errors, floor: 0.05, tone: 'bad' }),
    )}
    ${cell(ms(now.p99Ms), 'mid', h(Sparkline, { values: p99Ms, floor: 50 }))}
  `
}

function toneOf(errorShare: number): 'bad' | 'warn' | 'none' | '' {
  if (errorShare >= ERRORS_BAD) return 'bad'
  if (errorShare >= ERRORS_WARN) return 'warn'
  return errorShare === 0 ? 'none' : ''
}
