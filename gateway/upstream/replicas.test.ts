import t from 'tap'
import { makeLog } from '../../registry/lib/log.ts'
import { chooseReplica, ReplicaSet } from './replicas.ts'

const NOW_MS = 1_000_000
const replica = (origin: string, inFlight = 0, restsUntilMs = 0) => ({
  origin,
  inFlight,
  restsUntilMs,
})
const log = makeLog('test', 'silent')

t.test('the least busy replica that does not rest is chosen', async t => {
  const busy = replica('busy', 3)
  const idle = replica('idle', 1)
  const resting = replica('resting', 0, NOW_MS + 1)
  for (let start = 0; start < 3; start++) {
    t.equal(chooseReplica([busy, idle, resting], null, start, NOW_MS), idle)
    t.equal(chooseReplica([busy, idle, resting], idle, start, NOW_MS), busy, 'not the one tried')
  }
  t.equal(chooseReplica([resting], null, 0, NOW_MS), resting, 'a resting one is better than none')
  t.equal(chooseReplica([idle], idle, 0, NOW_MS), idle, 'as is the one that was tried')
  t.equal(chooseReplica([], null, 0, NOW_MS), null)
})

t.test('equal replicas take turns', async t => {
  const set = new ReplicaSet(['http://a:1', 'http://b:1'], log)
  await set.start()
  const chosen = new Set([1, 2].map(() => set.choose(null, NOW_MS)?.origin))
  t.equal(chosen.size, 2)
})

t.test('dns members follow the answer, keep their state, and survive an outage', async t => {
  let answer: string[] | Error = ['10.0.0.1', '10.0.0.2']
  const set = new ReplicaSet(['dns:http://app:3000', 'http://fixed:1'], log, async () => {
    if (answer instanceof Error) throw answer
    return answer
  })
  await set.start()
  t.teardown(() => set.stop())
  const origins = () => set.all.map(({ origin }) => origin)
  t.strictSame(origins(), ['http://10.0.0.1:3000', 'http://10.0.0.2:3000', 'http://fixed:1'])
  const second = set.all[1]
  if (second !== undefined) second.inFlight = 7
  answer = ['10.0.0.2', '::1']
  await set.refresh()
  t.strictSame(origins(), ['http://10.0.0.2:3000', 'http://[::1]:3000', 'http://fixed:1'])
  t.equal(set.all[0]?.inFlight, 7)
  answer = new Error('SERVFAIL')
  await set.refresh()
  t.strictSame(origins(), ['http://10.0.0.2:3000', 'http://[::1]:3000', 'http://fixed:1'])
})
