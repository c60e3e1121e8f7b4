import fc from 'fast-check'
import t from 'tap'
import { DayClock } from './day-clock.ts'

const START_MS = Date.UTC(2026, 2, 1, 12)

function setUp() {
  const at = { trueMs: START_MS, aheadMs: 0, monotonicMs: 0 }
  const clock = new DayClock({
    now: () => at.trueMs + at.aheadMs,
    monotonic: () => at.monotonicMs,
  })
  return {
    at,
    clock,
    pass(ms: number) {
      at.trueMs += ms
      at.monotonicMs += ms
    },
  }
}

t.test('a step forward is believed after a minute, one back at once', async t => {
  const { at, clock, pass } = setUp()
  t.equal(clock.now(), START_MS)
  at.aheadMs = 3_600_000
  t.equal(clock.now(), START_MS)
  pass(59_999)
  t.equal(clock.now(), START_MS + 59_999)
  pass(1)
  t.equal(clock.now(), at.trueMs + 3_600_000)
  at.aheadMs = 0
  t.equal(clock.now(), at.trueMs)
  at.aheadMs = -5000
  t.equal(clock.now(), at.trueMs - 5000)
})

t.test('what is slewed, or drifts, is followed', async t => {
  const { at, clock, pass } = setUp()
  for (let i = 0; i < 1000; i++) {
    pass(300)
    at.aheadMs += 1
    t.equal(clock.now(), at.trueMs + at.aheadMs)
  }
})

t.test('a machine that was suspended is of its day again after a minute', async t => {
  const { at, clock, pass } = setUp()
  clock.now()
  // The monotonic clock has stood still.
  at.trueMs += 16 * 3_600_000
  t.ok(clock.now() < at.trueMs)
  pass(60_000)
  t.equal(clock.now(), at.trueMs)
})

t.test('property: it is never ahead for longer than the wall clock was', async t => {
  const step = fc.record({
    ms: fc.integer({ min: 1, max: 100_000 }),
    aheadMs: fc.option(fc.integer({ min: 0, max: 10 ** 9 }), { nil: null }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), steps => {
      const { at, clock, pass } = setUp()
      for (const { ms, aheadMs } of steps) {
        if (aheadMs !== null) at.aheadMs = aheadMs
        const now = clock.now()
        t.ok(now <= at.trueMs + at.aheadMs, 'nor ahead of the wall clock at all')
        if (at.aheadMs === 0) t.ok(now <= at.trueMs)
        pass(ms)
      }
    }),
    { numRuns: 100 },
  )
})
