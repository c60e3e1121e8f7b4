import { randomBytes } from 'node:crypto'
import t from 'tap'
import type { Fault } from '../../registry/lib/errors.ts'
import { FailureLimit } from './failure-limit.ts'
import { limitKey } from './failure-sketch.ts'

const WINDOW_MS = 900_000
const key = () => limitKey(randomBytes(32).toString('base64url'))

function make(max: number) {
  const clock = { nowMs: 1000 }
  return { clock, limit: new FailureLimit('login', max, WINDOW_MS, () => clock.nowMs) }
}

/** Lets pending promises settle. */
const turn = () => new Promise(resolve => setImmediate(resolve))

t.test('after so many failures the next is refused, with the time when to come again', async t => {
  const { limit, clock } = make(3)
  const one = key()
  for (let i = 0; i < 3; i++) {
    await limit.enter(one)
    limit.leave(one, true)
  }
  const refused = await limit.enter(one).then(
    () => null,
    (error: Fault) => error,
  )
  t.match(refused, { code: 'LOGIN_LIMITED', status: 429, retryAfterS: 300 })
  t.strictSame(refused?.fields, [
    ...['ratelimit-policy', '"login";q=3;w=900'],
    ...['ratelimit', '"login";r=0;t=300'],
  ])
  await limit.enter(key())
  clock.nowMs += 299_000
  await t.rejects(limit.enter(one), { code: 'LOGIN_LIMITED', retryAfterS: 1 })
  clock.nowMs += 1000
  await limit.enter(one)
  t.equal(limit.size, 2)
})

t.test('what did not fail uses nothing up, however often', async t => {
  const { limit } = make(3)
  const one = key()
  for (let i = 0; i < 100; i++) {
    await limit.enter(one)
    limit.leave(one, false)
  }
  t.equal(limit.size, 0, 'and nothing is kept of it')
})

t.test('of a thousand guesses at once no more pass than one after the other', async t => {
  const { limit } = make(10)
  const one = key()
  let passed = 0
  const outcomes = await Promise.allSettled(
    Array.from({ length: 1000 }, async () => {
      await limit.enter(one)
      passed++
      await turn()
      limit.leave(one, true)
    }),
  )
  t.equal(passed, 10)
  const refused = outcomes.filter(({ status }) => status === 'rejected')
  t.equal(refused.length, 990)
  t.equal(limit.size, 0)
})

t.test('a thousand right ones at once all pass, a few at a time', async t => {
  const { limit } = make(10)
  const one = key()
  let running = 0
  let most = 0
  await Promise.all(
    Array.from({ length: 1000 }, async () => {
      await limit.enter(one)
      most = Math.max(most, ++running)
      await turn()
      running--
      limit.leave(one, false)
    }),
  )
  t.equal(most, 10)
  t.equal(limit.size, 0)
})

t.test('those that wait are let in as others succeed, and refused as others fail', async t => {
  const { limit } = make(2)
  const one = key()
  await limit.enter(one)
  await limit.enter(one)
  const waiting = [limit.enter(one), limit.enter(one)]
  const settled: string[] = []
  for (const each of waiting) {
    each.then(
      () => settled.push('in'),
      () => settled.push('refused'),
    )
  }
  await turn()
  t.strictSame(settled, [])
  limit.leave(one, false)
  await turn()
  t.strictSame(settled, ['in'])
  limit.leave(one, true)
  await turn()
  t.strictSame(settled, ['in'], 'one failed and one is under way: no room')
  limit.leave(one, true)
  await turn()
  t.strictSame(settled, ['in', 'refused'])
  t.equal(limit.size, 0)
})

t.test('so many may wait; one more is refused at once', async t => {
  const { limit } = make(1)
  const one = key()
  await limit.enter(one)
  const waiting = Array.from({ length: 1024 }, () => limit.enter(one))
  await t.rejects(limit.enter(one), { code: 'LOGIN_LIMITED', retryAfterS: 1 })
  await limit.enter(key())
  limit.leave(one, true)
  const outcomes = await Promise.allSettled(waiting)
  t.ok(outcomes.every(({ status }) => status === 'rejected'))
})
