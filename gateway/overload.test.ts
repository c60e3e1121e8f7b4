import t from 'tap'
import { nextShare, Overload } from './overload.ts'

const looks = (overload: Overload, ...lateMs: number[]) => {
  for (const ms of lateMs) overload.look(ms)
}

t.test('a loop that is late at every look sheds a share that grows; all is never shed', async t => {
  let dice = 0
  const overload = new Overload({ loopDelayMs: 100, inFlightMax: 1000, random: () => dice })
  looks(overload, 150, 150, 150, 150)
  t.equal(overload.share, 0, 'no window is over yet')
  looks(overload, 120)
  t.equal(overload.delayMs, 120)
  const first = overload.share
  t.ok(first > 0 && first < 0.2)
  t.equal(overload.sheds(0), 'loop')
  dice = first
  t.equal(overload.sheds(0), null, 'the others are served')
  for (let i = 0; i < 100; i++) looks(overload, 5000, 5000, 5000, 5000, 5000)
  t.equal(overload.share, 0.95)
  dice = 0.96
  t.equal(overload.sheds(0), null)
})

t.test('one long pause sheds nothing, however long', async t => {
  const overload = new Overload({ loopDelayMs: 100, inFlightMax: 1000, random: () => 0 })
  for (let i = 0; i < 50; i++) looks(overload, 3000, 0, 1, 2500, 0)
  t.equal(overload.sheds(0), null)
  t.equal(overload.shedCount('loop'), 0)
})

t.test('the share holds between half the limit and the limit, and falls slowly below', async t => {
  t.equal(nextShare(0.5, 80, 100), 0.5)
  t.equal(nextShare(0.5, 50, 100), 0.5)
  t.ok(nextShare(0.5, 49, 100) > 0.4, 'a window takes off less than one adds')
  t.ok(nextShare(0.5, 101, 100) - 0.5 > 0.5 - nextShare(0.5, 0, 100))
  t.equal(nextShare(0.01, 0, 100), 0, 'down to nothing')
  t.equal(nextShare(0.5, 9999, 0), 0, '0 turns it off')
})

t.test(
  'above the cap on requests in flight every new one is shed, and each is counted',
  async t => {
    const overload = new Overload({ loopDelayMs: 100, inFlightMax: 2 })
    t.equal(overload.sheds(1), null)
    t.equal(overload.sheds(2), 'in-flight')
    t.equal(overload.sheds(3), 'in-flight')
    t.equal(overload.shedCount('in-flight'), 2)
    t.equal(overload.isLineDue(0), true)
    t.equal(overload.isLineDue(999), false, 'one log line a second')
    t.equal(overload.isLineDue(1000), true)
  },
)

t.test('the loop’s own lateness is what is measured', async t => {
  const overload = new Overload({ loopDelayMs: 20, inFlightMax: 10, random: () => 0 })
  overload.start()
  t.teardown(() => overload.stop())
  const deadline = performance.now() + 10_000
  const block = () => {
    const until = performance.now() + 120
    while (performance.now() < until);
    if (overload.share === 0 && performance.now() < deadline) setImmediate(block)
  }
  block()
  while (overload.share === 0 && performance.now() < deadline) {
    await new Promise(resolve => setImmediate(resolve))
  }
  t.equal(overload.sheds(0), 'loop')
  while (overload.share > 0 && performance.now() < deadline) {
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  t.equal(overload.sheds(0), null, 'and over when the loop is free again')
})
