import t from 'tap'
import { Alarm, TimerWheel } from './timer-wheel.ts'

function bench(slots = 8) {
  const clock = { ms: 1000 }
  const wheel = new TimerWheel(100, slots, () => clock.ms)
  const rung: string[] = []
  t.teardown(() => wheel.close())
  return {
    wheel,
    rung,
    alarm: (name: string) => new Alarm(() => rung.push(name)),
    pass(ms: number) {
      clock.ms += ms
      wheel.tick()
    },
  }
}

t.test('an alarm never rings before its time and at most two ticks after it', async t => {
  for (let ms = 0; ms <= 2000; ms += 37) {
    const { wheel, rung, alarm, pass } = bench()
    wheel.arm(alarm('a'), ms)
    let passed = 0
    while (rung.length === 0) {
      t.ok(passed <= ms + 200, `${ms} ms is overdue after ${passed} ms`)
      pass(10)
      passed += 10
    }
    t.ok(passed >= ms, `${ms} ms rang after ${passed} ms`)
  }
})

t.test('an alarm rings once, and not at all once disarmed', async t => {
  const { wheel, rung, alarm, pass } = bench()
  const kept = alarm('kept')
  const dropped = alarm('dropped')
  wheel.arm(kept, 300)
  wheel.arm(dropped, 300)
  t.equal(wheel.size, 2)
  wheel.disarm(dropped)
  wheel.disarm(dropped)
  for (let i = 0; i < 30; i++) pass(100)
  t.strictSame(rung, ['kept'])
  t.equal(wheel.size, 0)
})

t.test('a deadline that moves later holds, and one that moves earlier too', async t => {
  const { wheel, rung, alarm, pass } = bench()
  const later = alarm('later')
  const earlier = alarm('earlier')
  wheel.arm(later, 200)
  wheel.arm(earlier, 5000)
  wheel.arm(later, 1500)
  wheel.arm(earlier, 400)
  t.equal(wheel.size, 2)
  for (let i = 0; i < 7; i++) pass(100)
  t.strictSame(rung, ['earlier'])
  for (let i = 0; i < 12; i++) pass(100)
  t.strictSame(rung, ['earlier', 'later'])
})

t.test('an alarm may arm itself and disarm others while it rings', async t => {
  const { wheel, rung, pass } = bench()
  const victim = new Alarm(() => rung.push('victim'))
  const again: Alarm = new Alarm(() => {
    rung.push('again')
    wheel.disarm(victim)
    if (rung.length < 3) wheel.arm(again, 0)
  })
  wheel.arm(victim, 100)
  wheel.arm(again, 100)
  for (let i = 0; i < 10; i++) pass(100)
  t.strictSame(rung, ['again', 'again', 'again'])
})

t.test('after a long sleep of the machine every overdue alarm rings, no other does', async t => {
  const { wheel, rung, alarm, pass } = bench()
  wheel.arm(alarm('a'), 100)
  wheel.arm(alarm('b'), 3000)
  wheel.arm(alarm('c'), 100_000)
  pass(60_000)
  t.strictSame(rung.sort(), ['a', 'b'])
  t.equal(wheel.size, 1)
})

t.test('the real interval rings, and close disarms all', async t => {
  // The wheel keeps no process alive, so something else has to.
  const keepAlive = setInterval(() => {}, 1000)
  t.teardown(() => clearInterval(keepAlive))
  const wheel = new TimerWheel(10)
  await new Promise<void>(resolve => wheel.arm(new Alarm(resolve), 20))
  wheel.arm(new Alarm(() => t.fail('rang after close')), 1)
  wheel.close()
  t.equal(wheel.size, 0)
  await new Promise(resolve => setTimeout(resolve, 30))
})

t.test(
  'thousands that are due together let others take their turn in between, and all ring',
  async t => {
    const { wheel, rung, pass } = bench()
    const count = 1000
    const late = new Alarm(() => rung.push('late'))
    for (let i = 0; i < count; i++) {
      const alarm: Alarm = new Alarm(() => {
        rung.push('due')
        // As a connection does that says why and then lingers.
        if (i % 2 === 0) wheel.arm(alarm, 100_000)
      })
      wheel.arm(alarm, 300)
    }
    wheel.arm(late, 500)
    pass(500)
    const first = rung.length
    t.ok(first > 0 && first <= 64, `${first} at once`)
    let turns = 1
    for (let before = first; rung.length < count; before = rung.length) {
      await new Promise(resolve => setImmediate(resolve))
      t.ok(rung.length - before <= 64)
      turns++
    }
    t.ok(turns >= count / 64)
    t.equal(rung.includes('late'), false, 'who is due later waits for his time')
    t.equal(wheel.size, count / 2 + 1)
    pass(200)
    t.equal(rung.at(-1), 'late')
    t.equal(rung.length, count + 1, 'each once')
  },
)
