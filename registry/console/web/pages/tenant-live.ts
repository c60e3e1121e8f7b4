import type { TenantState } from '../../../live/tenant-state.ts'
import { call } from '../lib/api.ts'
import { count, orDash, span } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { usePolled } from '../lib/poll.ts'
import { Failure } from '../ui/failure.ts'
import { Badge } from '../ui/status.ts'
import type { TenantViewProps } from './tenant.ts'

const STATE_MS = 5000

/** How each gateway, and each of its replicas, has the tenant at this moment. */
export function TenantLive({ tenant: { id } }: TenantViewProps): View {
  const state = usePolled(`state ${id}`, STATE_MS, async signal => {
    const { result } = await call<TenantState>(`/tenants/${id}/state`, { signal, isPoll: true })
    return result
  })
  const { data } = state
  return html`
    ${state.error === null ? null : h(Failure, { error: state.error, onRetry: state.reload })}
    ${data === null ? html`<div class="card" aria-busy="true"></div>` : h(State, { state: data })}
  `
}

function State({ state }: { state: TenantState }): View {
  const { totals, missing } = state
  const figures = [
    ['Requests in flight', totals.requests_in_flight],
    ['Held', totals.requests_held],
    ['WebSockets', totals.websockets],
    ['Event streams', totals.event_streams],
    ['Connections to replicas', totals.upstream_connections],
    ['Database connections', totals.app_connections],
    ['Breakers open', totals.breakers_open],
    ['Gateways that have it', totals.gateways_cached],
  ] as const
  return html`
    <section class="card"><ul class="figures">
      ${figures.map(
        ([name, value]) =>
          html`<li key=${name} class=${name === 'Breakers open' && value > 0 ? 'bad' : ''}><strong>${count(value)}</strong> ${name}</li>`,
      )}
    </ul></section>
    ${missing.length === 0 ? null : html`<p class="failure">${missing.length} gateways did not answer in time.</p>`}
    ${h(Pools, { state })}
    ${h(Replicas, { state })}
    ${h(Gateways, { state })}
  `
}

function Pools({ state: { apps } }: { state: TenantState }): View {
  const rows = apps.flatMap(({ origin, problem, state }) => {
    if (state === null) {
      return [
        html`<tr key=${origin}><th scope="row" class="mono">${origin}</th><td colspan="6">${orDash(problem)}</td></tr>`,
      ]
    }
    return state.pools.map(
      (pool, i) => html`<tr key=${`${origin} ${i}`}>
        <th scope="row" class="mono">${origin}</th>
        <td>${breaker(pool.breaker)} ${pool.is_current ? null : h(Badge, { text: 'draining', tone: 'warn' })}</td>
        <td class="number">${pool.size} / ${pool.max}</td>
        <td class="number">${pool.active}</td>
        <td class="number">${pool.idle}</td>
        <td class="number">${pool.waiting}</td>
        <td>${state.bucket === null ? orDash(null) : breaker(state.bucket.breaker)}</td>
      </tr>`,
    )
  })
  return html`<section>
    <h2 class="over">Database pools of its replicas</h2>
    <div class="card table" tabindex="0" role="region" aria-label="Database pools"><table>
      <thead><tr>
        <th scope="col">Replica</th><th scope="col">Database breaker</th><th scope="col" class="number">Connections</th>
        <th scope="col" class="number">Active</th><th scope="col" class="number">Idle</th>
        <th scope="col" class="number">Waiting</th><th scope="col">Bucket breaker</th>
      </tr></thead>
      <tbody>${rows.length > 0 ? rows : none(7, 'No replica has a pool open for it at the moment.')}</tbody>
    </table></div>
  </section>`
}

function Replicas({ state: { gateways } }: { state: TenantState }): View {
  const rows = gateways.flatMap(({ id, host, pid, state }) =>
    (state?.replicas ?? []).map(
      (replica, i) => html`<tr key=${`${id} ${replica.origin}`}>
        <th scope="row" class="mono">${replica.origin}${i === 0 ? html` ${h(Badge, { text: 'home', tone: 'info' })}` : null}</th>
        <td class="mono">${host}:${pid}</td>
        <td>${health(replica)}</td>
        <td>${breaker(replica.breaker)}${replica.breaker_open_ms > 0 ? ` for ${span(replica.breaker_open_ms)}` : ''}</td>
        <td class="number">${replica.breaker_failures}</td>
      </tr>`,
    ),
  )
  return html`<section>
    <h2 class="over">Home replicas, as each gateway sees them</h2>
    <div class="card table" tabindex="0" role="region" aria-label="Home replicas"><table>
      <thead><tr>
        <th scope="col">Replica</th><th scope="col">Gateway</th><th scope="col">Health</th>
        <th scope="col">Its breaker there</th><th scope="col" class="number">Failures in a row</th>
      </tr></thead>
      <tbody>${rows.length > 0 ? rows : none(5, 'No gateway has sent requests of it of late.')}</tbody>
    </table></div>
  </section>`
}

function Gateways({ state: { gateways } }: { state: TenantState }): View {
  return html`<section>
    <h2 class="over">Gateways</h2>
    <div class="card table" tabindex="0" role="region" aria-label="Gateways"><table>
      <thead><tr>
        <th scope="col">Gateway</th><th scope="col">Cache</th><th scope="col">Version</th><th scope="col">Status there</th>
        <th scope="col" class="number">In flight</th><th scope="col" class="number">Sockets</th><th scope="col">Hold</th>
      </tr></thead>
      <tbody>${gateways.map(
        ({ id, host, pid, worker, state }) => html`<tr key=${id}>
          <th scope="row" class="mono">${host}:${pid}${worker > 0 ? ` (${worker})` : ''}</th>
          ${
            state === null
              ? html`<td colspan="6">no answer</td>`
              : html`<td>${state.cache.state}${state.cache.age_ms === null ? '' : ` for ${span(state.cache.age_ms)}`}</td>
                  <td>${orDash(state.cache.version)}</td>
                  <td>${orDash(state.cache.status)}</td>
                  <td class="number">${state.requests_in_flight}</td>
                  <td class="number">${state.websockets + state.event_streams}</td>
                  <td>${state.hold === null ? orDash(null) : `${state.hold.state}, ${state.hold.waiting} wait`}</td>`
          }
        </tr>`,
      )}</tbody>
    </table></div>
  </section>`
}

function health(replica: {
  readonly is_healthy: boolean
  readonly is_ready: boolean
  readonly ejected_ms: number
  readonly resting_ms: number
}): View {
  if (replica.is_healthy) return h(Badge, { text: 'healthy', tone: 'ok' })
  if (replica.ejected_ms > 0)
    return h(Badge, { text: `ejected, ${span(replica.ejected_ms)}`, tone: 'bad' })
  if (!replica.is_ready) return h(Badge, { text: 'not ready', tone: 'bad' })
  return h(Badge, {
    text: replica.resting_ms > 0 ? `resting, ${span(replica.resting_ms)}` : 'unhealthy',
    tone: 'warn',
  })
}

function breaker(state: string): View {
  return h(Badge, { text: state, tone: state === 'open' ? 'bad' : 'ok' })
}

function none(columns: number, text: string): View {
  return html`<tr><td colspan=${columns} class="hint">${text}</td></tr>`
}
