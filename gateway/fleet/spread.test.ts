import t from 'tap'
import { moveSpread } from './spread.ts'

const LIMITS = { growAfterMs: 3000, shrinkAfterMs: 60_000, extraMax: 2 }

t.test(
  'a tenant gets another replica after seconds of overload, and gives it back much later',
  async t => {
    const state = { extra: 0, overSinceMs: 0, lastOverMs: 0 }
    t.notOk(moveSpread(state, true, 10_000, LIMITS))
    t.notOk(moveSpread(state, true, 12_999, LIMITS))
    t.ok(moveSpread(state, true, 13_000, LIMITS))
    t.equal(state.extra, 1)
    t.notOk(moveSpread(state, true, 13_001, LIMITS), 'the next one takes as long again')
    t.ok(moveSpread(state, true, 16_001, LIMITS))
    t.notOk(moveSpread(state, true, 30_000, LIMITS), 'no more than the bound')
    t.equal(state.extra, 2)
    t.notOk(moveSpread(state, false, 89_999, LIMITS))
    t.ok(moveSpread(state, false, 90_000, LIMITS))
    t.notOk(moveSpread(state, false, 149_999, LIMITS), 'one at a time')
    t.ok(moveSpread(state, false, 150_000, LIMITS))
    t.equal(state.extra, 0)
  },
)

t.test('a moment of relief starts the count anew', async t => {
  const state = { extra: 0, overSinceMs: 0, lastOverMs: 0 }
  for (let now = 1000; now < 60_000; now += 2000) {
    t.notOk(moveSpread(state, true, now, LIMITS))
    t.notOk(moveSpread(state, false, now + 1000, LIMITS))
  }
  t.equal(state.extra, 0)
})
