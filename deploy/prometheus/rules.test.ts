import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { ERRORS } from '../../registry/lib/errors.ts'
import { anchorsOf, ROOT, readSource, sourceFiles } from '../checks/sources.ts'
import { call } from '../e2e/call.ts'
import { startWorld } from '../e2e/test-kit.ts'
import { DASHBOARDS } from '../grafana/dashboards.ts'
import { render } from '../grafana/render.ts'
import { makeCertificateAuthority } from '../local/certificates.ts'
import { run } from '../local/run.ts'
import { readExposition, readQuery, type Shown } from './promql.ts'

interface Rule {
  readonly record?: string
  readonly alert?: string
  readonly expr: string
  readonly for?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}

const RULES = 'deploy/prometheus/rules.yml'
const { groups } = parse(readSource(RULES)) as { groups: { name: string; rules: Rule[] }[] }
const rules = groups.flatMap(group => group.rules)
const alerts = rules.filter(rule => rule.alert !== undefined)
/** Queries by where they stand. */
const queries = new Map<string, string>([
  ...rules.map(rule => [`${rule.record ?? rule.alert}`, rule.expr] as const),
  ...DASHBOARDS.flatMap(({ title, rows }) =>
    rows.flatMap(({ panels }) =>
      panels.flatMap(panel =>
        Object.entries(panel.queries).map(
          ([legend, expr]) => [`${title} / ${panel.title} / ${legend}`, expr] as const,
        ),
      ),
    ),
  ),
  ...autoscalerQueries(),
])
/** What declares metrics. */
const declaring = sourceFiles()
  .filter(file => /^(gateway|app)\//.test(file) && !file.endsWith('.test.ts'))
  .map(readSource)
/** Where the metrics of requests have their status classes from. */
const statuses = readSource('gateway/tally-cell.ts')
/** Labels that a target has in Prometheus, whatever it shows. */
const TARGET_LABELS = ['instance', 'job', 'namespace', 'pod']

t.test('every query reads metrics and labels that gateway or app really show', async t => {
  const shown = await readLive()
  for (const { record, expr } of rules) {
    if (record === undefined) continue
    const labels = new Map(
      readQuery(expr)
        .selectors.flatMap(s => s.groupedBy)
        .map(label => [label, new Set<string>()]),
    )
    shown.set(record, { type: 'gauge', labels })
  }
  t.ok(queries.size > 100, 'queries are found')
  t.equal(autoscalerQueries().length, 2)
  for (const [place, expr] of queries) {
    const { problem, selectors } = readQuery(expr)
    t.equal(problem, null, `${place}: ${expr}`)
    t.ok(selectors.length > 0, `${place} reads something`)
    for (const { metric, matchers, groupedBy, functions } of selectors) {
      if (metric === 'up') continue
      const { type, labels } = shown.get(metric) ?? { type: '', labels: new Map() }
      if (!t.not(type, '', `${place}: ${metric} is shown`)) continue
      for (const label of [...groupedBy, ...matchers.map(matcher => matcher.label)]) {
        const isThere =
          labels.has(label) || TARGET_LABELS.includes(label) || isDeclared(metric, label)
        t.ok(isThere, `${place}: ${metric} has the label ${label}`)
      }
      for (const { label, op, value } of matchers) {
        if (op !== '=' || TARGET_LABELS.includes(label)) continue
        const isThere =
          label === 'code'
            ? value in ERRORS
            : labels.get(label)?.has(value) || isDeclared(metric, value)
        t.ok(isThere, `${place}: ${metric} has a ${label} ${value}`)
      }
      const isCounted = functions.some(name => name === 'rate' || name === 'increase')
      const isCount = type === 'counter' || /_(bucket|sum|count)$/.test(metric)
      t.equal(isCounted, isCount, `${place}: counters, and nothing else, are read by their rate`)
      if (functions.includes('histogram_quantile')) t.match(metric, /_bucket$/, place)
    }
  }
  const used = new Set(
    [...queries.values()].flatMap(expr => readQuery(expr).selectors.map(s => s.metric)),
  )
  for (const name of shown.keys()) {
    if (!name.startsWith('doorman_')) continue
    const parts = [
      name,
      name.replace(/_(bucket|sum|count)$/, '_bucket'),
      name.replace(/_(bucket|sum)$/, '_count'),
      name.replace(/_(bucket|count)$/, '_sum'),
    ]
    t.ok(
      parts.some(part => used.has(part)),
      `${name} is on a dashboard or in a rule`,
    )
  }
})

t.test(
  'every alert says how bad it is, what it is, and has its heading in the runbook',
  async t => {
    const anchors = anchorsOf('deploy/runbook.md')
    t.ok(alerts.length > 25, 'alerts are found')
    for (const { alert = '', labels, annotations } of alerts) {
      t.match(labels?.severity, /^(page|ticket)$/, alert)
      t.match(annotations?.summary, /\S/, alert)
      t.equal(annotations?.runbook, `deploy/runbook.md#${alert.toLowerCase()}`)
      t.ok(anchors.includes(alert.toLowerCase()), alert)
    }
    t.equal(new Set(alerts.map(({ alert }) => alert)).size, alerts.length, 'no name twice')
  },
)

t.test(
  'the runbook has a section for each alert, in the order of the rules, and no other',
  async t => {
    const sections = readSource('deploy/runbook.md')
      .split(/^## /m)
      .filter(section => section.startsWith('Doorman'))
    t.strictSame(
      sections.map(section => section.split('\n')[0]),
      alerts.map(({ alert }) => alert),
    )
    for (const [i, { alert, labels, for: wait }] of alerts.entries()) {
      const [, , facts = '', , ...advice] = (sections[i] ?? '').trimEnd().split('\n')
      t.equal(
        facts,
        `${labels?.severity}${wait === undefined ? '' : ` · after ${wait}`}`,
        String(alert),
      )
      const bold = advice.map(line => /^- \*\*(.+?):\*\* \S/.exec(line)?.[1])
      t.strictSame(bold, ['Means', 'Check first', 'Mend'], `${alert}: what to do`)
    }
  },
)

t.test('the dashboards of Grafana are those of the table', async t => {
  for (const dashboard of DASHBOARDS) {
    const file = `deploy/grafana/dashboards/${dashboard.uid}.json`
    t.equal(readSource(file), render(dashboard), `${file}: node deploy/grafana/main.ts`)
    const titles = dashboard.rows.flatMap(({ panels }) => panels.map(({ title }) => title))
    t.equal(new Set(titles).size, titles.length, 'no panel twice')
  }
})

const promtool = await run('promtool', ['--version'], 10_000).catch(() => null)
const skip = promtool === null ? 'no promtool on this machine' : false
t.test('Prometheus itself takes the rules, and alerts that must fire do', { skip }, async t => {
  const checked = await run('promtool', ['check', 'rules', join(ROOT, RULES)], 30_000)
  t.equal(checked.code, 0, checked.output)
  const units = join(ROOT, 'deploy/prometheus/rules.unit.yml')
  const tested = await run('promtool', ['test', 'rules', units], 60_000)
  t.equal(tested.code, 0, tested.output)
})

/** What both binaries show after some traffic, with workers, TLS and a journal, for each adds metrics. */
async function readLive(): Promise<Map<string, Shown>> {
  const folder = mkdtempSync(join(tmpdir(), 'doorman-metrics-'))
  const world = await startWorld({ apps: 1 })
  try {
    const { cert, key } = makeCertificateAuthority().issue({ names: ['127.0.0.1'] })
    writeFileSync(join(folder, 'cert.pem'), cert)
    writeFileSync(join(folder, 'key.pem'), key, { mode: 0o600 })
    const secured = await world.startGateway({
      GATEWAY_WORKERS: '2',
      TLS_CERT_FILE: join(folder, 'cert.pem'),
      TLS_KEY_FILE: join(folder, 'key.pem'),
      METERING_JOURNAL_DIR: folder,
    })
    const { accessToken: token } = await world.login(world.acme)
    await world.call('/api/whoami', { token })
    await world.call('/api/whoami', { token: 'none' })
    await world.call('/nothing')
    await world.call('/api/projects/none', { token })
    const shown = new Map<string, Shown>()
    for (const binary of [world.gateway, secured, ...world.apps]) {
      readExposition((await call(binary.adminOrigin, '/metrics')).text, shown)
    }
    return shown
  } finally {
    await world.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

/**
 * Where nothing has happened yet a metric shows no label and no value of one: then the file that declares it must
 * have the word.
 */
function isDeclared(metric: string, word: string): boolean {
  const name = metric.replace(/_(bucket|sum|count)$/, '')
  return declaring.some(
    text =>
      text.includes(`'${name}'`) &&
      (text.includes(`'${word}'`) ||
        (text.includes('tally-cell.ts') && statuses.includes(`'${word}'`))),
  )
}

/** The custom metrics that the autoscalers ask for. */
function autoscalerQueries(): [string, string][] {
  const text = readSource('deploy/kubernetes/custom-metrics/kustomization.yaml')
  return [...text.matchAll(/metric: \{ name: (\w+) \}/g)].map(([, name = '']) => [
    `autoscaler of ${name}`,
    name,
  ])
}
