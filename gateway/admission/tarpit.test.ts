import t from 'tap'
import { Fault } from '../../registry/lib/errors.ts'
import type { Exchange } from '../exchange.ts'
import { HELD_MS, Tarpit } from './tarpit.ts'

const refusal = new Fault('TENANT_RATE_LIMITED', 'of a test')
const requests = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ requestId: `${i}` }) as Exchange)

t.test('each answer is given once, no sooner than it may, and not with all others', async t => {
  const tarpit = new Tarpit(1000)
  const startedAt = performance.now()
  const answered = new Map<Exchange, number>()
  const times = new Set<number>()
  await new Promise<void>(resolve => {
    for (const exchange of requests(200)) {
      tarpit.hold(exchange, refusal, (held, error) => {
        t.equal(answered.has(held), false)
        t.equal(error, refusal)
        answered.set(held, performance.now() - startedAt)
        times.add(tarpit.size)
        if (answered.size === 200) resolve()
      })
    }
    t.equal(tarpit.size, 200)
  })
  t.equal(tarpit.size, 0)
  t.ok(Math.min(...answered.values()) >= HELD_MS[0] - 5, `${Math.min(...answered.values())} ms`)
  t.ok(times.size > 5, `in ${times.size} steps`)
  t.strictSame(tarpit.counts, { held: 200, full: 0 })
})

t.test('what is beyond its bound is not kept, and there is room again afterwards', async t => {
  const tarpit = new Tarpit(2)
  const [first, second, third] = requests(3) as [Exchange, Exchange, Exchange]
  const given: Exchange[] = []
  const resume = (exchange: Exchange) => given.push(exchange)
  t.equal(tarpit.hold(first, refusal, resume), true)
  t.equal(tarpit.hold(second, refusal, resume), true)
  t.equal(tarpit.hold(third, refusal, resume), false)
  tarpit.close()
  t.same(new Set(given), new Set([first, second]))
  t.equal(tarpit.size, 0)
  t.strictSame(tarpit.counts, { held: 2, full: 1 })
  t.equal(tarpit.hold(third, refusal, resume), true)
  tarpit.close()
  t.equal(given.length, 3)
})

t.test('one of no size keeps nothing', async t => {
  t.equal(
    new Tarpit(0).hold({} as Exchange, refusal, () => {}),
    false,
  )
})

t.test('who is refused within an answer is kept anew', async t => {
  const tarpit = new Tarpit(1)
  const [one, two] = requests(2) as [Exchange, Exchange]
  let again = 0
  await new Promise<void>(resolve => {
    tarpit.hold(one, refusal, () => {
      t.equal(tarpit.size, 0)
      t.equal(
        tarpit.hold(two, refusal, () => {
          again++
          resolve()
        }),
        true,
      )
    })
  })
  t.equal(again, 1)
})
