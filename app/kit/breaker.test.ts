import t from 'tap'
import { Breaker } from './breaker.ts'

const make = (random = 1) =>
  new Breaker({ failuresMax: 3, backoffMs: 1000, backoffMaxMs: 4000, probeMs: 2000 }, () => random)

/** Fails until it is open. */
function trip(breaker: Breaker, nowMs: number) {
  for (let i = 0; i < 3; i += 1) breaker.fail(breaker.begin(nowMs), nowMs)
}

t.test('only failures in a row open it', async t => {
  const breaker = make()
  for (let round = 0; round < 5; round += 1) {
    t.notOk(breaker.fail(breaker.begin(0), 0))
    t.notOk(breaker.fail(breaker.begin(0), 0))
    breaker.succeed()
    t.ok(breaker.mayTry(0))
  }
  trip(breaker, 0)
  t.notOk(breaker.mayTry(999))
  t.notOk(breaker.isClosed)
})

t.test('half open, one may try; its failure doubles the back-off up to the bound', async t => {
  const breaker = make()
  trip(breaker, 0)
  let now = 0
  for (const backoffMs of [1000, 2000, 4000, 4000]) {
    t.notOk(breaker.mayTry(now + backoffMs - 1))
    t.equal(breaker.retryAfterS(now), backoffMs / 1000)
    now += backoffMs
    t.ok(breaker.mayTry(now))
    const probe = breaker.begin(now)
    t.notOk(breaker.mayTry(now + 1999), 'one probe')
    t.equal(breaker.retryAfterS(now + 500), 2)
    t.ok(breaker.fail(probe, now))
  }
  breaker.forget(breaker.begin(now + 4000))
  t.ok(breaker.mayTry(now + 4000), 'a probe without a verdict leaves room for another')
  breaker.begin(now + 4000)
  t.ok(breaker.mayTry(now + 6000), 'and so does one that lasts too long')
  breaker.succeed()
  t.ok(breaker.mayTry(now))
  trip(breaker, now)
  t.equal(breaker.retryAfterS(now), 1, 'from the first back-off again')
})

t.test('an attempt of before the opening neither prolongs it nor ends a probe', async t => {
  const breaker = make()
  const slow = [1, 2, 3, 4, 5].map(() => breaker.begin(0))
  const verdicts = slow.map((attempt, i) => breaker.fail(attempt, i))
  t.strictSame(verdicts, [false, false, true, false, false])
  t.ok(breaker.mayTry(1002), 'open since the third failure, once')
  const late = { generation: 0 }
  const probe = breaker.begin(1002)
  t.notOk(breaker.fail(late, 1002))
  t.notOk(breaker.mayTry(1002), 'the probe runs on')
  breaker.forget(late)
  t.notOk(breaker.mayTry(1002))
  t.ok(breaker.fail(probe, 1002))
})

t.test('jitter takes up to half of the back-off away', async t => {
  const breaker = make(0)
  trip(breaker, 0)
  t.notOk(breaker.mayTry(499))
  t.ok(breaker.mayTry(500))
})
