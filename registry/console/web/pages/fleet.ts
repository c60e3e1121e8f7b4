import type { FleetState } from '../../../live/fleet.ts'
import { call, queryString } from '../lib/api.ts'
import { loopTone, type Problem, problemsOf } from '../lib/fleet.ts'
import { bytes, count, DASH, many, ms, percent, rate, time } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { usePolled } from '../lib/poll.ts'
import { Failure } from '../ui/failure.ts'
import { type Figure, Figures } from '../ui/figures.ts'
import { fillTone, Meter } from '../ui/meter.ts'
import { PageHead } from '../ui/page-head.ts'
import { FleetCaches } from './fleet-caches.ts'
import { FleetGateways } from './fleet-gateways.ts'
import { FleetReplicas } from './fleet-replicas.ts'
import { FleetTop } from './fleet-top.ts'

const FLEET_MS = 5000
const TOP_SHOWN = 15
const ERRORS_WARN = 0.01
const ERRORS_BAD = 0.05

/** The whole installation as its gateways see it now. */
export function FleetPage(): View {
  const fleet = usePolled('fleet', FLEET_MS, async (signal, isPoll) => {
    const path = `/fleet${queryString({ top: TOP_SHOWN })}`
    const { result } = await call<FleetState>(path, { signal, isPoll })
    return { fleet: result, at: new Date().toISOString() }
  })
  const { data, error, reload } = fleet
  return html`
    ${h(PageHead, {
      title: 'Fleet',
      children: html`<p class="hint">${data === null ? 'Asking the gateways…' : summaryOf(data.fleet)}${error === null || data === null ? '' : ` · as of ${time(data.at)}`}</p>`,
    })}
    ${error === null ? null : h(Failure, { error, onRetry: reload })}
    ${data === null ? html`<div class="card" aria-busy=${error === null}></div>` : h(Fleet, { fleet: data.fleet })}
  `
}

function summaryOf({ gateways, missing, replicas, versions }: FleetState): string {
  const answered = gateways.length - missing.length
  const parts = [
    missing.length === 0
      ? `${many(answered, 'gateway')} ${answered === 1 ? 'answers' : 'answer'}`
      : `${count(answered)} of ${many(gateways.length, 'gateway')} answer`,
    many(replicas.length, 'replica'),
    versions.length === 1 ? `version ${versions[0]}` : `${versions.length} versions`,
  ]
  return parts.join(' · ')
}

function Fleet({ fleet }: { fleet: FleetState }): View {
  return html`
    ${h(Problems, { problems: problemsOf(fleet) })}
    ${h(Figures, { label: 'The fleet in the last minute', figures: figuresOf(fleet) })}
    ${h(FleetGateways, { gateways: fleet.gateways, gone: fleet.gone })}
    ${h(FleetReplicas, { replicas: fleet.replicas })}
    <div class="halves">
      ${h(FleetTop, { top: fleet.top, total: fleet.totals.requests_per_s })}
      ${h(FleetCaches, { gateways: fleet.gateways })}
    </div>
  `
}

function Problems({ problems }: { problems: readonly Problem[] }): View {
  if (problems.length === 0) {
    return html`<p class="well"><span aria-hidden="true">✓</span> All gateways answer, and nothing speaks against any of the replicas.</p>`
  }
  return html`<ul class="problems" aria-label="What is to be looked at">
    ${problems.map(({ tone, text }) => html`<li key=${text} class=${tone}><span aria-hidden="true">⚠ </span>${text}</li>`)}
  </ul>`
}

function figuresOf({ totals, gateways }: FleetState): readonly Figure[] {
  const { server_error_share: errors, requests_per_s: perS } = totals
  const delays = gateways.flatMap(({ load }) => load?.loop_delay_ms ?? [])
  const slowest = delays.length === 0 ? null : Math.max(...delays)
  const connections = (title: string, used: number, max: number, note: string): Figure => ({
    title,
    value: h(Meter, { used, max }),
    note,
    tone: fillTone(used, max),
  })
  return [
    {
      title: 'Requests/s',
      value: rate(perS),
      note: `${count(totals.requests_in_flight)} in flight`,
    },
    {
      title: 'Errors',
      value: perS === 0 ? '–' : percent(errors),
      note: `${percent(totals.client_error_share)} of the client`,
      tone: errors >= ERRORS_BAD ? 'bad' : errors >= ERRORS_WARN ? 'warn' : '',
    },
    { title: 'p99', value: ms(totals.p99_ms), note: `p50 ${ms(totals.p50_ms)}` },
    {
      title: 'Loop delay',
      value: ms(slowest),
      note: 'the longest',
      tone: loopTone(slowest ?? 0),
    },
    { title: 'Memory', value: bytes(totals.rss_bytes), note: 'of all gateways' },
    connections('Clients', totals.client_connections, totals.client_connections_max, 'connections'),
    connections(
      'Replicas',
      totals.upstream_connections,
      totals.upstream_connections_max,
      'connections',
    ),
    totals.db_connections_max === 0
      ? // Gateways without traffic have no way to ask: nothing is known, which is not zero.
        { title: 'Databases', value: DASH, note: 'no replica told' }
      : connections('Databases', totals.db_connections, totals.db_connections_max, 'connections'),
  ]
}
