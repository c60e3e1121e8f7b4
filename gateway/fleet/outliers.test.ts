import t from 'tap'
import { noteFailure, noteSuccess } from './outliers.ts'
import { isHealthy, makeReplica, type Replica } from './replica.ts'

const replicas = (n: number) => Array.from({ length: n }, (_, i) => makeReplica(`http://r${i}`))

function failAll(replica: Replica, fleet: readonly Replica[], nowMs: number, tenants = ['a', 'b']) {
  let ejected = false
  for (let i = 0; i < 6; i++) {
    ejected = noteFailure(replica, tenants[i % tenants.length] as string, fleet, nowMs) || ejected
  }
  return ejected
}

t.test(
  'a replica that fails several tenants in a row is ejected, each time for longer',
  async t => {
    const fleet = replicas(4)
    const [bad] = fleet as [Replica]
    t.ok(failAll(bad, fleet, 1_000_000))
    t.notOk(isHealthy(bad, 1_004_999))
    t.ok(isHealthy(bad, 1_005_000))
    t.ok(failAll(bad, fleet, 1_005_000))
    t.notOk(isHealthy(bad, 1_014_999))
    t.ok(isHealthy(bad, 1_015_000))
    t.ok(failAll(bad, fleet, 1_015_000 + 300_001), 'forgiven after five good minutes')
    t.ok(isHealthy(bad, 1_015_000 + 300_001 + 5_000))
  },
)

t.test('failures of one tenant alone never eject', async t => {
  const fleet = replicas(4)
  const [replica] = fleet as [Replica]
  for (let i = 0; i < 10; i++) t.notOk(failAll(replica, fleet, 1_000_000, ['a']))
  t.ok(isHealthy(replica, 1_000_000))
  noteSuccess(replica)
  t.notOk(noteFailure(replica, 'b', fleet, 1_000_000), 'what came before a success is forgotten')
})

t.test('never more than half of the fleet', async t => {
  const fleet = replicas(5)
  const ejected = fleet.filter(replica => failAll(replica, fleet, 1_000_000))
  t.equal(ejected.length, 2)
  const alone = replicas(1)
  t.notOk(failAll(alone[0] as Replica, alone, 1_000_000), 'nor the only one')
})

t.test('nor where half of it is missing for other reasons', async t => {
  const fleet = replicas(4)
  const [bad, resting, draining] = fleet as [Replica, Replica, Replica]
  resting.restsUntilMs = 1_000_001
  draining.isReady = false
  t.notOk(failAll(bad, fleet, 1_000_000), 'tenants that break requests must not take the rest')
  draining.isReady = true
  t.ok(failAll(bad, fleet, 1_000_000))
})
