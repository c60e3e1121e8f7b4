import { createServer, type Socket } from 'node:net'
import t from 'tap'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import {
  claimsOf,
  makeKeys,
  makeTenant,
  sessionsOf,
  sql,
  startApp,
  TestGateway,
  type TestTenant,
  until,
} from '../test-kit.ts'
import { makeDb } from './db.ts'

const server = await startTestPostgres()
t.teardown(() => server.stop())
const keys = makeKeys()
const gateway = new TestGateway(keys)

const whoami = (port: number, tenant: TestTenant) =>
  gateway.call(port, tenant, 'GET', '/api/whoami')

t.test(
  'a rotated password gets a new pool; the old one ends without cutting its query',
  async t => {
    const app = await startApp(keys)
    t.teardown(() => app.stop())
    const tenant = await makeTenant(server, 'rotating')
    t.equal((await whoami(app.port, tenant)).status, 200)
    const oldClaims = claimsOf(tenant)
    const db = makeDb(() => app.pools.lease(oldClaims))
    const [mine] = await db.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    t.ok(mine)
    const running = db.query<{ done: boolean }>('SELECT true AS done FROM pg_sleep(0.8)')

    await sql(server, 'postgres', `ALTER ROLE ${tenant.db.user} PASSWORD 'rotated'`)
    tenant.db = { ...tenant.db, password: 'rotated' }
    tenant.version = 2
    t.equal((await whoami(app.port, tenant)).status, 200, 'new details work at once')
    t.equal(app.pools.figures.pools, 2, 'the old pool lives while it is leased')
    t.same(await running, [{ done: true }], 'and its query comes to its end')
    db.release()
    await until('the old pool is gone', () => app.pools.figures.pools === 1)
    await until('its sessions too', async () => (await sessionsOf(server, tenant)) === 1)
    await t.rejects(db.query('SELECT 1'), { code: 'INTERNAL' }, 'a released lease is dead')
  },
)

t.test('a request admitted before a rotation does not bring the old pool back', async t => {
  const app = await startApp(keys)
  t.teardown(() => app.stop())
  const tenant = await makeTenant(server, 'late')
  const old = claimsOf(tenant)
  tenant.version = 2
  tenant.db = { ...tenant.db, pool_max: 2 }
  t.equal((await whoami(app.port, tenant)).status, 200)
  const late = app.pools.lease(old)
  t.equal(app.pools.figures.pools, 2)
  late.release()
  t.equal(app.pools.figures.pools, 1)
})

t.test(
  'a wrong password, a missing database, a closed port: 503 of the tenant, nothing else',
  async t => {
    const app = await startApp(keys, { DB_CONNECT_TIMEOUT_MS: '800' })
    t.teardown(() => app.stop())
    const good = await makeTenant(server, 'good')
    const breakages: ((db: TestTenant['db']) => TestTenant['db'])[] = [
      db => ({ ...db, password: 'wrong' }),
      db => ({ ...db, password: '' }),
      db => ({ ...db, name: 'missing' }),
      db => ({ ...db, port: 1 }),
      db => ({ ...db, host: 'no-such-host.invalid' }),
      db => ({ ...db, ssl: 'verify-full' }),
    ]
    for (const [i, breakIt] of breakages.entries()) {
      const tenant = await makeTenant(server, `broken${i}`)
      tenant.db = breakIt(tenant.db)
      const answer = await whoami(app.port, tenant)
      t.equal(answer.status, 503, `case ${i}`)
      t.equal(answer.json.code, 'TENANT_DATABASE_UNAVAILABLE', `case ${i}`)
      t.equal(answer.headers['retry-after'], '5')
      t.notMatch(answer.text, /password|no-such-host|SSL/i, 'no detail gets out')
    }
    t.equal((await whoami(app.port, good)).status, 200)
    await until('no socket is left behind', () => app.pools.figures.connections === 1)
  },
)

t.test(
  'a tenant database that hangs delays nobody else, and its sockets do not pile up',
  async t => {
    const held = new Set<Socket>()
    const silent = createServer(socket => {
      held.add(socket.resume())
      socket.on('error', () => {})
      socket.on('close', () => held.delete(socket))
    })
    await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve))
    t.teardown(() => silent.close())
    const app = await startApp(keys, {
      DB_CONNECT_TIMEOUT_MS: '400',
      DB_CHECKOUT_TIMEOUT_MS: '400',
    })
    t.teardown(() => app.stop())
    const good = await makeTenant(server, 'alive')
    const dead = await makeTenant(server, 'dead')
    dead.db = { ...dead.db, port: (silent.address() as { port: number }).port }
    t.equal((await whoami(app.port, good)).status, 200)

    const hanging = Array.from({ length: 20 }, () => whoami(app.port, dead))
    await until('the dead one is dialled', () => held.size > 0)
    let slowestMs = 0
    for (let i = 0; i < 10; i += 1) {
      const startedAt = performance.now()
      t.equal((await whoami(app.port, good)).status, 200)
      slowestMs = Math.max(slowestMs, performance.now() - startedAt)
    }
    t.ok(slowestMs < 300, `slowest good request ${slowestMs.toFixed(0)} ms`)
    for (const answer of await Promise.all(hanging)) t.equal(answer.status, 503)
    const startedAt = performance.now()
    t.equal((await whoami(app.port, dead)).status, 503)
    t.ok(performance.now() - startedAt < 300, 'right after a failure the next fails at once')
    await until('late sockets are closed', () => held.size === 0)
    t.equal(app.pools.figures.connections, 1)
  },
)

t.test('a full tenant database is a 503, and works again when there is room', async t => {
  const app = await startApp(keys)
  t.teardown(() => app.stop())
  const tenant = await makeTenant(server, 'full')
  await sql(server, 'postgres', `ALTER ROLE ${tenant.db.user} CONNECTION LIMIT 0`)
  const answer = await whoami(app.port, tenant)
  t.equal(answer.json.code, 'TENANT_DATABASE_UNAVAILABLE')
  await sql(server, 'postgres', `ALTER ROLE ${tenant.db.user} CONNECTION LIMIT 5`)
  await until('it recovers', async () => (await whoami(app.port, tenant)).status === 200)
})

t.test('a checkout waits for a bounded time, then POOL_EXHAUSTED; the pool survives', async t => {
  const app = await startApp(keys, { DB_CHECKOUT_TIMEOUT_MS: '200', DB_CHECKOUT_WAITERS_MAX: '1' })
  t.teardown(() => app.stop())
  const tenant = await makeTenant(server, 'busy')
  tenant.db = { ...tenant.db, pool_max: 1 }
  const db = makeDb(() => app.pools.lease(claimsOf(tenant)))
  const slow = db.query('SELECT pg_sleep(0.7)')
  await until('the query holds the connection', () => app.pools.figures.connections === 1)
  const answers = await Promise.all([whoami(app.port, tenant), whoami(app.port, tenant)])
  for (const answer of answers) {
    t.equal(answer.status, 503)
    t.equal(answer.json.code, 'POOL_EXHAUSTED')
    t.equal(answer.headers['retry-after'], '1')
  }
  await slow
  db.release()
  t.equal((await whoami(app.port, tenant)).status, 200)
  t.equal(app.pools.figures.connections, 1, 'never more than pool_max')
})

t.test('the replica’s budget holds for all tenants together; idle ones make room', async t => {
  const app = await startApp(keys, { DB_GLOBAL_POOL_MAX: '2', DB_CHECKOUT_TIMEOUT_MS: '1000' })
  t.teardown(() => app.stop())
  const tenants = await Promise.all(['b1', 'b2', 'b3', 'b4'].map(key => makeTenant(server, key)))
  for (const tenant of [...tenants, ...tenants]) {
    t.equal((await whoami(app.port, tenant)).status, 200)
    t.ok(app.pools.figures.connections <= 2)
  }
  const flood = tenants.flatMap(tenant => [1, 2, 3].map(() => whoami(app.port, tenant)))
  const answers = await Promise.all(flood)
  const failed = answers.filter(({ status }) => status !== 200)
  for (const { json } of failed) t.equal(json.code, 'POOL_EXHAUSTED')
  t.ok(answers.length - failed.length >= 4)
  t.ok(app.pools.figures.connections <= 2)
  t.equal(app.pools.figures.leases, 0)
  t.equal(app.pools.figures.waiting, 0)
  for (const tenant of tenants) t.equal((await whoami(app.port, tenant)).status, 200)
})

t.test('idle connections and idle pools go; the number of pools is bounded', async t => {
  const app = await startApp(keys, {
    DB_POOLS_MAX: '2',
    DB_CONNECTION_IDLE_MS: '100',
    DB_POOL_IDLE_MS: '300',
  })
  t.teardown(() => app.stop())
  for (const key of ['i1', 'i2', 'i3']) {
    t.equal((await whoami(app.port, await makeTenant(server, key))).status, 200)
    t.ok(app.pools.figures.pools <= 2)
  }
  await until('connections at 0', () => app.pools.figures.connections === 0)
  await until('pools at 0', () => app.pools.figures.pools === 0)
})

t.test('a backend that dies under a query costs that request and no more', async t => {
  const app = await startApp(keys)
  t.teardown(() => app.stop())
  const tenant = await makeTenant(server, 'killed')
  const db = makeDb(() => app.pools.lease(claimsOf(tenant)))
  const doomed = db.query('SELECT pg_terminate_backend(pg_backend_pid())')
  await t.rejects(doomed, { code: 'TENANT_DATABASE_UNAVAILABLE' })
  db.release()
  t.equal((await whoami(app.port, tenant)).status, 200)
  await sql(
    server,
    'postgres',
    'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1',
    [tenant.db.name],
  )
  await until('the idle one is noticed', () => app.pools.figures.connections === 0)
  t.equal((await whoami(app.port, tenant)).status, 200)
})

t.test(
  'a transaction commits once, rolls back on error, and cannot be used afterwards',
  async t => {
    const app = await startApp(keys)
    t.teardown(() => app.stop())
    const tenant = await makeTenant(server, 'tx')
    const db = makeDb(() => app.pools.lease(claimsOf(tenant)))
    const count = async () => (await db.query('SELECT FROM projects')).length
    await db.transaction(tx => tx.query("INSERT INTO projects (name) VALUES ('a')"))
    t.equal(await count(), 1)
    await t.rejects(
      db.transaction(async tx => {
        await tx.query("INSERT INTO projects (name) VALUES ('b')")
        throw new Error('later')
      }),
      { message: 'later' },
    )
    t.equal(await count(), 1)
    const swallowing = db.transaction(async tx => {
      await tx.query("INSERT INTO projects (name) VALUES ('c')")
      await tx.query('SELECT nonsense').catch(() => {})
    })
    await t.rejects(swallowing, { code: 'INTERNAL' }, 'a swallowed failure is no commit')
    t.equal(await count(), 1)
    let escaped: Parameters<Parameters<typeof db.transaction>[0]>[0] | undefined
    await db.transaction(async tx => {
      escaped = tx
    })
    t.equal(app.pools.figures.connections, 1)
    await t.rejects(async () => escaped?.query('SELECT 1'), { code: 'INTERNAL' })
    db.release()
  },
)

t.test(
  'in production a tenant host on the machine itself is refused unless it is listed',
  async t => {
    const tenant = await makeTenant(server, 'local')
    const strict = await startApp(keys, { NODE_ENV: 'production' })
    t.teardown(() => strict.stop())
    for (const host of ['127.0.0.1', 'localhost', '/var/run/postgresql', '::ffff:127.0.0.1']) {
      const answer = await whoami(strict.port, { ...tenant, db: { ...tenant.db, host } })
      t.equal(answer.json.code, 'TENANT_CONFIG_INVALID', host)
    }
    const listed = await startApp(keys, {
      NODE_ENV: 'production',
      TENANT_ADDRESS_ALLOW: '127.0.0.0/8,::1',
    })
    t.teardown(() => listed.stop())
    for (const host of ['127.0.0.1', 'localhost']) {
      const answer = await whoami(listed.port, { ...tenant, db: { ...tenant.db, host } })
      t.equal(answer.status, 200, host)
    }
  },
)
