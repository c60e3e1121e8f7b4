import { Counter, Gauge, Registry } from 'prom-client'
import t from 'tap'
import { expose } from './exposition.ts'

const OPEN = 'application/openmetrics-text'

async function figures() {
  const registry = new Registry()
  const counter = new Counter({
    name: 'c_total',
    help: 'c',
    labelNames: ['a'],
    registers: [registry],
  })
  counter.inc({ a: 'x' }, 3)
  new Gauge({ name: 'g', help: 'g', registers: [registry] }).set(Number.NaN)
  return registry.getMetricsAsJSON()
}

t.test('a scraper gets the format that it prefers', async t => {
  const given = await figures()
  const cases: readonly [string | undefined, boolean][] = [
    [undefined, false],
    ['', false],
    ['*/*', false],
    ['text/plain', false],
    [OPEN, true],
    [`${OPEN};version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4`, true],
    [`${OPEN};q=0.3, text/plain;q=0.7`, false],
    [`${OPEN};q=0`, false],
    [`${OPEN};q=nonsense`, false],
  ]
  for (const [accept, isOpen] of cases) {
    const { contentType, text } = await expose(given, accept)
    t.equal(contentType.startsWith(OPEN), isOpen, String(accept))
    t.equal(text.endsWith('# EOF\n'), isOpen)
  }
})

t.test('samples have the same names in both, and can be shown again and again', async t => {
  const given = await figures()
  for (const accept of [OPEN, 'text/plain', OPEN]) {
    const { text } = await expose(given, accept)
    t.match(text, /^c_total\{a="x"\} 3$/m)
    t.match(text, accept === OPEN ? /^# TYPE c counter$/m : /^# TYPE c_total counter$/m)
    t.match(text, /^g NaN$/m)
  }
})
