import t from 'tap'
import { makeLog } from '../../registry/lib/log.ts'
import { Members, parseMemberEntry, type Resolvers } from './members.ts'

const log = makeLog('test', 'silent')
const NOW_MS = 1_000_000
const NONE: Resolvers = {
  addresses: async () => [],
  services: async () => [],
}
const entries = (...texts: string[]) => texts.map(parseMemberEntry)

t.test('dns members follow the answer, keep their state, and survive an outage', async t => {
  let answer: string[] | Error = ['10.0.0.1', '10.0.0.2']
  const members = new Members(entries('dns:http://app:3000', 'http://fixed:1'), log, {
    ...NONE,
    async addresses() {
      if (answer instanceof Error) throw answer
      return answer
    },
  })
  await members.start()
  t.teardown(() => members.stop())
  const origins = () => members.all.map(({ origin }) => origin)
  t.strictSame(origins(), ['http://10.0.0.1:3000', 'http://10.0.0.2:3000', 'http://fixed:1'])
  t.strictSame(members.all[0]?.joinedAtMs, null, 'the first ones have nobody to relieve')
  const second = members.all[1]
  if (second !== undefined) second.inFlight = 7
  answer = ['10.0.0.2', '::1']
  await members.refresh(NOW_MS)
  t.strictSame(origins(), ['http://10.0.0.2:3000', 'http://[::1]:3000', 'http://fixed:1'])
  t.equal(members.all[0]?.inFlight, 7)
  t.equal(members.all[1]?.joinedAtMs, NOW_MS, 'a new one starts slowly')
  answer = new Error('SERVFAIL')
  await members.refresh(NOW_MS)
  t.strictSame(origins(), ['http://10.0.0.2:3000', 'http://[::1]:3000', 'http://fixed:1'])
})

t.test('srv members have their own ports and weights; only the first priority counts', async t => {
  const members = new Members(entries('srv:http://_api._tcp.app.example'), log, {
    ...NONE,
    services: async () => [
      { name: 'a.example', port: 3001, priority: 1, weight: 20 },
      { name: 'b.example.', port: 3002, priority: 1, weight: 0 },
      { name: 'far.example', port: 3003, priority: 2, weight: 50 },
    ],
  })
  await members.start()
  t.teardown(() => members.stop())
  t.strictSame(
    members.all.map(({ origin, fullWeight }) => [origin, fullWeight]),
    [
      ['http://a.example:3001', 20],
      ['http://b.example:3002', 1],
    ],
  )
})

t.test('an entry is an origin, with a weight or not, or a name', async t => {
  t.match(parseMemberEntry('http://h:1#weight=3'), { kind: 'origin', weight: 3 })
  t.match(parseMemberEntry('dns:https://h'), { kind: 'dns', weight: 1 })
  for (const bad of ['h:1', 'ftp://h', 'dns:h', 'http://h#weight=0', 'http://h#wait=1']) {
    t.throws(() => parseMemberEntry(bad), bad)
  }
})
