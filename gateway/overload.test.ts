import t from 'tap'
import type { TenantId } from '../registry/tenant.ts'
import { nextShare, Overload } from './overload.ts'

const weightOf = () => 1
const noisy = 'noisy' as TenantId
const quiet = 'quiet' as TenantId
/** 95 requests of one tenant and 5 of another. */
const requests = ({ fair }: Overload) => {
  for (let i = 0; i < 100; i++) {
    fair.pass()
    fair.charge(i % 20 === 0 ? quiet : noisy)
  }
}

const looks = (overload: Overload, ...lateMs: number[]) => {
  for (const ms of lateMs) overload.look(ms)
}

t.test('a loop that is late at every look sheds a part that grows of who sends most', async t => {
  let dice = 0
  const overload = new Overload({
    ...{ loopDelayMs: 100, inFlightMax: 1000, weightOf },
    random: () => dice,
  })
  t.notOk(overload.isCounting, 'nobody is counted while all is well')
  looks(overload, 150)
  t.ok(overload.isCounting, 'from the first late look on')
  requests(overload)
  looks(overload, 150, 150, 150)
  t.equal(overload.share, 0, 'no window is over yet')
  looks(overload, 120)
  t.equal(overload.delayMs, 120)
  const first = overload.share
  t.ok(first > 0 && first < 0.2)
  t.equal(overload.shedsTenant(noisy), true)
  t.equal(overload.shedsTenant(quiet), false, 'who sends little is served')
  t.equal(overload.shedsTenant('new' as TenantId), false)
  t.equal(overload.shedsStranger(), false)
  t.equal(overload.sheds(0), null, 'and nobody is shed whoever he is')
  dice = 0.5
  t.equal(overload.shedsTenant(noisy), false, 'a part of it is served')
  t.strictSame(
    [overload.shedCount('loop', 'tenant'), overload.shedCount('loop', 'anybody')],
    [1, 0],
    'each that was shed is counted',
  )
})

t.test(
  'where shares do not help it sheds at random, all never, and that ends first again',
  async t => {
    let dice = 0
    const overload = new Overload({
      ...{ loopDelayMs: 100, inFlightMax: 1000, weightOf },
      random: () => dice,
    })
    const bad = () => {
      requests(overload)
      looks(overload, 5000, 5000, 5000, 5000, 5000)
    }
    while (overload.share < 0.9) {
      t.equal(overload.sheds(0), null)
      bad()
    }
    t.equal(overload.sheds(0), null, 'not before the shares are at their end')
    for (let i = 0; i < 100; i++) bad()
    t.ok(Math.abs(overload.share - 0.95) < 1e-9)
    t.equal(overload.sheds(0), 'loop')
    t.equal(overload.shedCount('loop', 'anybody'), 1)
    dice = 0.51
    t.equal(overload.sheds(0), null)
    t.equal(overload.shedsTenant(noisy), true)
    dice = 0
    while (overload.sheds(0) !== null) looks(overload, 0, 0, 0, 0, 0)
    t.ok(overload.share >= 0.9, 'shares are shed still')
    while (overload.share > 0) looks(overload, 0, 0, 0, 0, 0)
    t.notOk(overload.isCounting)
    t.equal(overload.fair.size, 0, 'nobody is remembered then')
  },
)

t.test('one long pause sheds nothing, however long', async t => {
  const overload = new Overload({
    ...{ loopDelayMs: 100, inFlightMax: 1000, weightOf },
    random: () => 0,
  })
  for (let i = 0; i < 50; i++) {
    looks(overload, 3000, 0, 1, 2500, 0)
    requests(overload)
  }
  t.equal(overload.sheds(0), null)
  t.equal(overload.shedsTenant(noisy), false)
  t.equal(overload.shedsStranger(), false)
  t.equal(overload.shedCount('loop', 'tenant') + overload.shedCount('loop', 'anybody'), 0)
  looks(overload, 0, 0, 0, 0, 0)
  t.notOk(overload.isCounting)
})

t.test('the share holds between half the limit and the limit, and falls slowly below', async t => {
  t.equal(nextShare(0.5, 80, 100, 1), 0.5)
  t.equal(nextShare(0.5, 50, 100, 1), 0.5)
  t.ok(nextShare(0.5, 49, 100, 1) > 0.4, 'a window takes off less than one adds')
  t.ok(nextShare(0.5, 101, 100, 1) - 0.5 > 0.5 - nextShare(0.5, 0, 100, 1))
  t.equal(nextShare(0.01, 0, 100, 1), 0, 'down to nothing')
  t.equal(nextShare(0.5, 9999, 100, 0.6), 0.6, 'and not above its bound')
  t.equal(nextShare(0.5, 9999, 0, 1), 0, '0 turns it off')
})

t.test(
  'above the cap on requests in flight every new one is shed, and each is counted',
  async t => {
    const overload = new Overload({ loopDelayMs: 100, inFlightMax: 2, weightOf })
    t.equal(overload.sheds(1), null)
    t.equal(overload.sheds(2), 'in-flight')
    t.equal(overload.sheds(3), 'in-flight')
    t.equal(overload.shedCount('in-flight', 'anybody'), 2)
    t.equal(overload.isLineDue(0), true)
    t.equal(overload.isLineDue(999), false, 'one log line a second')
    t.equal(overload.isLineDue(1000), true)
  },
)

t.test('who has few requests in flight finds room until the last place is taken', async t => {
  const max = 9000
  const overload = new Overload({ loopDelayMs: 100, inFlightMax: max, weightOf })
  const fill = (tenants: number, others = 0) => {
    const own = new Array<number>(tenants).fill(0)
    let inFlight = others
    for (let turn = 0; turn < 2 * max; turn++) {
      const at = turn % tenants
      if (overload.sheds(inFlight) !== null) break
      if (overload.isCrowded && overload.hasNoRoom(own[at] as number, inFlight, 'tenant')) continue
      own[at] = (own[at] as number) + 1
      inFlight++
    }
    return { own, free: max - inFlight }
  }
  const alone = fill(1)
  t.equal(alone.own[0], 8000, 'one alone fills eight ninths')
  t.notOk(overload.hasNoRoom(alone.free, max - alone.free, 'tenant'), 'of the rest another one can')
  const many = fill(20)
  t.ok(many.free > 50, 'so do twenty that want all there is')
  t.ok(Math.max(...many.own) - Math.min(...many.own) <= 1, 'evenly')
  t.notOk(overload.hasNoRoom(10, max - many.free, 'tenant'))
  t.notOk(overload.hasNoRoom(7, max - 1, 'tenant'), 'the last place but one')
  t.equal(overload.sheds(max), 'in-flight', 'and none beyond the last')
})

t.test('the loop’s own lateness is what is measured', async t => {
  const overload = new Overload({
    ...{ loopDelayMs: 20, inFlightMax: 10, weightOf },
    random: () => 0,
  })
  overload.start()
  t.teardown(() => overload.stop())
  const deadline = performance.now() + 10_000
  const block = () => {
    const until = performance.now() + 120
    while (performance.now() < until);
    requests(overload)
    if (overload.share === 0 && performance.now() < deadline) setImmediate(block)
  }
  block()
  while (overload.share === 0 && performance.now() < deadline) {
    await new Promise(resolve => setImmediate(resolve))
  }
  t.ok(overload.shedsTenant(noisy))
  while (overload.share > 0 && performance.now() < deadline) {
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  t.notOk(overload.shedsTenant(noisy), 'and over when the loop is free again')
})
