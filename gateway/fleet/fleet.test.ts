import t from 'tap'
import { makeLog } from '../../registry/lib/log.ts'
import type { Tenant, TenantId } from '../../registry/tenant.ts'
import { Fleet } from './fleet.ts'
import { makeReplica, type Replica } from './replica.ts'
import { poolMaxPerReplica } from './tenant-spread.ts'

const NOW_MS = 1_000_000
const ID = '00000000-0000-4000-8000-00000000000'

const tenant = (n: number, change: object = {}) =>
  ({
    id: `${ID}${n}`,
    configVersion: 1,
    mode: 'shared',
    appUrl: null,
    limits: {},
    db: { poolMax: null },
    ...change,
  }) as unknown as Tenant

function makeFleet(replicas: Replica[], change: object = {}) {
  return new Fleet({
    members: () => replicas,
    spread: 2,
    slowStartMs: 10_000,
    inFlightPerReplicaMax: 10,
    homesMax: 100,
    log: makeLog('test', 'silent'),
    ...change,
  })
}
const five = () => Array.from({ length: 5 }, (_, i) => makeReplica(`http://r${i}`))

t.test(
  'a tenant is served by its k replicas and by no other while one of them is healthy',
  async t => {
    const replicas = five()
    const fleet = makeFleet(replicas)
    const acme = tenant(1)
    const home = fleet.homeOf(acme)
    t.equal(home.replicas.length, 2)
    const [first, second] = home.replicas as [Replica, Replica]
    t.equal(fleet.choose(acme, home, null, NOW_MS), first)
    t.equal(fleet.choose(acme, home, first, NOW_MS), second, 'a retry goes to the other')
    fleet.note(home, acme.id, first, 'unreachable', NOW_MS)
    const next = fleet.homeOf(acme)
    t.equal(next.replicas[0], second, 'the rest moves up')
    t.notOk(next.replicas.includes(first))
    fleet.refresh(NOW_MS + 2_001)
    t.strictSame(fleet.homeOf(acme).replicas, [first, second], 'and back when it rested')
  },
)

t.test('where none is healthy all are tried', async t => {
  const replicas = five()
  for (const replica of replicas) replica.isReady = false
  const fleet = makeFleet(replicas)
  t.equal(fleet.homeOf(tenant(1)).replicas.length, 2)
  t.throws(() => {
    const empty = makeFleet([])
    empty.choose(tenant(1), empty.homeOf(tenant(1)), null, NOW_MS)
  }, /no replica is known/)
})

t.test('a tenant’s own fault keeps it off that replica, and never ejects the replica', async t => {
  const replicas = five()
  const fleet = makeFleet(replicas)
  const acme = tenant(1)
  const home = fleet.homeOf(acme)
  const [first, second] = home.replicas as [Replica, Replica]
  for (let i = 0; i < 20; i++) fleet.note(home, acme.id, first, 'tenant-fault', NOW_MS)
  t.equal(fleet.choose(acme, home, null, NOW_MS), second)
  for (let i = 0; i < 20; i++) fleet.note(home, acme.id, second, 'tenant-fault', NOW_MS)
  t.equal(fleet.choose(acme, home, null, NOW_MS), first, 'both shut: it goes through all the same')
  t.equal(fleet.ranked.length, 5)
  const other = Array.from({ length: 9 }, (_, n) => tenant(n + 1)).find(
    one => one.id !== acme.id && fleet.homeOf(one).replicas[0] === first,
  ) as Tenant
  t.equal(fleet.choose(other, fleet.homeOf(other), null, NOW_MS), first, 'others see nothing of it')
  const moved = { ...acme, configVersion: 2 }
  t.equal(fleet.choose(moved, fleet.homeOf(moved), null, NOW_MS), first, 'new details start clean')
})

t.test('a replica that fails several tenants leaves the ranking', async t => {
  const fleet = makeFleet(five())
  const acme = tenant(1)
  const home = fleet.homeOf(acme)
  const [first] = home.replicas as [Replica]
  for (let i = 0; i < 6; i++) {
    fleet.note(home, `${ID}${i % 2}` as TenantId, first, 'fault', NOW_MS)
  }
  t.equal(fleet.ranked.length, 4)
  t.equal(fleet.figures.ejections, 1)
  t.notOk(fleet.homeOf(acme).replicas.includes(first))
})

t.test('a tenant holds so many requests of its replicas and no more', async t => {
  const fleet = makeFleet(five())
  const home = fleet.homeOf(tenant(1))
  for (let i = 0; i < 20; i++) fleet.enter(home)
  t.throws(() => fleet.enter(home), { code: 'TENANT_BUSY' })
  fleet.enter(fleet.homeOf(tenant(2)))
  fleet.leave(home)
  fleet.enter(home)
})

t.test('a tenant that is too much for its home gets one more after seconds', async t => {
  const replicas = five()
  const fleet = makeFleet(replicas)
  const acme = tenant(1)
  const home = fleet.homeOf(acme)
  for (const replica of home.replicas) for (let i = 0; i < 40; i++) fleet.begin(replica)
  fleet.choose(acme, home, null, NOW_MS)
  fleet.choose(acme, home, null, NOW_MS + 2_999)
  t.equal(home.replicas.length, 2)
  const chosen = fleet.choose(acme, home, null, NOW_MS + 3_000)
  t.equal(home.replicas.length, 3)
  t.equal(chosen, home.replicas[2], 'the new one is below its bound')
  const budgeted = tenant(1, { db: { poolMax: 4 }, configVersion: 2 })
  const own = fleet.homeOf(budgeted)
  own.spread.extra = 0
  for (const at of [5_000, 9_000, 20_000]) fleet.choose(budgeted, own, null, NOW_MS + at)
  t.equal(own.spread.extra, 0, 'not past the connections that it may hold')
})

t.test('the connection budget is divided by the replicas', async t => {
  t.equal(poolMaxPerReplica(tenant(1), 2), null, 'none of its own')
  t.equal(poolMaxPerReplica(tenant(1, { db: { poolMax: 7 } }), 2), 3)
  const single = tenant(1, { db: { poolMax: 1 } })
  t.equal(poolMaxPerReplica(single, 2), 1)
  t.equal(makeFleet(five()).homeOf(single).replicas.length, 1, 'one connection: one replica')
  const wide = tenant(1, { db: { poolMax: 8 }, limits: { spread: 4 } })
  t.equal(poolMaxPerReplica(wide, 2), 2)
  t.equal(makeFleet(five()).homeOf(wide).replicas.length, 4)
})

t.test('a dedicated tenant goes to its own deployment alone', async t => {
  const fleet = makeFleet(five())
  const own = tenant(1, { mode: 'dedicated', appUrl: 'https://own.example/x' })
  const home = fleet.homeOf(own)
  t.strictSame(
    home.replicas.map(({ origin }) => origin),
    ['https://own.example'],
  )
  t.equal(fleet.homeOf(tenant(2, { ...own, id: `${ID}2` })).replicas[0], home.replicas[0])
  t.throws(() => fleet.homeOf(tenant(3, { mode: 'dedicated', appUrl: 'ftp://x' })), {
    code: 'TENANT_CONFIG_INVALID',
  })
})

t.test('a retry leaves the home of a tenant that has one replica alone', async t => {
  const fleet = makeFleet(five())
  const single = tenant(1, { limits: { spread: 1 } })
  const home = fleet.homeOf(single)
  const failed = fleet.choose(single, home, null, NOW_MS)
  fleet.note(home, single.id, failed, 'unreachable', NOW_MS)
  const next = fleet.choose(single, home, failed, NOW_MS)
  t.not(next, failed)
  t.equal(fleet.homeOf(single).replicas[0], next, 'the one that the next request goes to')
})

t.test('what a dedicated deployment bears moves no bound of the shared fleet', async t => {
  const fleet = makeFleet(five())
  const own = tenant(1, { mode: 'dedicated', appUrl: 'https://own.example' })
  const [deployment] = fleet.homeOf(own).replicas as [Replica]
  for (let i = 0; i < 400; i++) fleet.begin(deployment)
  const acme = tenant(2)
  const home = fleet.homeOf(acme)
  const [first, second] = home.replicas as [Replica, Replica]
  for (let i = 0; i < 20; i++) fleet.begin(first)
  t.equal(fleet.choose(acme, home, null, NOW_MS), second, '20 of the fleet’s 20 are too many')
  fleet.choose(own, fleet.homeOf(own), null, NOW_MS)
  t.equal(fleet.homeOf(own).spread.overSinceMs, 0, 'nor is a deployment measured by the fleet')
  for (let i = 0; i < 9; i++) {
    fleet.note(fleet.homeOf(own), `${ID}${i}` as TenantId, deployment, 'fault', NOW_MS)
  }
  t.equal(fleet.figures.ejections, 0, 'or ejected: there is nobody in its place')
  for (let i = 0; i < 400; i++) fleet.end(deployment)
  t.equal(fleet.choose(acme, home, null, NOW_MS), second)
})

t.test('a replica that joins gets its tenants little by little', async t => {
  const replicas = five()
  const fleet = makeFleet(replicas)
  replicas.push(makeReplica('http://new', 1, NOW_MS))
  const homes = (nowMs: number) => {
    fleet.refresh(nowMs)
    let count = 0
    for (let n = 0; n < 2000; n++) {
      const [first] = fleet.homeOf(tenant(0, { id: `${ID}${n}` })).replicas
      if (first?.origin === 'http://new') count++
    }
    return count
  }
  const counts = [0, 5_000, 10_000].map(after => homes(NOW_MS + after)) as [number, number, number]
  t.ok(counts[0] > 0 && counts[0] < 80, String(counts))
  t.ok(counts[1] > counts[0] && counts[1] < counts[2], String(counts))
  t.ok(counts[2] > 250 && counts[2] < 420, String(counts))
})
