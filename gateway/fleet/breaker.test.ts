import t from 'tap'
import { closeBreaker, makeBreaker, noteTenantFault } from './breaker.ts'

t.test(
  'three faults open it, one more after the time opens it for longer, a success closes it',
  async t => {
    const breaker = makeBreaker()
    t.notOk(noteTenantFault(breaker, 1000))
    t.notOk(noteTenantFault(breaker, 1000))
    t.ok(noteTenantFault(breaker, 1000))
    t.equal(breaker.openUntilMs, 2000)
    t.notOk(noteTenantFault(breaker, 1500), 'requests under way when it opened')
    t.ok(noteTenantFault(breaker, 2000), 'the probe failed')
    t.equal(breaker.openUntilMs, 4000)
    let now = 4000
    for (let i = 0; i < 20; i++) {
      noteTenantFault(breaker, now)
      t.ok(breaker.openUntilMs - now <= 30_000, 'never longer than that')
      now = breaker.openUntilMs
    }
    closeBreaker(breaker)
    t.notOk(noteTenantFault(breaker, now))
    t.equal(breaker.openUntilMs, 0)
  },
)
