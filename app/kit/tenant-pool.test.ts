import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import t, { type Test } from 'tap'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import { startFaultProxy } from '../../registry/fault-proxy.ts'
import {
  claimsOf,
  makeKeys,
  makeTenant,
  metricOf,
  sessionsOf,
  sql,
  startApp,
  type TestApp,
  TestGateway,
  type TestTenant,
  until,
} from '../test-kit.ts'
import { type LeasedDb, makeDb } from './db.ts'

const server = await startTestPostgres()
t.teardown(() => server.stop())
const keys = makeKeys()
const gateway = new TestGateway(keys)

const whoami = (app: TestApp, tenant: TestTenant) =>
  gateway.call(app.port, tenant, 'GET', '/api/whoami')

async function start(t: Test, env: Record<string, string> = {}): Promise<TestApp> {
  const app = await startApp(keys, env)
  t.teardown(() => app.stop())
  return app
}

async function startLink(t: Test) {
  const link = await startFaultProxy(server)
  t.teardown(() => link.stop())
  return link
}

function dbOf(t: Test, app: TestApp, tenant: TestTenant): LeasedDb {
  const claims = claimsOf(tenant)
  const db = makeDb(() => app.pools.lease(claims))
  t.teardown(() => db.release())
  return db
}

t.test('a role with one connection serves all requests of its tenant, one by one', async t => {
  const app = await start(t)
  const tenant = await makeTenant(server, 'single')
  await sql(server, 'postgres', `ALTER ROLE ${tenant.db.user} CONNECTION LIMIT 1`)
  const answers = await Promise.all(Array.from({ length: 20 }, () => whoami(app, tenant)))
  t.strictSame([...new Set(answers.map(({ status }) => status))], [200])
  t.equal(await sessionsOf(server, tenant), 1)
  t.equal(app.pools.figures.breakersOpen, 0)
})

t.test('a database that is down is tried now and then, and disturbs no other tenant', async t => {
  const app = await start(t, { BREAKER_BACKOFF_MS: '60000', BREAKER_BACKOFF_MAX_MS: '60000' })
  const link = await startLink(t)
  const good = await makeTenant(server, 'good')
  const tenant = await makeTenant(server, 'down')
  const direct = tenant.db
  tenant.db = { ...tenant.db, port: link.port }
  link.target('127.0.0.1', 1)
  for (let i = 0; i < 3; i += 1) {
    const answer = await whoami(app, tenant)
    t.match(answer.json, { code: 'TENANT_DATABASE_UNAVAILABLE' })
    t.match(answer.headers, { 'x-tenant-fault': 'database_unreachable', 'retry-after': '5' })
  }
  t.equal(link.accepted, 3)
  const answers = await Promise.all(Array.from({ length: 30 }, () => whoami(app, tenant)))
  for (const { status, headers } of answers) {
    t.equal(status, 503)
    const waitS = Number(headers['retry-after'])
    t.ok(waitS > 20 && waitS <= 60, `${waitS} s, what is left of the back-off`)
  }
  t.equal(link.accepted, 3, 'nobody dials while the breaker is open')
  t.equal(await metricOf(app, 'doorman_app_breakers_open{kind="database"}'), 1)
  t.equal((await whoami(app, good)).status, 200)
  const files = await gateway.call(app.port, tenant, 'GET', '/api/files')
  t.equal(files.json.code, 'TENANT_BUCKET_MISSING', 'what needs no database is served as ever')

  tenant.db = direct
  tenant.version = 2
  t.equal((await whoami(app, tenant)).status, 200, 'new details have a breaker of their own')
})

t.test('after the back-off one request probes; once it succeeds all are served', async t => {
  const app = await start(t, {
    BREAKER_BACKOFF_MS: '200',
    BREAKER_BACKOFF_MAX_MS: '200',
    DB_CONNECT_TIMEOUT_MS: '1000',
  })
  const link = await startLink(t)
  const tenant = await makeTenant(server, 'probed')
  tenant.db = { ...tenant.db, port: link.port }
  link.target('127.0.0.1', 1)
  for (let i = 0; i < 3; i += 1) await whoami(app, tenant)
  t.equal(app.pools.figures.breakersOpen, 1)
  link.set({ stall: true })
  const probing: Promise<unknown>[] = []
  await until('a probe', () => {
    probing.push(whoami(app, tenant))
    return link.accepted === 4
  })
  const others = await Promise.all(Array.from({ length: 20 }, () => whoami(app, tenant)))
  for (const { status, headers } of others) {
    t.equal(status, 503)
    t.ok(Number(headers['retry-after']) >= 1)
  }
  t.equal(link.accepted, 4, 'one probe at a time')
  await Promise.all(probing)
  await link.restore()
  link.target(server.host, server.port)
  await until('it is served', async () => (await whoami(app, tenant)).status === 200)
  t.equal(app.pools.figures.breakersOpen, 0)
  const all = await Promise.all(Array.from({ length: 20 }, () => whoami(app, tenant)))
  t.strictSame([...new Set(all.map(({ status }) => status))], [200])
})

t.test('each refusal tells the gateway what of the tenant failed', async t => {
  const app = await start(t)
  const tenant = await makeTenant(server, 'told')
  const reasonOf = async (change: Partial<TestTenant['db']>) => {
    const answer = await whoami(app, { ...tenant, db: { ...tenant.db, ...change } })
    t.equal(answer.status, 503)
    t.notMatch(answer.text, /x-tenant|database_/)
    return answer.headers['x-tenant-fault']
  }
  t.equal(await reasonOf({ password: 'old' }), 'database_auth')
  t.equal(await reasonOf({ name: 'nowhere' }), 'database_missing')
  t.equal(await reasonOf({ port: 1 }), 'database_unreachable')
  await sql(server, 'postgres', `ALTER ROLE ${tenant.db.user} CONNECTION LIMIT 0`)
  t.equal(await reasonOf({}), 'database_full')
  t.equal(await metricOf(app, 'doorman_app_tenant_faults_total{reason="database_auth"}'), 1)
})

t.test('details that cannot even be dialled take no slot', async t => {
  const app = await start(t)
  const tenant = await makeTenant(server, 'undialled')
  tenant.db = { ...tenant.db, port: 70_000 }
  const db = dbOf(t, app, tenant)
  for (let i = 0; i < 3; i += 1) {
    await t.rejects(db.query('SELECT 1'), { code: 'TENANT_DATABASE_UNAVAILABLE' })
  }
  await until('no slot is held', () => app.pools.figures.connections === 0)
})

t.test('a server has a budget of its own; a full one delays no tenant of another', async t => {
  const app = await start(t, { DB_HOST_POOL_MAX: '2', DB_CHECKOUT_TIMEOUT_MS: '400' })
  const [crowded, quiet] = [await startLink(t), await startLink(t)]
  const tenants: TestTenant[] = []
  for (const [i, link] of [crowded, crowded, crowded, quiet].entries()) {
    const tenant = await makeTenant(server, `host${i}`)
    tenants.push({ ...tenant, db: { ...tenant.db, port: link.port } })
  }
  const [a, b, c, d] = tenants as [TestTenant, TestTenant, TestTenant, TestTenant]
  for (const tenant of [a, b, c, d, a, b, c]) {
    t.equal((await whoami(app, tenant)).status, 200, 'idle ones of others make room')
    t.ok(crowded.connections <= 2)
  }
  const holders = [a, b].map(tenant => dbOf(t, app, tenant).query('SELECT pg_sleep(1.2)'))
  await until('both are in use', () => app.pools.figures.active === 2)
  const refused = await whoami(app, c)
  t.match(refused.json, { code: 'POOL_EXHAUSTED' })
  t.match(refused.headers, { 'x-tenant-fault': 'pool_exhausted', 'retry-after': '1' })
  t.equal((await whoami(app, d)).status, 200, 'while the other server has room')
  t.equal(await metricOf(app, 'doorman_app_db_host_connections_used'), 2)
  await Promise.all(holders)
  t.equal((await whoami(app, c)).status, 200)
  t.ok(crowded.connections <= 2)
})

t.test('the many requests of one tenant do not stand before the first of another', async t => {
  const app = await start(t, { DB_GLOBAL_POOL_MAX: '1', DB_CHECKOUT_TIMEOUT_MS: '30000' })
  const [greedy, ...modest] = await Promise.all(
    ['greedy', 'modest1', 'modest2'].map(key => makeTenant(server, key)),
  )
  const greedyDb = dbOf(t, app, greedy as TestTenant)
  let served = 0
  const flood = Array.from({ length: 60 }, async () => {
    await greedyDb.query('SELECT pg_sleep(0.03)')
    served += 1
  })
  await until('the flood runs', () => served > 0)
  await Promise.all(modest.map(tenant => dbOf(t, app, tenant).query('SELECT 1')))
  t.ok(served < 30, `${served} of 60 came first`)
  await Promise.all(flood)
  t.equal(served, 60)
  t.ok((await metricOf(app, 'doorman_app_db_evictions_total{reason="turn"}')) >= 1)
  t.equal(app.pools.figures.poolsInLine, 0)
})

t.test('a client that leaves while it waits is not waited for', async t => {
  const app = await start(t, { DB_CHECKOUT_TIMEOUT_MS: '30000' })
  const tenant = await makeTenant(server, 'leaving')
  tenant.db = { ...tenant.db, pool_max: 1 }
  const slow = dbOf(t, app, tenant).query('SELECT pg_sleep(0.5)')
  await until('it runs', () => app.pools.figures.active === 1)
  const controller = new AbortController()
  const claims = claimsOf(tenant)
  const db = makeDb(
    () => app.pools.lease(claims),
    () => controller.signal,
  )
  const waiting = db.query('SELECT 1')
  t.equal(app.pools.figures.waiting, 1)
  controller.abort()
  await t.rejects(waiting, { code: 'BAD_REQUEST' })
  t.equal(app.pools.figures.waiting, 0)
  await t.rejects(db.query('SELECT 1'), { code: 'BAD_REQUEST' }, 'and gets nothing afterwards')
  db.release()
  await slow
})

t.test('whatever breaks, every slot comes back', async t => {
  const app = await start(t, {
    DB_GLOBAL_POOL_MAX: '4',
    DB_HOST_POOL_MAX: '3',
    DB_CONNECTION_IDLE_MS: '100',
    DB_CONNECT_TIMEOUT_MS: '300',
    DB_CHECKOUT_TIMEOUT_MS: '300',
    BREAKER_BACKOFF_MS: '50',
    BREAKER_BACKOFF_MAX_MS: '50',
  })
  const links = [await startLink(t), await startLink(t)]
  const tenants = await Promise.all(['c1', 'c2', 'c3', 'c4'].map(key => makeTenant(server, key)))
  const results = { served: 0, failed: 0 }
  let most = 0
  let isOver = false
  const load = tenants.flatMap((tenant, i) => {
    tenant.db = { ...tenant.db, port: links[i % 2]?.port ?? 0 }
    const claims = claimsOf(tenant)
    return Array.from({ length: 4 }, async (_, j) => {
      for (let n = 0; !isOver; n += 1) {
        const controller = new AbortController()
        const db = makeDb(
          () => app.pools.lease(claims),
          () => controller.signal,
        )
        if ((n + j) % 5 === 0) setTimeout(() => controller.abort(), n % 7)
        const text = `SELECT pg_sleep(${(n % 5) / 1000})`
        const asked = n % 2 === 0 ? db.query(text) : db.transaction(tx => tx.query(text))
        await asked.then(
          () => {
            results.served += 1
          },
          () => {
            results.failed += 1
          },
        )
        db.release()
        most = Math.max(most, app.pools.figures.connections)
        // What is refused at once must not keep the faults from being injected.
        await new Promise(resolve => setImmediate(resolve))
      }
    })
  })
  const [first, second] = links as [(typeof links)[0], (typeof links)[0]]
  const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))
  for (let round = 0; round < 4; round += 1) {
    await pause(60)
    first.resetAll()
    await pause(60)
    second.set({ stall: true })
    first.cut()
    await pause(120)
    await first.restore()
    await second.restore()
  }
  const before = results.served
  await until('it is served again', () => results.served > before + 20, 20_000)
  isOver = true
  await Promise.all(load)
  t.ok(results.failed > 0 && results.served > 0)
  t.equal(most, 4, 'the budget is used, and kept')
  await until('no slot is held', () => app.pools.figures.connections === 0)
  t.match(app.pools.figures, {
    ...{ connecting: 0, idle: 0, active: 0, closing: 0, leases: 0, waiting: 0, poolsInLine: 0 },
    connectionsOfBusiestServer: 0,
  })
})

t.test('statements and idle transactions have time-outs, and their connection goes on', async t => {
  const app = await start(t, {
    DB_STATEMENT_TIMEOUT_MS: '150',
    DB_IDLE_IN_TRANSACTION_TIMEOUT_MS: '150',
  })
  const tenant = await makeTenant(server, 'timed')
  const db = dbOf(t, app, tenant)
  const pid = async () =>
    (await db.query<{ pid: number }>('SELECT pg_backend_pid() AS pid'))[0]?.pid
  const before = await pid()
  await t.rejects(db.query('SELECT pg_sleep(5)'), {
    code: 'TENANT_DATABASE_UNAVAILABLE',
    tenantFault: 'database_timeout',
  })
  t.equal(await pid(), before, 'the same session serves on')
  t.equal(await metricOf(app, 'doorman_app_db_timeouts_total{kind="statement"}'), 1)

  const idle = db.transaction(async tx => {
    await tx.query('INSERT INTO projects (name) VALUES ($1)', ['lost'])
    await until('the server cuts it', async () => (await sessionsOf(server, tenant)) === 0)
    await tx.query('SELECT 1')
  })
  await t.rejects(idle, { code: 'TENANT_DATABASE_UNAVAILABLE' })
  t.strictSame(await db.query('SELECT FROM projects'), [])
  t.equal(await metricOf(app, 'doorman_app_db_timeouts_total{kind="idle_in_transaction"}'), 1)
})

t.test('a login carries no option that a pooler would refuse', async t => {
  const heard = createServer(socket => {
    socket.on('error', () => {})
    socket.once('data', packet => {
      // Length and version, then name, value, … each ended by a zero, and one more.
      const words = packet.subarray(8).toString().split('\0')
      names.push(...words.filter((word, i) => i % 2 === 0 && word !== ''))
      socket.destroy()
    })
  })
  const names: string[] = []
  heard.listen(0, '127.0.0.1')
  await once(heard, 'listening')
  t.teardown(() => heard.close())
  const app = await start(t)
  const tenant = await makeTenant(server, 'pooled')
  tenant.db = { ...tenant.db, port: (heard.address() as AddressInfo).port }
  t.equal((await whoami(app, tenant)).status, 503)
  // What PgBouncer takes without a setting: its manual, ignore_startup_parameters.
  const taken = ['user', 'database', 'client_encoding', 'application_name']
  t.strictSame(
    names.filter(name => !taken.includes(name)),
    [],
  )
  t.ok(names.includes('user'))
})
