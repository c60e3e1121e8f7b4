import t from 'tap'
import { makeFleetDatabases } from '../../bench/connections/databases.ts'
import { startFleet } from '../../bench/connections/fleet.ts'
import { runFleetLoad } from '../../bench/connections/load.ts'
import { watchConnections } from '../../bench/connections/watch.ts'

const REPLICAS = 3
const K = 2
const POOL_MAX = 4
const TENANTS = 30
const BUDGET = 2
/** Every third tenant has a connection budget. */
const hasBudget = (tenant: number) => tenant % 3 === 0
const WAVES = 2
const PER_WAVE = 16

const databases = await makeFleetDatabases({
  tenants: TENANTS,
  connectionsMax: 300,
  budgetOf: tenant => (hasBudget(tenant) ? BUDGET : null),
})
t.teardown(() => databases.stop())
const fleet = await startFleet({
  databases,
  replicas: REPLICAS,
  gateways: 2,
  workers: 2,
  spread: K,
  appEnv: {
    DB_POOL_MAX: String(POOL_MAX),
    DB_HOST_POOL_MAX: '90',
    // No connection is closed for being idle: PostgreSQL would show it for a moment beside its successor.
    DB_CONNECTION_IDLE_MS: '120000',
    ...{ DB_CONNECT_TIMEOUT_MS: '15000', DB_CHECKOUT_TIMEOUT_MS: '15000' },
  },
  // A machine that is busy with other tests must not look like a replica that is down: homes would move.
  gatewayEnv: {
    HEALTH_TIMEOUT_MS: '15000',
    UPSTREAM_CONNECT_TIMEOUT_MS: '15000',
    OVERLOAD_LOOP_DELAY_MS: '0',
  },
  front: 'none',
})
t.teardown(() => fleet.stop())

t.test('a tenant has k × pool connections at most, whichever gateway process chooses', async t => {
  const watch = await watchConnections(databases, 2)
  t.teardown(() => watch.stop())
  const replicasOf = new Map<number, Set<string>>()
  const failures: string[] = []
  // One tenant after the other asks with all its users at once: its home is loaded beyond the bound,
  // so that it spills, decided by each of the four gateway processes alone.
  for (let i = 0; i < TENANTS * WAVES; i++) {
    const tenant = i % TENANTS
    let left = PER_WAVE
    const result = await runFleetLoad({
      ...fleet,
      tenants: databases.tenants,
      next: () => tenant,
      concurrency: PER_WAVE,
      until: () => left-- <= 0,
    })
    failures.push(...result.failures.keys())
    const replicas = result.replicasOf.get(tenant) ?? []
    replicasOf.set(tenant, new Set([...(replicasOf.get(tenant) ?? []), ...replicas]))
  }
  const { most, mostOf, looks } = watch.take()
  t.comment(`${most} connections at most in ${looks} looks`)
  t.strictSame(failures, [])
  t.ok(looks > 10)

  let withoutBudgetMost = 0
  for (const [tenant, { database }] of databases.tenants.entries()) {
    const replicas = replicasOf.get(tenant) as Set<string>
    t.ok(replicas.size >= 1 && replicas.size <= K, `${database}: ${[...replicas]}`)
    const connections = mostOf.get(database) ?? 0
    t.ok(connections >= 1, `${database} was connected to`)
    const max = hasBudget(tenant) ? BUDGET : K * POOL_MAX
    t.ok(connections <= max, `${database}: ${connections} connections, ${max} at most`)
    if (!hasBudget(tenant)) withoutBudgetMost = Math.max(withoutBudgetMost, connections)
  }
  t.ok(withoutBudgetMost > BUDGET, 'the load is one that a budget has to hold back')
  t.ok(most <= TENANTS * K * POOL_MAX)
  const homes = new Set([...replicasOf.values()].map(replicas => [...replicas].sort().join()))
  t.equal(new Set([...homes].flatMap(home => home.split(','))).size, REPLICAS, 'all take part')
  t.ok(
    [...replicasOf.values()].some(replicas => replicas.size === K),
    'and homes are used whole',
  )
})
