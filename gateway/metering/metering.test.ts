import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import pg from 'pg'
import t from 'tap'
import { WebSocketServer } from 'ws'
import { startFaultProxy } from '../../registry/fault-proxy.ts'
import { makeLog } from '../../registry/lib/log.ts'
import type { Tenant } from '../../registry/tenant.ts'
import { applyUsage, countPeople, type UsageBatch } from '../../registry/usage-batch.ts'
import { rawExchange, startGateway, startUpstream, startWorld, until } from '../test-kit.ts'
import { Meter } from './meter.ts'
import { UsageWriter } from './usage-writer.ts'

const world = await startWorld()
t.teardown(world.close)
const upstream = await startUpstream()
t.teardown(() => upstream.close())
const registry = new pg.Client({ connectionString: world.registryUrl })
registry.on('error', () => {})
await registry.connect()
t.teardown(() => registry.end())

const env = { ...world.env, APP_UPSTREAMS: upstream.origin, METERING_FLUSH_MS: '100' }

const rowsOf = async (tenant: { id: string }) =>
  (
    await registry.query(
      `SELECT *, to_char(date, 'YYYY-MM-DD') AS date FROM customer_usage_daily
       WHERE tenant_id = $1 ORDER BY customer_usage_daily.date`,
      [tenant.id],
    )
  ).rows

/** All days together, as numbers: a test may run over midnight. */
async function usageOf(tenant: { id: string }): Promise<Record<string, number>> {
  const sum: Record<string, number> = {}
  for (const row of await rowsOf(tenant)) {
    for (const [name, value] of Object.entries(row)) {
      if (name !== 'tenant_id' && name !== 'date') sum[name] = (sum[name] ?? 0) + Number(value)
    }
  }
  return sum
}

const metricOf = async (gateway: { internalUrl: string }, line: RegExp) =>
  Number(line.exec(await (await fetch(`${gateway.internalUrl}/metrics`)).text())?.[1])

t.test('what is in the Registry is what was served, and no client sees x-usage', async t => {
  const gateway = await startGateway(env)
  t.teardown(() => gateway.stop())
  const [acme, globex] = [await world.createTenant('acme'), await world.createTenant('globex')]
  upstream.respond = (req, res) => {
    req.resume().on('end', () => {
      const status = Number(new URL(req.url ?? '', 'http://a').searchParams.get('status') ?? 200)
      t.equal(req.headers['x-usage'], undefined, 'a client’s own does not get through')
      res.writeHead(status, { 'X-Usage': 'pdf_generated=2, emails=3', trailer: 'x-usage' })
      res.write('hello')
      res.addTrailers({ 'x-usage': 'emails=1000' })
      res.end()
    })
  }
  const ask = async (tenant: Tenant, user: string, status = 200, body = '') => {
    const answer = await fetch(`${gateway.url}/api/x?status=${status}`, {
      method: 'POST',
      body,
      headers: { authorization: `Bearer ${world.token(tenant, { id: user })}`, 'x-usage': 'sms=9' },
    })
    t.equal(answer.status, status)
    t.equal(answer.headers.get('x-usage'), null)
    await answer.arrayBuffer()
  }
  for (const status of [200, 201, 404, 500]) await ask(acme, 'u1', status, 'four')
  await ask(acme, 'u2')
  await ask(globex, 'u1')
  const raw = `GET /api/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${world.token(globex)}\r\nConnection: close\r\n\r\n`
  t.notMatch(await rawExchange(gateway.port, raw), /x-usage|emails/i, 'nor in trailers')
  const denied = await fetch(`${gateway.url}/api/x`, { headers: { authorization: 'Bearer no' } })
  t.equal(denied.status, 401, 'of no tenant, so nobody’s')
  await until(async () => (await usageOf(globex)).api_requests === 2)
  const used = { api_requests: 4, responses_2xx: 3, responses_4xx: 1, responses_5xx: 1 }
  const moved = { bytes_in: 12, bytes_out: 20, pdf_generated: 8, active_users: 2, users_named: 2 }
  t.match(await usageOf(acme), { ...used, ...moved, requests_refused: 0 })
  t.match(await usageOf(globex), { api_requests: 2, pdf_generated: 4, active_users: 1 })
  const { rows } = await registry.query(
    'SELECT name, sum(value)::integer AS value FROM customer_usage_counters WHERE tenant_id = $1 GROUP BY 1',
    [acme.id],
  )
  t.strictSame(rows, [{ name: 'emails', value: 12 }])
  const people = await registry.query(
    'SELECT DISTINCT user_id FROM user_activity_daily WHERE tenant_id = $1 ORDER BY 1',
    [acme.id],
  )
  t.strictSame(people.rows, [{ user_id: 'u1' }, { user_id: 'u2' }])
  t.ok((await metricOf(gateway, /^doorman_metering_batches_total\{outcome="written"\} (\d+)/m)) > 0)
  for (let i = 0; i < 5; i++) await ask(globex, 'u1')
  await gateway.stop('SIGKILL')
  const left = (await usageOf(globex)).api_requests ?? 0
  t.ok(left >= 2 && left <= 7, `${left}: killed it loses what it had not written, and nothing else`)
})

t.test('SIGTERM writes all that was counted, sockets included', async t => {
  const gateway = await startGateway({ ...env, METERING_FLUSH_MS: '60000' })
  t.teardown(() => gateway.stop('SIGKILL'))
  const tenant = await world.createTenant('leaver')
  const sockets = new WebSocketServer({ server: upstream.server })
  t.teardown(() => sockets.close())
  upstream.respond = (_, res) => void res.end('{}')
  const headers = { authorization: `Bearer ${world.token(tenant)}` }
  for (let i = 0; i < 25; i++) {
    await (await fetch(`${gateway.url}/api/x`, { headers })).arrayBuffer()
  }
  const socket = connect(gateway.port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  socket.on('error', () => {})
  const key = Buffer.alloc(16).toString('base64')
  socket.write(
    `GET /api/ws HTTP/1.1\r\nHost: a\r\nAuthorization: ${headers.authorization}\r\nConnection: Upgrade\r\n` +
      `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
  )
  const [first] = await once(socket, 'data')
  t.match(String(first), /^HTTP\/1\.1 101/)
  const openedAt = performance.now()
  t.strictSame(await rowsOf(tenant), [], 'nothing is written yet')
  await new Promise(resolve => setTimeout(resolve, 100))
  const openMs = Math.floor(performance.now() - openedAt)
  t.equal(await gateway.stop(), 0)
  const used = await usageOf(tenant)
  t.match(used, { api_requests: 26, responses_2xx: 25, websockets: 1, active_users: 1 })
  t.ok((used.websocket_ms ?? 0) >= openMs - 1, 'at least what the test saw')
  t.ok((used.websocket_ms ?? 0) <= performance.now() - openedAt + 200)
})

t.test('a batch whose answer is lost is sent again and counts once', async t => {
  const { host, port } = { host: '127.0.0.1', port: world.postgres.port }
  const link = await startFaultProxy({ host, port })
  t.teardown(() => link.stop())
  const url = world.registryUrl.replace(`:${port}/`, `:${link.port}/`)
  const gateway = await startGateway({
    ...env,
    TENANT_REGISTRY_DB_URL: url,
    REGISTRY_QUERY_TIMEOUT_MS: '300',
  })
  t.teardown(() => gateway.stop('SIGKILL'))
  const tenant = await world.createTenant('unsure')
  upstream.respond = (_, res) => void res.end('{}')
  const headers = { authorization: `Bearer ${world.token(tenant)}` }
  const ask = async () => {
    const answer = await fetch(`${gateway.url}/api/x`, { headers })
    t.equal(answer.status, 200)
    await answer.arrayBuffer()
  }
  await ask()
  await until(async () => (await usageOf(tenant)).api_requests === 1)
  let sent = 1
  for (let round = 1; round <= 3; round++) {
    link.set({ stallAnswers: true })
    await ask()
    sent++
    // It is committed, and the gateway cannot know: what it says next is said again over a new connection.
    await until(async () => (await usageOf(tenant)).api_requests === sent)
    await ask()
    sent++
    link.resetAll()
    link.set({ stallAnswers: false })
    await until(async () => (await usageOf(tenant)).api_requests === sent)
  }
  link.cut()
  for (let i = 0; i < 5; i++, sent++) await ask()
  t.ok((await metricOf(gateway, /^doorman_metering_age_seconds (\S+)/m)) >= 0)
  await link.restore()
  await until(async () => (await usageOf(tenant)).api_requests === sent)
  t.equal(await gateway.stop(), 0)
  t.equal((await usageOf(tenant)).api_requests, sent)
})

const batchOf = (parts: Partial<UsageBatch>): UsageBatch => ({
  instance: randomUUID(),
  sequence: 1,
  sealedAtMs: Date.now(),
  ...{ days: [], users: [], sketches: [], counters: [] },
  ...parts,
})

t.test(
  'a batch counts once, however often, by whomever and in whatever order it comes',
  async t => {
    const id = randomUUID()
    const of = { tenant_id: id, date: '2026-03-01' }
    const batch = batchOf({ sequence: 7, days: [{ ...of, responses_2xx: 5 }] })
    const all = await Promise.all(Array.from({ length: 5 }, () => applyUsage(world.store, batch)))
    t.strictSame(all.sort(), ['applied', 'known', 'known', 'known', 'known'])
    t.equal(await applyUsage(world.store, { ...batch, sequence: 6 }), 'known', 'an earlier one too')
    t.match(await usageOf({ id }), { api_requests: 5 })
    const old = { ...batch, sequence: 8, sealedAtMs: Date.now() - 31 * 86_400_000 }
    t.equal(await applyUsage(world.store, old), 'late', 'nobody could say whether it is in')
    const ahead = { ...batch, sequence: 8, sealedAtMs: Date.now() + 2 * 86_400_000 }
    await t.rejects(applyUsage(world.store, ahead), /clock/)
    const bad = batchOf({ days: [{ tenant_id: 'x', date: '2026-03-01', responses_2xx: 5 }] })
    await t.rejects(applyUsage(world.store, bad), { code: 'VALIDATION_FAILED' })
    t.match(await usageOf({ id }), { api_requests: 5 })
  },
)

t.test('a batch that is refused holds up none after it', async t => {
  const id = randomUUID()
  const batches = [
    batchOf({ sequence: 1, days: [{ tenant_id: id, date: 'never', responses_2xx: 5 }] }),
    batchOf({ sequence: 2, days: [{ tenant_id: id, date: '2026-03-01', responses_2xx: 2 }] }),
  ]
  const writer = new UsageWriter({
    store: world.store,
    meter: {
      seal: () => batches.shift() ?? null,
      get unsealed() {
        return batches.length
      },
      ...{ written() {}, tend() {} },
    },
    log: makeLog('test', 'silent'),
    flushMs: 60_000,
  })
  t.equal(await writer.close(1000), true)
  t.equal(writer.refused, 1)
  t.match(await usageOf({ id }), { api_requests: 2 })
})

/** A request that the app has answered. */
const servedOf = (id: string) =>
  ({
    ...{ tenant: { id }, status: 200, principal: null, appUsage: null, errorCode: null },
    ...{ metered: null, bytesIn: 0, bytesOut: 0 },
  }) as never

t.test('a flush ends, however much is counted and stays open while it writes', async t => {
  const id = randomUUID()
  const clock = { now: Date.now, monotonic: () => performance.now() }
  const meter = new Meter({ instance: randomUUID(), usersExactMax: 10, clock })
  let statements = 0
  let isServing = true
  const query: typeof world.store.query = async (...statement) => {
    if (isServing) meter.answered(servedOf(id))
    // Would it never end, it ends here.
    if (++statements > 20) throw new Error('again and again')
    const rows = await world.store.query(...statement)
    // Of a socket that is open there is always more to count.
    await new Promise(resolve => setTimeout(resolve, 2))
    return rows
  }
  const log = makeLog('test', 'silent')
  const writer = new UsageWriter({ store: { query }, meter, log, flushMs: 60_000 })
  const socket = { ...(servedOf(id) as object), status: 101 } as never
  meter.answered(socket)
  meter.answered(servedOf(id))
  const startedAtMs = Date.now()
  await writer.flush()
  t.equal(statements, 1, 'what came meanwhile is for the next flush')
  t.match(await usageOf({ id }), { responses_2xx: 1, websockets: 1 })
  t.ok(writer.writtenAtMs >= startedAtMs, 'and does not make usage look unwritten')
  await writer.flush()
  t.equal(statements, 2)
  meter.finished(socket, 10)
  isServing = false
  t.equal(await writer.close(1000), true)
  t.match(await usageOf({ id }), { responses_2xx: 3, websockets: 1 }, 'nothing is left')
})

t.test('gateways that write the same rows at once never fail each other', async t => {
  const ids = Array.from({ length: 50 }, () => randomUUID())
  const writers = Array.from({ length: 8 }, () => randomUUID())
  await Promise.all(
    writers.map(async instance => {
      for (let sequence = 1; sequence <= 5; sequence++) {
        const days = ids.map(tenant_id => ({ tenant_id, date: '2026-03-01', responses_2xx: 1 }))
        const users = ids.map(tenant_id => ({
          ...{ tenant_id, date: '2026-03-01' },
          ...{ user_id: `${sequence}`, user_mark: 65 },
        }))
        const sketches = ids.slice(0, 3).map(tenant_id => ({
          ...{ tenant_id, date: '2026-03-01' },
          marks: [(sequence << 6) | 3],
        }))
        // In another order each time: the Registry sorts.
        if (sequence % 2 === 0) for (const list of [days, users, sketches]) list.reverse()
        const parts = { instance, sequence, days, users, sketches }
        t.equal(await applyUsage(world.store, batchOf(parts)), 'applied')
      }
    }),
  )
  for (const id of ids) t.match(await usageOf({ id }), { api_requests: 40, users_named: 5 })
})

t.test('to count people never waits for a batch that comes in, and so never fails one', async t => {
  const of = { tenant_id: randomUUID(), date: '2026-03-02' }
  const sketches = [{ ...of, marks: Array.from({ length: 100 }, (_, i) => (i << 6) | 1) }]
  const first = batchOf({ days: [{ ...of, responses_2xx: 1 }], sketches })
  t.equal(await applyUsage(world.store, first), 'applied')
  const day = [of.tenant_id, of.date]
  // As far as a batch is that has counted its days and comes to its sketches.
  await registry.query('BEGIN')
  await registry.query(
    'UPDATE customer_usage_daily SET responses_2xx = 2 WHERE tenant_id = $1 AND date = $2',
    day,
  )
  while ((await countPeople(world.store, 5)) === 5);
  const lock = 'SELECT FROM user_sketch_daily WHERE tenant_id = $1 AND date = $2 FOR UPDATE NOWAIT'
  t.equal((await registry.query(lock, day)).rowCount, 1)
  await registry.query('COMMIT')
  t.match(await usageOf({ id: of.tenant_id }), { active_users: 0 })
  while ((await countPeople(world.store, 5)) === 5);
  t.match(await usageOf({ id: of.tenant_id }), { active_users: 97 })
})

t.test('the people of a month are counted by reading each sketch once', async t => {
  const id = randomUUID()
  await registry.query(
    `INSERT INTO user_sketch_daily (tenant_id, date, registers, is_counted)
     SELECT $1, date '2026-03-01' + day, (
       SELECT decode(string_agg('0' || left(md5(day::text || i), 1), '' ORDER BY i), 'hex')
       FROM generate_series(1, 16384) AS i), true
     FROM generate_series(0, 3) AS day`,
    [id],
  )
  const readSoFar = async () => {
    await registry.query('SELECT pg_stat_force_next_flush()')
    const { rows } = await registry.query(
      `SELECT (toast_blks_hit + toast_blks_read)::int AS blocks FROM pg_statio_user_tables
       WHERE relname = 'user_sketch_daily'`,
    )
    return Number(rows[0]?.blocks)
  }
  const before = await readSoFar()
  const { rows } = await registry.query(
    `SELECT usage_people($1, date '2026-03-01', date '2026-04-01') AS people`,
    [id],
  )
  t.ok(Number(rows[0]?.people) > 10_000)
  // Eight blocks and an index for each; by register it were hundreds of thousands.
  const blocks = (await readSoFar()) - before
  t.ok(blocks > 0 && blocks < 200, `${blocks} blocks`)
})

t.test(
  'people are counted once over gateways: exactly while named, beyond it by a stated error',
  async t => {
    const meters = ['one', 'two'].map(
      () => new Meter({ instance: randomUUID(), usersExactMax: 300 }),
    )
    const see = (meter: Meter | undefined, id: string, user: number) =>
      meter?.answered({
        ...{ tenant: { id }, status: 200, principal: { sub: `user-${user}` } },
        ...{ appUsage: null, metered: null },
      } as never)
    const write = async () => {
      for (const meter of meters) {
        for (let batch = meter.seal(); batch !== null; batch = meter.seal()) {
          t.equal(await applyUsage(world.store, batch), 'applied')
        }
      }
      while ((await countPeople(world.store, 5)) === 5);
    }
    const few = randomUUID()
    for (let i = 0; i < 200; i++) see(meters[0], few, i)
    for (let i = 100; i < 250; i++) see(meters[1], few, i)
    await write()
    t.match(await usageOf({ id: few }), { active_users: 250, users_named: 250 })
    for (const people of [1000, 20_000]) {
      const id = randomUUID()
      // Each sees most of them, in an order of its own.
      for (let i = 0; i < people * 0.9; i++) see(meters[0], id, i)
      for (let i = people - 1; i >= people * 0.1; i--) see(meters[1], id, i)
      await write()
      const counted = (await usageOf({ id })).active_users ?? 0
      t.ok(counted > people * 0.94, `${counted} of ${people}`)
      t.ok(counted <= people, `${counted} of ${people}: never above`)
      await write()
      t.equal((await usageOf({ id })).active_users, counted)
    }
  },
)
