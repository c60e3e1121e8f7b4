import t from 'tap'
import type { ListedTenant } from '../registry/tenant-list.ts'
import { overFleet } from './over-fleet.ts'
import { textReport } from './report.ts'

const tenants = ['a', 'b', 'c', 'd'].map(
  key => ({ key, db: { host: `${key}.example`, port: null } }) as unknown as ListedTenant,
)

t.test(
  'at a set rate one start follows another no sooner, however many slots are free',
  async t => {
    const starts: number[] = []
    const left = await overFleet(tenants, { atOnce: 8, perHost: 8, intervalMs: 40 }, async () => {
      starts.push(performance.now())
    })
    t.strictSame(left, [])
    t.equal(starts.length, 4)
    for (const [i, at] of starts.slice(1).entries()) {
      // A timer may be a millisecond early.
      t.ok(at - (starts[i] as number) >= 38, `${at - (starts[i] as number)} ms`)
    }
  },
)

t.test('who stops it waits for no interval, and learns what was not begun', async t => {
  const stop = new AbortController()
  const begun: string[] = []
  const pace = { atOnce: 8, perHost: 8, intervalMs: 3_600_000, signal: stop.signal }
  const left = await overFleet(tenants, pace, async ({ key }) => {
    begun.push(key)
    setImmediate(() => stop.abort())
  })
  t.strictSame(begun, ['a'])
  t.strictSame(
    left.map(({ key }) => key),
    ['b', 'c', 'd'],
  )
})

t.test('a terminal has a bar and lines of what failed; a log has a line of each', async t => {
  const outcomes = (['ok', 'failed'] as const).map((result, i) => ({
    ...{ tenant: tenants[i] as ListedTenant, result, before: null, after: '0001', applied: 1 },
    ...{ attempts: 1, durationMs: 5, phases: null, note: null },
  }))
  const told = (isTerminal: boolean) => {
    const out: string[] = []
    const drawn: string[] = []
    const bar = isTerminal ? (text: string) => void drawn.push(text) : null
    const report = textReport({ out: text => void out.push(text), bar })
    report.start(2, '0001')
    for (const outcome of outcomes) report.done(outcome)
    report.end({ ok: 1, failed: 1, skipped: 0, left: 0, stoppedBy: null })
    return { out: out.join(''), drawn: drawn.join('') }
  }
  const log = told(false)
  t.match(log.out, /^ok +a .*\nfailed +b .*\n2 tenant\(s\), 1 failed\n$/)
  t.equal(log.drawn, '')
  const terminal = told(true)
  t.match(terminal.out, /^failed +b .*\n2 tenant\(s\), 1 failed\n$/)
  t.match(terminal.drawn, /\[#{15}\.{15}\] 1\/2/)
  t.match(terminal.drawn, /2\/2 {2}1 failed/)
})
