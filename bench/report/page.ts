import { renderBars } from './bars.ts'
import { escapeHtml } from './escape.ts'
import {
  errorsOf,
  type Figure,
  figureOf,
  mainFigure,
  type Results,
  ratioOf,
  type ScenarioResult,
} from './results.ts'

const STYLE = `
:root { color-scheme: light dark; --ink: #1d2530; --soft: #667; --line: #d8dde4; --paper: #fff;
  --ours: #0b6bcb; --theirs: #9aa7b5; --whisker: #1d2530; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #9aa5b1; --line: #333c47;
  --paper: #14181d; --ours: #58a6ff; --theirs: #5b6775; --whisker: #e6eaf0; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .2rem; }
p, dd, small { color: var(--soft); } dt { font-weight: 600; } dd { margin: 0 0 .6rem; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .86rem; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } code { font-size: .9em; }`

const FIGURE_TEXT: Partial<Record<Figure, string>> = {
  cpuUs: 'CPU µs per request',
  p99: 'p99 added, ms',
  bytesPerConnection: 'bytes per idle connection',
  p99Ratio: 'p99 beside a flood over p99 without',
}

/** The whole report in one file that asks for nothing else. */
export function renderPage(results: Results): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Doorman bench</title>
<style>${STYLE}</style>
<h1>Doorman beside other proxies</h1>
<p>${escapeHtml(results.startedAt)} · <code>${escapeHtml(results.command)}</code><br>
${escapeHtml(results.machine)} · ${escapeHtml(results.pinning)}<br>
${results.rounds} interleaved rounds of ${results.seconds} s; bars are medians, whiskers the lowest and highest round.
Less is better everywhere.</p>
${renderSummary(results)}
${results.scenarios.map(renderScenario).join('\n')}
<h2>What each proxy does</h2>
<dl>${results.peers
    .map(
      ({ name, version, does }) =>
        `<dt>${escapeHtml(name)} ${escapeHtml(version)}</dt><dd>${escapeHtml(does)}</dd>`,
    )
    .join('\n')}</dl>
</html>
`
}

/** Doorman against the reference, one bar a scenario. */
function renderSummary(results: Results): string {
  const bars = results.scenarios.flatMap(scenario => {
    const ours = scenario.peers.find(({ name }) => name === 'doorman')
    const spread = ours === undefined ? null : ratioOf(scenario, ours, mainFigure(scenario))
    return spread === null ? [] : [{ label: scenario.name, spread, isOurs: true }]
  })
  const reference = results.scenarios[0]?.reference
  if (bars.length === 0 || reference === undefined) return ''
  return `<h2>Doorman × ${escapeHtml(reference)}</h2>
<small>CPU per request (idle: memory per connection; latency: p99 added); the line is ${escapeHtml(reference)} = 1</small>
${renderBars(bars, { digits: 2, mark: 1, title: `Doorman × ${reference}` })}`
}

function renderScenario(scenario: ScenarioResult): string {
  const figure = mainFigure(scenario)
  const bars = scenario.peers.flatMap(peer => {
    const spread = figureOf(peer, figure)
    return spread === null ? [] : [{ label: peer.name, spread, isOurs: peer.name === 'doorman' }]
  })
  return `<h2>${escapeHtml(scenario.name)}: ${escapeHtml(scenario.title)}</h2>
<small>${FIGURE_TEXT[figure]}</small>
${renderBars(bars, { digits: figure === 'p99' ? 2 : figure === 'cpuUs' ? 1 : 0, mark: null, title: `${scenario.name}: ${FIGURE_TEXT[figure]}` })}
<div class="wide"><table><tr>${COLUMNS.map(([name]) => `<th>${name.replace('REF', escapeHtml(scenario.reference))}</th>`).join('')}</tr>
${scenario.peers.map(peer => renderRow(scenario, peer.name)).join('\n')}</table></div>`
}

const COLUMNS: readonly (readonly [string, Figure | null, 'value' | 'ratio', number, number])[] = [
  ['proxy', null, 'value', 1, 0],
  ['CPU µs/req', 'cpuUs', 'value', 1, 1],
  ['CPU × REF', 'cpuUs', 'ratio', 1, 2],
  ['req/s', 'requestsPerS', 'value', 1, 0],
  ['p50 ms', 'p50', 'value', 1, 2],
  ['p99 ms', 'p99', 'value', 1, 2],
  ['p99 × REF', 'p99', 'ratio', 1, 2],
  ['busy', 'busy', 'value', 1, 2],
  ['RSS MB', 'rssBytes', 'value', 2 ** -20, 0],
  ['KB/conn', 'bytesPerConnection', 'value', 2 ** -10, 1],
]

function renderRow(scenario: ScenarioResult, name: string): string {
  const peer = scenario.peers.find(one => one.name === name)
  if (peer === undefined) return ''
  if (peer.failure !== null) {
    const text = `${escapeHtml(name)}: not measured, ${escapeHtml(peer.failure)}`
    return `<tr><td colspan="${COLUMNS.length}">${text}</td></tr>`
  }
  const errors = errorsOf(peer)
  const cells = COLUMNS.map(([, figure, kind, factor, digits]) => {
    if (figure === null)
      return `<td>${escapeHtml(name)}${errors > 0 ? ` (${errors} errors)` : ''}</td>`
    const spread = kind === 'value' ? figureOf(peer, figure) : ratioOf(scenario, peer, figure)
    return `<td>${spread === null ? '–' : (spread.median * factor).toFixed(digits)}</td>`
  })
  return `<tr>${cells.join('')}</tr>`
}
