import type { FleetState } from '../../../live/fleet.ts'
import { ms, percent, rate } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Link } from '../lib/route.ts'
import { type Traffic, useTraffic } from '../lib/traffic.ts'
import { Sparkline } from '../ui/sparkline.ts'

const ERRORS_WARN = 0.01
const ERRORS_BAD = 0.05

type Tenant = FleetState['top'][number]

/** The busiest tenants of the last minute, with the five minutes that led to it. */
export function FleetTop({ top, total }: { top: readonly Tenant[]; total: number }): View {
  // In one order: those that change places are no other question.
  const ids = top
    .map(({ tenant_id: id }) => id)
    .sort()
    .join()
  const { traffic } = useTraffic(ids)
  return html`<section aria-labelledby="top">
    <h2 id="top">Busiest tenants</h2>
    ${
      top.length === 0
        ? html`<p class="card empty">No tenant had a request in the last minute.</p>`
        : html`<div class="card table" tabindex="0" role="region" aria-labelledby="top">
            <table class="tenants">
              <thead>
                <tr>
                  <th scope="col">Tenant</th>
                  <th scope="col">Requests/s</th>
                  <th scope="col" class="number mid">Of all</th>
                  <th scope="col">Errors</th>
                  <th scope="col" class="number">p99</th>
                </tr>
              </thead>
              <tbody>
                ${top.map(tenant => h(Row, { key: tenant.tenant_id, tenant, total, traffic: traffic.get(tenant.tenant_id) ?? null }))}
              </tbody>
            </table>
          </div>`
    }
  </section>`
}

function Row({
  tenant,
  total,
  traffic,
}: {
  tenant: Tenant
  total: number
  traffic: Traffic | null
}): View {
  const { tenant_id: id, tenant_key: key, name, requests_per_s: perS } = tenant
  const { server_error_share: errors } = tenant
  const tone = errors >= ERRORS_BAD ? 'bad' : errors >= ERRORS_WARN ? 'warn' : ''
  return html`<tr>
    <th scope="row">
      ${key === null ? html`<span class="hint">deleted</span>` : h(Link, { to: `/tenants/${id}`, class: 'key', children: key })}
      ${name === null ? null : html`<span class="name">${name}</span>`}
    </th>
    <td class="traffic">
      <div class="figure"><span>${rate(perS)}</span>${traffic === null ? null : h(Sparkline, { values: traffic.perS, floor: 1 })}</div>
    </td>
    <td class="number mid">${total === 0 ? '–' : percent(Math.min(1, perS / total))}</td>
    <td class=${`traffic ${tone}`}>
      <div class="figure"><span>${percent(errors)}</span>${traffic === null ? null : h(Sparkline, { values: traffic.errors, floor: 0.05, tone: 'bad' })}</div>
    </td>
    <td class="number">${ms(tenant.p99_ms)}</td>
  </tr>`
}
