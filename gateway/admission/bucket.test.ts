import fc from 'fast-check'
import t from 'tap'
import { makeBucket, secondsToToken, takeToken } from './bucket.ts'

t.test(
  'property: over any time no more pass than burst and rate allow, and as many do',
  async t => {
    const steps = fc.array(fc.double({ min: -500, max: 3000, noNaN: true }), { maxLength: 300 })
    const rates = fc.double({ min: 0.01, max: 500, noNaN: true })
    const property = fc.property(
      ...([rates, fc.integer({ min: 1, max: 50 }), steps] as const),
      (perS, burst, waits) => {
        const perMs = perS / 1000
        const bucket = makeBucket(burst, 0)
        let nowMs = 0
        let latestMs = 0
        let passed = 0
        for (const wait of waits) {
          // Also back: requests overtake each other, and what one clock says another may not.
          nowMs += wait
          latestMs = Math.max(latestMs, nowMs)
          if (takeToken(bucket, burst, perMs, nowMs)) passed++
          else if (secondsToToken(bucket, perMs) < 1) return false
        }
        return passed <= burst + latestMs * perMs + 1e-6
      },
    )
    fc.assert(property)
    const bucket = makeBucket(10, 0)
    let passed = 0
    for (let ms = 0; ms < 60_000; ms++) if (takeToken(bucket, 10, 0.05, ms)) passed++
    t.ok(Math.abs(passed - (10 + 60 * 50)) <= 1, `${passed} of 3010`)
  },
)

t.test('a clock that leaps ahead brings a burst and no more', async t => {
  const bucket = makeBucket(3, 0)
  const drain = (nowMs: number) => {
    let passed = 0
    while (takeToken(bucket, 3, 0.001, nowMs)) passed++
    return passed
  }
  t.equal(drain(0), 3)
  t.equal(drain(1e15), 3)
  t.equal(drain(0), 0, 'and one that goes back none')
  t.equal(secondsToToken(bucket, 0.001), 1)
  t.equal(secondsToToken(bucket, 0.0001), 10)
})
