import type { FleetState } from '../../../live/fleet.ts'
import { type Gateway, gatewayName, loopTone, REGISTRY_AGE_WARN_MS } from '../lib/fleet.ts'
import { bytes, count, ms, orDash, percent, rate, span } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Meter } from '../ui/meter.ts'
import { Badge } from '../ui/status.ts'

const COLUMNS = [
  { title: 'Gateway', class: '' },
  { title: 'State', class: '' },
  { title: 'Version', class: 'wide-only' },
  { title: 'Requests/s', class: 'number' },
  { title: 'Errors', class: 'number mid' },
  { title: 'p99', class: 'number mid' },
  { title: 'In flight', class: 'number wide-only' },
  { title: 'Loop delay', class: 'number mid' },
  { title: 'CPU', class: 'number mid' },
  { title: 'Memory', class: 'number wide-only' },
  { title: 'Clients', class: 'wide-only' },
  { title: 'Sockets', class: 'number widest-only' },
  { title: 'Registry', class: 'widest-only' },
  { title: 'Up', class: 'number widest-only' },
] as const

/** Those that are asked, and those that ended without a word within the last hour. */
export function FleetGateways({
  gateways,
  gone,
}: {
  gateways: readonly Gateway[]
  gone: FleetState['gone']
}): View {
  return html`<section aria-labelledby="gateways">
    <h2 id="gateways">Gateways</h2>
    <div class="card table" tabindex="0" role="region" aria-labelledby="gateways">
      <table>
        <thead>
          <tr>${COLUMNS.map(({ title, class: name }) => html`<th key=${title} scope="col" class=${name}>${title}</th>`)}</tr>
        </thead>
        <tbody>
          ${gateways.map(gateway => h(Row, { key: gateway.id, gateway }))}
          ${gone.map(
            gateway => html`<tr key=${gateway.id}>
              ${h(Name, { gateway })}
              <td colspan=${COLUMNS.length - 1}>
                ${h(Badge, { text: 'gone', tone: 'off' })}
                <span class="hint"> last heard of ${span(gateway.heartbeat_age_ms)} ago, version ${gateway.version}</span>
              </td>
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`
}

function Name({ gateway }: { gateway: FleetState['gone'][number] }): View {
  const { id, address } = gateway
  return html`<th scope="row" class="origin">
    ${gatewayName(gateway)}
    <span class="name mono" title=${id}>${orDash(address)}</span>
  </th>`
}

function Row({ gateway }: { gateway: Gateway }): View {
  const { load, version } = gateway
  if (load === null) {
    return html`<tr class="lost">
      ${h(Name, { gateway })}
      <td colspan=${COLUMNS.length - 1}>
        ${h(Badge, { text: 'no answer', tone: 'bad' })}
        <span class="hint"> last heartbeat ${span(gateway.heartbeat_age_ms)} ago, version ${version}</span>
      </td>
    </tr>`
  }
  const { registry, loop_delay_ms: delay } = load
  const isSilent = registry.contact_age_ms >= REGISTRY_AGE_WARN_MS
  return html`<tr>
    ${h(Name, { gateway })}
    <td>
      ${h(State, { load })}
      <span class="name narrow-only">p99 ${ms(load.p99_ms)}</span>
      <span class="name narrow-only">loop ${ms(delay)}</span>
      <span class="name narrow-only">${bytes(load.rss_bytes)}</span>
    </td>
    <td class="wide-only mono">${version}</td>
    <td class="number">${rate(load.requests_per_s)}</td>
    <td class="number mid">${load.requests_per_s === 0 ? '–' : percent(load.server_error_share)}</td>
    <td class="number mid">${ms(load.p99_ms)}</td>
    <td class="number wide-only">
      ${count(load.requests_in_flight)}
      ${load.requests_held === 0 ? null : html`<span class="name">${count(load.requests_held)} held</span>`}
    </td>
    <td class=${`number mid ${loopTone(delay)}`}>${ms(delay)}</td>
    <td class="number mid">${percent(load.cpu_share)}</td>
    <td class="number wide-only">${bytes(load.rss_bytes)}</td>
    <td class="wide-only">${h(Meter, { used: load.client_connections, max: load.client_connections_max })}</td>
    <td class="number widest-only">${count(load.open_sockets)}</td>
    <td class=${`widest-only ${isSilent ? 'warn' : ''}`}>
      ${span(registry.contact_age_ms)} ago
      <span class="name">${registry.is_listener_healthy ? 'listens' : 'no listener'}</span>
    </td>
    <td class="number widest-only">${span(load.uptime_ms)}</td>
  </tr>`
}

function State({ load }: { load: NonNullable<Gateway['load']> }): View {
  if (!load.is_ready) return h(Badge, { text: 'not ready', tone: 'warn' })
  if (!load.registry.is_listener_healthy) return h(Badge, { text: 'deaf', tone: 'bad' })
  if (load.shed_share > 0)
    return h(Badge, { text: `sheds ${percent(load.shed_share)}`, tone: 'bad' })
  return h(Badge, { text: 'ready', tone: 'ok' })
}
