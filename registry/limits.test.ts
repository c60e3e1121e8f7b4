import t from 'tap'
import { effectiveLimits, type LimitLayer } from './limits.ts'

const NONE = Number.POSITIVE_INFINITY

function resolve(...layers: LimitLayer[]) {
  const wrong: string[] = []
  return { limits: effectiveLimits(layers, name => wrong.push(name)), wrong }
}

t.test(
  'the tenant’s word goes before its plan’s, and the plan’s before the deployment’s',
  async t => {
    const own = { requests_per_s: 5, sockets: null }
    const plan = { requests_per_s: 50, burst: 500, sockets: 3, in_flight: 7, weight: 4 }
    const { limits, wrong } = resolve(own, plan, { in_flight: 1, body_bytes: 10 })
    t.match(limits, {
      requestsPerS: 5,
      socketsMax: NONE,
      inFlightMax: 7,
      bodyBytesMax: 10,
      weight: 4,
    })
    t.equal(limits.burst, 5, 'a burst belongs to the rate that it was given with')
    t.equal(limits.requestsPerMonth, NONE)
    t.strictSame(wrong, [])
    t.equal(resolve({ burst: 9 }, plan).limits.burst, 9)
    t.equal(resolve({}, plan).limits.burst, 500)
    t.equal(resolve({ requests_per_s: 0.5 }).limits.burst, 1)
  },
)

t.test('a value that is none counts as not said, and is told', async t => {
  const bad = [-1, 0, Number.NaN, '5', {}, [], true, 1e300]
  for (const value of bad) {
    const { limits, wrong } = resolve({ requests_per_s: value }, { requests_per_s: 50 })
    t.equal(limits.requestsPerS, 50, `${JSON.stringify(value)} does not free it of its plan`)
    t.strictSame(wrong, ['requests_per_s'])
  }
  t.match(resolve({ in_flight: 1.5, quota: 'no' }).wrong, ['in_flight', 'quota'])
  const polluted = JSON.parse('{"__proto__": {"requests_per_s": 1}, "seats": 4}')
  t.match(resolve(polluted), { limits: { requestsPerS: NONE }, wrong: [] })
})

t.test('a quota is hard unless it is said to be soft', async t => {
  t.equal(resolve({ requests_per_month: 1 }).limits.isQuotaHard, true)
  t.equal(resolve({}, { quota: 'soft' }).limits.isQuotaHard, false)
  t.equal(resolve({ quota: 'hard' }, { quota: 'soft' }).limits.isQuotaHard, true)
})
