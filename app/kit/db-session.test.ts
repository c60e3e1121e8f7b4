import { request } from 'node:http'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import { startFaultProxy } from '../../registry/fault-proxy.ts'
import {
  claimsOf,
  makeKeys,
  makeTenant,
  metricOf,
  sql,
  startApp,
  type TestApp,
  TestGateway,
  type TestTenant,
  until,
} from '../test-kit.ts'
import { makeDb } from './db.ts'

const server = await startTestPostgres()
t.teardown(() => server.stop())
const keys = makeKeys()
const gateway = new TestGateway(keys)

async function start(t: Test, env: Record<string, string> = {}): Promise<TestApp> {
  const app = await startApp(keys, env)
  t.teardown(() => app.stop())
  return app
}

/** The tenant's sessions that run a statement now. */
async function running(tenant: TestTenant): Promise<number[]> {
  const rows = await sql(
    server,
    'postgres',
    `SELECT pid FROM pg_stat_activity WHERE datname = $1 AND usename = $2 AND state <> 'idle'`,
    [tenant.db.name, tenant.db.user],
  )
  return rows.map(({ pid }) => pid)
}

/** A request's database with the means to leave it. */
function visitor(app: TestApp, tenant: TestTenant) {
  const controller = new AbortController()
  const claims = claimsOf(tenant)
  const db = makeDb(
    () => app.pools.lease(claims),
    () => controller.signal,
  )
  return { db, leave: () => controller.abort() }
}

const cancels = (app: TestApp, result: string) =>
  metricOf(app, `doorman_app_db_cancels_total{result="${result}"}`)

t.test('a client that leaves ends its statement; its connection serves the next', async t => {
  const app = await start(t)
  const tenant = await makeTenant(server, 'leaver')
  t.equal((await gateway.call(app.port, tenant, 'GET', '/api/whoami')).status, 200)
  const locker = new pg.Client({ connectionString: server.url(tenant.db.name) })
  await locker.connect()
  await locker.query('BEGIN; LOCK TABLE projects')
  const target = '/api/projects'
  const body = JSON.stringify({ name: 'never' })
  for (const method of ['GET', 'POST']) {
    const signed = await gateway.sign(tenant, method, target)
    const outgoing = request({
      host: '127.0.0.1',
      port: app.port,
      method,
      path: target,
      headers: ['host', 'app', 'content-type', 'application/json', ...signed].concat(
        method === 'POST' ? ['content-length', String(body.length)] : [],
      ),
    })
    outgoing.on('error', () => {})
    outgoing.end(method === 'POST' ? body : undefined)
    await until(`${method} waits for the lock`, async () => (await running(tenant)).length === 1)
    outgoing.destroy()
    const leftAt = performance.now()
    await until('it is gone', async () => (await running(tenant)).length === 0, 1000)
    t.ok(performance.now() - leftAt < 1000)
    await until('its connection is back', () => app.pools.figures.idle === 1)
    t.equal(app.pools.figures.leases, 0)
  }
  t.equal(await cancels(app, 'cancelled'), 2)
  t.equal(app.pools.figures.connections, 1, 'never a second connection')
  await locker.end()
  const list = await gateway.call(app.port, tenant, 'GET', target)
  t.same(list.json.result.items, [], 'the transaction was rolled back')
})

t.test('a cancel never meets another statement', async t => {
  const app = await start(t, { DB_CHECKOUT_TIMEOUT_MS: '60000' })
  const tenant = await makeTenant(server, 'crowd')
  tenant.db = { ...tenant.db, pool_max: 3 }
  let left = 0
  const work = async (i: number) => {
    const { db, leave } = visitor(app, tenant)
    const isLeaving = i % 2 === 0
    const sleepMs = i % 8 === 0 ? 60 : i % 7
    const statement = `SELECT ${i} AS i, pg_sleep(${sleepMs / 1000})`
    const asked =
      i % 4 < 2
        ? db.query<{ i: number }>(statement)
        : db.transaction(tx => tx.query<{ i: number }>(statement))
    // Some leave before their statement is sent, most within it, some right at its end.
    if (isLeaving) setTimeout(leave, (i * 13) % 11)
    try {
      const [row] = await asked
      t.equal(row?.i, i, 'its own answer')
    } catch (error) {
      t.ok(isLeaving, `${i} stayed: ${error}`)
      t.match(error, { code: 'BAD_REQUEST' })
      left += 1
    } finally {
      db.release()
    }
  }
  // Eight at a time, so that waits are short and most leave within their statement.
  let next = 0
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      while (next < 800) await work(next++)
    }),
  )
  t.ok(left > 50, `${left} were cut short`)
  const cancelled = await cancels(app, 'cancelled')
  // How many depends on how busy the machine is; none would show nothing.
  t.ok(cancelled > 0, `${cancelled} by the server`)
  t.equal(await cancels(app, 'failed'), 0)
  await until('all are back', () => app.pools.figures.active === 0)
  t.strictSame(await running(tenant), [])
})

t.test('where no cancel gets through, the connection is cut and not given on', async t => {
  const app = await start(t)
  const link = await startFaultProxy(server)
  t.teardown(() => link.stop())
  const tenant = await makeTenant(server, 'hung')
  tenant.db = { ...tenant.db, port: link.port }
  const { db, leave } = visitor(app, tenant)
  await db.query('SELECT 1')
  link.set({ stall: true })
  const hanging = db.query('SELECT 1')
  // A turn later the statement is on its way.
  await new Promise(resolve => setImmediate(resolve))
  leave()
  await t.rejects(hanging, { code: 'BAD_REQUEST' })
  db.release()
  await until('its socket is gone', () => app.pools.figures.connections === 0, 4000)
  t.equal(await cancels(app, 'failed'), 1)
  await link.restore()
  t.equal((await gateway.call(app.port, tenant, 'GET', '/api/whoami')).status, 200)
})
