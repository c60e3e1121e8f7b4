import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { request } from 'node:http'
import pg from 'pg'
import t from 'tap'
import { WebSocket } from 'ws'
import { until } from '../../gateway/test-kit.ts'
import { startFaultProxy } from '../../registry/fault-proxy.ts'
import type { FleetState } from '../../registry/live/fleet.ts'
import type { Pulse } from '../../registry/live/pulse.ts'
import type { TenantState } from '../../registry/live/tenant-state.ts'
import { type Answer, call } from './call.ts'
import { type Binary, startWorld, type WorldTenant } from './test-kit.ts'

/*
 * What an operator is told of this very moment, by three gateway processes (one alone, two workers) and two replicas.
 * The operator asks the first gateway; what is told comes from all of them.
 */
const KEY = `admin-${randomBytes(24).toString('hex')}`
/** Gateways have 1 s for an answer; what comes on top is the Registry's and this machine's. */
const ANSWER_MS_MAX = 2500
const REPLICAS = 2

const world = await startWorld({
  gatewayEnv: { ADMIN_API_KEY: KEY, REPLICA_SLOW_START_MS: '0' },
  appEnv: {
    ...{ DB_CONNECT_TIMEOUT_MS: '500', DB_CHECKOUT_TIMEOUT_MS: '1000' },
    ...{ BREAKER_BACKOFF_MS: '20000', BREAKER_BACKOFF_MAX_MS: '20000' },
  },
})
t.teardown(world.close)
world.leaks.plant('admin key', KEY)
const { acme, globex, gateway } = world
const workers = await world.startGateway({ GATEWAY_WORKERS: '2' })
const registry = new pg.Client({ connectionString: world.registryUrl })
registry.on('error', () => {})
await registry.connect()
t.teardown(() => registry.end())
const link = await startFaultProxy({ host: '127.0.0.1', port: world.postgres.port })
t.teardown(() => link.stop())
await world.cli(['set-db', acme.key, '--keep-password', '--db-port', String(link.port)])

const token = (await world.login(acme)).accessToken
const admin = (path: string, at: Binary = gateway): Promise<Answer> =>
  call(at.adminOrigin, `/api/admin${path}`, { token: KEY })
async function told<T>(path: string): Promise<T> {
  const { status, text, result } = await admin(path)
  if (status !== 200) throw new Error(`${path}: ${status} ${text}`)
  return result as T
}
const stateOf = ({ id }: WorldTenant) => told<TenantState>(`/tenants/${id}/state`)
const fleet = () => told<FleetState>('/fleet')
const whoami = ({ origin }: Binary) => call(origin, '/api/whoami', { token })
await until(async () => (await fleet()).gateways.length === 3)

t.test('a gateway that knows no tenant leaves it to the others to ask the replicas', async t => {
  // The workers have served nobody yet; the login went by the first gateway.
  const idleFirst = `
    UPDATE gateway_instances SET heartbeat_at = clock_timestamp() + interval '1 second'
    WHERE worker > 0 RETURNING id`
  for (const top of [11, 12, 13]) {
    t.equal((await registry.query(idleFirst)).rowCount, 2)
    const { replicas, missing } = await told<FleetState>(`/fleet?top=${top}`)
    t.strictSame(missing, [])
    t.equal(replicas.length, REPLICAS)
    for (const { app, problem } of replicas) {
      t.equal(problem, null)
      t.match(app, { version: String })
    }
  }
})

t.test(
  'a tenant’s state names its replicas, connections and sockets, and no other tenant’s',
  async t => {
    for (const at of [gateway, workers]) {
      for (let i = 0; i < 4; i++) t.equal((await whoami(at)).status, 200)
    }
    const state = await stateOf(acme)
    t.strictSame(state.missing, [])
    t.strictSame(
      state.gateways.map(({ worker }) => worker).sort(),
      [0, 1, 2],
      'each worker is asked',
    )
    const cached = state.gateways.filter(one => one.state?.cache.state === 'cached')
    t.equal(cached.length, state.totals.gateways_cached)
    t.ok(cached.length >= 2)
    const version = Number(
      (await told<{ config_version: number }>(`/tenants/${acme.id}`)).config_version,
    )
    for (const { state: one } of cached) {
      t.match(one, { cache: { version, status: 'active', is_fresh: true }, hold: null })
      t.strictSame(
        one?.replicas?.map(({ origin }) => origin).sort(),
        state.apps.map(app => app.origin),
      )
      for (const replica of one?.replicas ?? []) {
        t.match(replica, { is_healthy: true, is_ready: true, breaker: 'closed', ejected_ms: 0 })
      }
    }
    t.strictSame(
      state.apps.map(({ origin }) => origin),
      world.apps.map(({ origin }) => origin).sort(),
    )
    const pools = state.apps.flatMap(app => app.state?.pools ?? [])
    t.ok(pools.length >= 1)
    for (const pool of pools) t.match(pool, { is_current: true, breaker: 'closed', waiting: 0 })
    const count = `SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = $1 AND application_name = 'doorman-app'`
    const [row] = await world.sql('postgres', count, [acme.database])
    t.equal(state.totals.app_connections, row?.n, 'as PostgreSQL counts them')

    const none = await admin(`/tenants/${crypto.randomUUID()}/state`)
    t.match(none, { status: 404, code: 'NOT_FOUND' })
    const other = await stateOf(globex)
    t.strictSame(
      other.apps.flatMap(app => app.state?.pools),
      [],
      'one without traffic has no pool',
    )
    t.equal(other.apps.length, REPLICAS)
    t.strictSame([other.totals.requests_in_flight, other.totals.app_connections], [0, 0])
    t.notMatch(JSON.stringify(other), acme.id)
    t.notMatch(JSON.stringify(state), globex.id)

    const socket = new WebSocket(`${gateway.origin.replace('http', 'ws')}/api/ws`, {
      headers: { authorization: `Bearer ${token}` },
    })
    await once(socket, 'message')
    const events = request(`${workers.origin}/api/events`, {
      headers: { authorization: `Bearer ${token}` },
    }).end()
    events.on('error', () => {})
    await once(events, 'response')
    await until(async () => {
      const { totals } = await stateOf(acme)
      return (
        totals.websockets === 1 && totals.event_streams === 1 && totals.requests_in_flight === 1
      )
    })
    t.equal((await stateOf(acme)).totals.upstream_connections, 2)
    t.match((await stateOf(globex)).totals, { websockets: 0, event_streams: 0 })
    socket.terminate()
    events.destroy()
    await until(async () => (await stateOf(acme)).totals.upstream_connections === 0)
  },
)

t.test('the pulse sums the traffic of all gateways, by tenant and class', async t => {
  const pulse = () => told<Pulse>(`/pulse?ids=${acme.id},${globex.id}`)
  const sum = (counts: readonly number[] | undefined) => (counts ?? []).reduce((a, b) => a + b, 0)
  const before = await pulse()
  t.strictSame(
    before.items.map(item => item.tenant_id),
    [acme.id, globex.id],
    'as asked for',
  )
  for (const item of before.items) t.equal(item.requests.length, 60)
  for (const at of [gateway, workers]) {
    for (let i = 0; i < 5; i++) await whoami(at)
    await call(at.origin, '/api/no-such-thing', { token })
  }
  await until(
    async () => sum((await pulse()).items[0]?.requests) === sum(before.items[0]?.requests) + 12,
  )
  const after = await pulse()
  t.equal(sum(after.items[0]?.client_errors), sum(before.items[0]?.client_errors) + 2)
  t.ok(sum(after.items[0]?.bytes_out) > sum(before.items[0]?.bytes_out))
  t.ok((after.items[0]?.p99_ms ?? []).some(ms => ms !== null && ms > 0))
  t.equal(sum(after.items[1]?.requests), 0, 'another tenant’s is its own')
  const coarse = await told<Pulse>(`/pulse?ids=${acme.id}&step=60`)
  t.match(coarse, { step_s: 60, items: [{ requests: { length: 5 } }] })
  t.equal(sum(coarse.items[0]?.requests), sum(after.items[0]?.requests))
  for (const query of [
    '',
    '?ids=x',
    `?ids=${acme.id}&step=7`,
    `?ids=${`${acme.id},`.repeat(101)}`,
  ]) {
    t.match(
      await admin(`/pulse${query}`),
      { status: 400, code: 'VALIDATION_FAILED' },
      query.slice(0, 60),
    )
  }
})

t.test(
  'the fleet shows gateways with load and bounds, replicas, and the busiest tenants',
  async t => {
    await until(async () => (await fleet()).top[0]?.tenant_id === acme.id)
    const atPrimary = (await admin('/fleet', workers)).result as unknown as FleetState
    t.equal(atPrimary.gateways.length, 3, 'the primary of the workers tells the same')
    const { gateways, replicas, top, totals, missing, versions } = await fleet()
    t.strictSame(missing, [])
    t.equal(versions.length, 1)
    t.match(top[0], { tenant_key: acme.key })
    t.ok((top[0]?.requests_per_s ?? 0) > 0 && (top[0]?.p99_ms ?? 0) > 0)
    for (const { load, pid } of gateways) {
      t.ok(pid > 0)
      t.match(load, { is_ready: true, registry: { is_listener_healthy: true } })
      t.ok((load?.rss_bytes ?? 0) > 1e7 && (load?.upstream.connections_per_replica_max ?? 0) > 0)
      for (const { size, max, name } of load?.caches ?? []) t.ok(size <= max && max > 0, name)
    }
    t.ok(gateways.some(({ load }) => (load?.requests_per_s ?? 0) > 0))
    t.strictSame(
      replicas.map(({ origin }) => origin),
      world.apps.map(({ origin }) => origin).sort(),
    )
    for (const replica of replicas) t.match(replica, { seen_by: 3, healthy_for: 3, ejected_by: 0 })
    for (const { app, problem } of replicas) {
      t.equal(problem, null)
      t.match(app, { version: versions[0], db_breakers_open: 0 }, 'and tells its release')
      t.ok((app?.db_connections ?? 9) <= (app?.db_connections_max ?? 0))
    }
    // What a replica said of itself serves for 5 s.
    await until(async () => {
      const { db_connections } = (await fleet()).totals
      return db_connections > 0 && db_connections === (await stateOf(acme)).totals.app_connections
    })
    t.ok(totals.upstream_connections <= totals.upstream_connections_max)
    t.equal((await told<FleetState>('/fleet?top=0')).top.length, 0)
  },
)

t.test('a replica that hangs costs its own part of the answer, and no gateway', async t => {
  const [app] = world.apps
  process.kill(app?.pid as number, 'SIGSTOP')
  t.teardown(() => process.kill(app?.pid as number, 'SIGCONT'))
  const isHung = (apps: TenantState['apps']) =>
    apps.find(({ origin }) => origin === app?.origin)?.problem
  await until(async () => isHung((await stateOf(acme)).apps) === 'no answer in time')
  const { missing, apps } = await stateOf(acme)
  t.strictSame(missing, [])
  t.equal(apps.filter(({ state }) => state !== null).length, REPLICAS - 1)
  process.kill(app?.pid as number, 'SIGCONT')
  await until(async () => isHung((await stateOf(acme)).apps) === null)
})

t.test('a breaker shows open on gateways and apps once the tenant’s database is cut', async t => {
  link.cut()
  await until(async () => {
    await whoami(gateway)
    const { totals, apps } = await stateOf(acme)
    const isOpen = apps.some(({ state }) => state?.pools.some(({ breaker }) => breaker === 'open'))
    return totals.breakers_open > 0 && isOpen
  })
  const { gateways } = await stateOf(acme)
  const replica = gateways
    .flatMap(({ state }) => state?.replicas ?? [])
    .find(one => one.breaker === 'open')
  t.ok((replica?.breaker_open_ms ?? 0) > 0)
  t.ok(replica?.is_healthy, 'nothing speaks against the replica')
  t.equal((await stateOf(globex)).totals.breakers_open, 0)
  await link.restore()
})

t.test('no context is minted to ask about a tenant that is not served', async t => {
  t.equal((await world.cli(['suspend', globex.key])).code, 0)
  await until(async () => {
    const { apps, gateways } = await stateOf(globex)
    const isAsked = apps.some(({ problem }) => problem !== 'not asked: suspended')
    return !isAsked && gateways.some(({ state }) => state?.cache.status === 'suspended')
  })
})

t.test('many who look at once are one question; the Registry’s tables do not grow', async t => {
  const notices: string[] = []
  registry.on('notification', ({ payload = '' }) => notices.push(payload))
  await registry.query('LISTEN gateway_asked')
  // Not asked before: the answer of a moment ago would do.
  const paths = [
    '/fleet?top=77',
    `/pulse?ids=${globex.id}&step=30`,
    `/pulse?ids=${acme.id}&step=30`,
  ]
  const answers = await Promise.all(
    Array.from({ length: 45 }, (_, i) => admin(paths[i % paths.length] as string)),
  )
  t.strictSame([...new Set(answers.map(({ status }) => status))], [200])
  await until(() => notices.length >= paths.length)
  t.equal(notices.length, paths.length)
  t.ok(notices.every(notice => notice.length < 500))

  // All different, so that none can be shared: they are put at a bounded pace, or refused.
  notices.length = 0
  const startedAt = performance.now()
  const flood = await Promise.all(
    Array.from({ length: 60 }, (_, i) => admin(`/fleet?top=${i}`).then(({ status }) => status)),
  )
  const seconds = (performance.now() - startedAt) / 1000
  const served = flood.filter(status => status === 200).length
  await until(() => notices.length >= served)
  t.ok(notices.length <= 11 + 10 * seconds, `${notices.length} questions in ${seconds} s`)
  t.ok(flood.includes(503), 'beyond the pace they are refused')
  t.equal(notices.length, served)
  const { rows } = await registry.query('SELECT count(*)::int AS n FROM gateway_answers')
  t.strictSame(rows, [{ n: 0 }], 'each answer is taken away')
})

t.test(
  'a gateway that was killed is named missing, and costs no more than the deadline',
  async t => {
    const third = await world.startGateway()
    await until(async () => (await fleet()).gateways.length === 4)
    const before = (await fleet()).gateways.map(({ id }) => id)
    const [own] = (await fleet()).gateways.filter(({ address }) =>
      address?.endsWith(`:${third.port}`),
    )
    t.ok(own)
    await third.stop(0)
    // The answer of a moment ago would still name it.
    await until(async () => (await stateOf(acme)).missing.length > 0)
    const startedAt = performance.now()
    const state = await told<FleetState>('/fleet?top=1')
    const tookMs = performance.now() - startedAt
    t.ok(tookMs < ANSWER_MS_MAX, `${tookMs} ms`)
    t.strictSame(state.missing, [own?.id])
    t.strictSame(state.gateways.map(({ id }) => id).sort(), before.sort())
    for (const { id, load } of state.gateways) t.equal(load === null, id === own?.id)
    t.equal((await stateOf(acme)).apps.length, REPLICAS, 'the others asked the replicas')
  },
)
