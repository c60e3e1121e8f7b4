import type { Replica } from '../lib/fleet.ts'
import { bytes, count, many, orDash, span } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { Meter } from '../ui/meter.ts'
import { Badge } from '../ui/status.ts'

const COLUMNS = [
  { title: 'Replica', class: '' },
  { title: 'State', class: '' },
  { title: 'Version', class: 'mid' },
  { title: 'In flight', class: 'number' },
  { title: 'WebSockets', class: 'number widest-only' },
  { title: 'Weight', class: 'number widest-only' },
  { title: 'Gateways’ connections', class: 'wide-only' },
  { title: 'Database connections', class: 'mid' },
  { title: 'Of the busiest server', class: 'widest-only' },
  { title: 'Waiting', class: 'number wide-only' },
  { title: 'Breakers', class: 'number wide-only' },
  { title: 'Memory', class: 'number wide-only' },
  { title: 'Up', class: 'number widest-only' },
] as const

/** Of the app, as the gateways see them and as they tell themselves. */
export function FleetReplicas({ replicas }: { replicas: readonly Replica[] }): View {
  return html`<section aria-labelledby="replicas">
    <h2 id="replicas">Replicas of the app</h2>
    ${
      replicas.length === 0
        ? html`<p class="card empty">No gateway knows a replica.</p>`
        : html`<div class="card table" tabindex="0" role="region" aria-labelledby="replicas">
            <table>
              <thead>
                <tr>${COLUMNS.map(({ title, class: name }) => html`<th key=${title} scope="col" class=${name}>${title}</th>`)}</tr>
              </thead>
              <tbody>${replicas.map(replica => h(Row, { key: replica.origin, replica }))}</tbody>
            </table>
          </div>`
    }
  </section>`
}

function Row({ replica }: { replica: Replica }): View {
  const { app } = replica
  const slow = replica.weight < replica.full_weight
  return html`<tr>
    <th scope="row" class="origin">
      <span class="mono">${replica.origin}</span>
      ${app?.name == null ? null : html`<span class="name">${app.name}</span>`}
      ${replica.problem === null ? null : html`<span class="problem">⚠ ${replica.problem}</span>`}
    </th>
    <td>
      ${h(State, { replica })}
      ${app === null ? null : html`<span class="name narrow-only">${count(app.db_connections)} of ${count(app.db_connections_max)} database connections</span>`}
    </td>
    <td class="mid mono">${orDash(app?.version)}</td>
    <td class="number">${count(replica.requests_in_flight)}</td>
    <td class="number widest-only">${count(replica.websockets)}</td>
    <td class="number widest-only">
      ${weight(replica.weight)}${slow ? html`<span class="of"> / ${weight(replica.full_weight)}</span>` : null}
    </td>
    <td class="wide-only">${h(Meter, { used: replica.connections, max: replica.connections_max })}</td>
    ${
      app === null
        ? html`<td class="mid hint">not asked</td><td class="widest-only"></td><td class="wide-only"></td><td class="wide-only"></td><td class="wide-only"></td><td class="widest-only"></td>`
        : html`
          <td class="mid">
            ${h(Meter, { used: app.db_connections, max: app.db_connections_max })}
            <span class="name">${count(app.pools)} of ${count(app.pools_max)} pools</span>
          </td>
          <td class="widest-only">${h(Meter, { used: app.db_connections_of_busiest_server, max: app.db_connections_per_server_max })}</td>
          <td class=${`number wide-only ${app.waiting > 0 ? 'warn' : ''}`}>
            ${count(app.waiting)}
            ${app.tenants_in_line === 0 ? null : html`<span class="name">${many(app.tenants_in_line, 'tenant')} in line</span>`}
          </td>
          <td class=${`number wide-only ${breakers(app) > 0 ? 'bad' : ''}`}>${breakers(app) === 0 ? 'closed' : `${breakers(app)} open`}</td>
          <td class="number wide-only">${bytes(app.rss_bytes)}</td>
          <td class="number widest-only">${span(app.uptime_ms)}</td>
        `
    }
  </tr>`
}

function State({ replica }: { replica: Replica }): View {
  const { seen_by: seen, healthy_for: healthy, ready_for: ready, ejected_by: ejected } = replica
  const tone = healthy === seen ? 'ok' : healthy === 0 ? 'bad' : 'warn'
  const text = healthy === seen ? 'healthy' : healthy === 0 ? 'unhealthy' : 'in part'
  const notes = [
    healthy > 0 && healthy < seen ? `for ${healthy} of ${seen} gateways` : '',
    ejected === 0 ? '' : `ejected by ${ejected}`,
    ready === seen ? '' : `not ready for ${seen - ready}`,
  ].filter(Boolean)
  return html`${h(Badge, { text, tone })}${notes.map(note => html`<span key=${note} class="name">${note}</span>`)}`
}

function breakers(app: NonNullable<Replica['app']>): number {
  return app.db_breakers_open + app.bucket_breakers_open
}

function weight(value: number): string {
  return String(Math.round(value * 100) / 100)
}
