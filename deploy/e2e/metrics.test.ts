import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { call } from './call.ts'
import { startWorld } from './test-kit.ts'

const FILE = join(import.meta.dirname, '../metrics.md')
const OPEN_METRICS = 'application/openmetrics-text;version=1.0.0'

interface Family {
  readonly name: string
  readonly type: string
  readonly help: string
}

t.test('every metric of both binaries', async t => {
  const world = await startWorld({ apps: 1, gatewayEnv: { GATEWAY_WORKERS: '2' } })
  t.teardown(() => world.close())
  const session = await world.login(world.acme)
  const headers = {
    authorization: `Bearer ${session.accessToken}`,
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  }
  for (const path of ['/api/whoami', '/api/projects', '/api/none']) {
    await world.call(path, { headers })
  }
  const origins = [world.gateway.adminOrigin, world.apps[0]?.adminOrigin as string]
  const scrape = (accept: string) =>
    Promise.all(
      origins.map(async origin => (await call(origin, '/metrics', { headers: { accept } })).text),
    )
  const texts = await scrape('text/plain')

  t.test('is in the table with what to do about it, and nothing else is', async t => {
    const tables = texts.map(text => familiesOf(text).filter(({ name }) => isOurs(name)))
    const [gateway = [], app = []] = tables
    const wanted = `${HEAD}\n## Gateway\n\n${tableOf(gateway)}\n## App\n\n${tableOf(app)}`
    if (process.env.DOORMAN_WRITE_METRICS === '1') writeFileSync(FILE, wanted)
    t.equal(readFileSync(FILE, 'utf8'), wanted)
    t.ok(gateway.length > 45 && app.length > 20, 'they are found')
    for (const { name, help } of tables.flat()) {
      t.ok(help.length > 60, `${name} says what to do when it moves`)
      t.notMatch(help, /["\\|]/, `${name}: what a format would have to escape`)
    }
  })

  t.test(
    'can be read in both formats, with the same names and values of the same kind',
    async t => {
      const open = await scrape(OPEN_METRICS)
      for (const [i, text] of open.entries()) {
        t.equal(text.split('\n').at(-2), '# EOF')
        t.notMatch(text, '_total_total')
        const counters = familiesOf(texts[i] as string).filter(({ type }) => type === 'counter')
        for (const { name } of counters) t.match(name, /_total$/, name)
        const isKnown = new Set(samplesOf(texts[i] as string))
        for (const name of samplesOf(text)) t.ok(isKnown.has(name), name)
        for (const line of text.split('\n').slice(0, -1)) t.match(line, LINE, line)
      }
    },
  )

  t.test('has few series, and none of a tenant beyond the busiest', async t => {
    const deadline = Date.now() + 20_000
    // From the first look on that sees its traffic; and nobody knows when V8 collects.
    const wanted = [
      /^doorman_tenant_requests_total\{tenant="acme"/m,
      /^doorman_gc_seconds_count\{kind="minor"\} [1-9]/m,
    ]
    let gateway = ''
    while (!wanted.every(line => line.test(gateway))) {
      if (Date.now() > deadline) throw new Error(`not within 20 s: ${wanted.join(' and ')}`)
      await world.call('/api/whoami', { headers })
      gateway = (await scrape('text/plain'))[0] as string
    }
    t.match(gateway, /^doorman_added_seconds_count\{route="\w+"\} \d+$/m)
    t.match(gateway, /^doorman_loop_busy_seconds_total [\d.]+$/m)
    t.ok(gateway.split('\n').length < 1200, `${gateway.split('\n').length} lines`)
  })
})

const HEAD = `# Metrics

What both binaries show at \`/metrics\` of their internal port (\`ADMIN_PORT\`), beside Node's and the system's own figures
(\`nodejs_…\`, \`process_…\`). With \`--workers N\` the page is of all workers: counters and histograms are added up, gauges as
their meaning wants. A scraper that asks for OpenMetrics gets exemplars: the trace ids of requests whose trace is kept.
No series grows with the number of tenants, users or paths: \`METRICS_TENANTS_MAX\` tenants have series of their own in each worker.

Made of the running binaries: \`DOORMAN_WRITE_METRICS=1 npx tap deploy/e2e/metrics.test.ts\`.
`

/** A sample, with an exemplar where it has one; or a comment. */
const LINE =
  /^(# (HELP|TYPE) [a-z0-9_]+ .*|# EOF|[a-z0-9_]+(\{[^}]*\})? (NaN|[+-]?Inf|[-\d.e+]+)( # \{trace_id="[0-9a-f]{32}"\} [-\d.e]+ [\d.]+)?)$/

function isOurs(name: string): boolean {
  return name.startsWith('doorman_')
}

function familiesOf(text: string): Family[] {
  const types = new Map(
    [...text.matchAll(/^# TYPE (\S+) (\w+)$/gm)].map(([, name, type]) => [name, type]),
  )
  return [...text.matchAll(/^# HELP (\S+) (.*)$/gm)]
    .map(([, name = '', help = '']) => ({ name, help, type: types.get(name) ?? '' }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

function samplesOf(text: string): string[] {
  return [...text.matchAll(/^([a-z0-9_]+)[ {]/gm)].map(([, name]) => name as string)
}

function tableOf(families: readonly Family[]): string {
  const rows = families.map(({ name, type, help }) => `| \`${name}\` | ${type} | ${help} |\n`)
  return `| metric | type | what it says, and what to do when it moves |\n|---|---|---|\n${rows.join('')}`
}
