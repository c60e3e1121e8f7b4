import type { Spread } from '../lib/stats.ts'
import {
  errorsOf,
  figureOf,
  mainFigure,
  type PeerResult,
  ratioOf,
  type ScenarioResult,
} from './results.ts'

/** One scenario as text for the terminal. */
export function renderTable(scenario: ScenarioResult): string {
  const isIdle = scenario.kind === 'idle'
  const isOpen = scenario.kind === 'open'
  const head = [
    'proxy',
    isIdle ? 'KB/conn (min-max)' : 'CPU µs/req (min-max)',
    `× ${scenario.reference}`,
    'req/s',
    isOpen ? 'p50 added ms' : 'p50 ms',
    isOpen ? 'p99 added ms' : 'p99 ms',
    isOpen ? `p99 × ${scenario.reference}` : 'busy',
    'RSS MB',
    'errors',
  ]
  const rows = scenario.peers.map(peer =>
    peer.failure === null ? renderRow(scenario, peer) : failed(peer),
  )
  const table = `\n${scenario.name}: ${scenario.title}\n${align([head, ...rows])}`
  return [table, ...scenario.peers.flatMap(floodLine)].join('\n')
}

/** In the slow-clients scenario `added` is over the same proxy without the flood. */
function floodLine(peer: PeerResult): string[] {
  const ratio = figureOf(peer, 'p99Ratio')
  if (ratio === null) return []
  const calm = withSpread(figureOf(peer, 'calmP99Ratio'), 1, 2)
  const disturbed = percent(figureOf(peer, 'disturbed'))
  return [
    `  ${peer.name}: beside the flood p99 × ${calm} of undisturbed requests (${disturbed} are not), × ${withSpread(ratio, 1, 2)} of all`,
  ]
}

function renderRow(scenario: ScenarioResult, peer: PeerResult): string[] {
  const isOpen = scenario.kind === 'open'
  const figure = scenario.kind === 'idle' ? 'bytesPerConnection' : 'cpuUs'
  const errors = errorsOf(peer)
  const firstError = peer.samples.find(sample => sample.firstError !== null)?.firstError
  return [
    peer.name,
    scenario.kind === 'idle'
      ? withSpread(figureOf(peer, figure), 1 / 1024)
      : withSpread(figureOf(peer, figure), 1),
    withSpread(ratioOf(scenario, peer, figure), 1, 2),
    median(figureOf(peer, 'requestsPerS'), 1, 0),
    median(figureOf(peer, 'p50'), 1, 2),
    median(figureOf(peer, 'p99'), 1, 2),
    isOpen
      ? withSpread(ratioOf(scenario, peer, mainFigure(scenario)), 1, 2)
      : percent(figureOf(peer, 'busy')),
    median(figureOf(peer, 'rssBytes'), 2 ** -20, 0),
    errors === 0 ? '0' : `${errors} (${firstError})`,
  ]
}

function failed(peer: PeerResult): string[] {
  return [peer.name, `not measured: ${peer.failure}`]
}

function withSpread(spread: Spread | null, factor: number, digits = 1): string {
  if (spread === null) return '-'
  const [median, min, max] = [spread.median, spread.min, spread.max].map(v =>
    (v * factor).toFixed(digits),
  )
  return `${median} (${min}-${max})`
}

function median(spread: Spread | null, factor: number, digits: number): string {
  return spread === null ? '-' : (spread.median * factor).toFixed(digits)
}

function percent(spread: Spread | null): string {
  return spread === null ? '-' : `${Math.round(spread.median * 100)} %`
}

/** Names to the left, figures to the right; a row with one cell more than its name runs free. */
function align(rows: readonly (readonly string[])[]): string {
  const full = rows.filter(row => row.length > 2)
  const widths = (full[0] ?? []).map((_, column) =>
    Math.max(...full.map(row => (row[column] ?? '').length)),
  )
  return rows
    .map(row =>
      row.length <= 2
        ? `  ${row[0]?.padEnd(widths[0] ?? 0)}  ${row[1] ?? ''}`
        : `  ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  ')}`,
    )
    .join('\n')
}
