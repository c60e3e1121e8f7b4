import { equal } from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { hashText, rank } from '../../gateway/fleet/rendezvous.ts'
import { until } from '../../gateway/test-kit.ts'
import { type FaultProxy, startFaultProxy } from '../../registry/fault-proxy.ts'
import { call } from './call.ts'
import { startLoad } from './load.ts'
import { type Binary, startWorld, type WorldTenant } from './test-kit.ts'

/*
 * Each fault is done to acme: to the link to its replica, or to its database. Meanwhile globex, at home
 * on the other replica, is asked without a pause, and must not notice.
 */

const MIB = 1024 * 1024
const HEAD_MS = 3000
const BODY_IDLE_MS = 1000
/** Faults last longer than this, so that whoever had to wait for one of them would exceed it. */
const OTHERS_MS_MAX = 2000
/** Kept-alive connections: as many as requests were in flight at once. */
const IDLE_MAX = 40
const HEAP_GROWTH_BYTES_MAX = 40 * MIB
const RETRY_AFTER = { 'retry-after': /^\d+$/ }

const world = await startWorld({
  appEnv: {
    DB_CONNECT_TIMEOUT_MS: '500',
    DB_CHECKOUT_TIMEOUT_MS: '1000',
    DB_STATEMENT_TIMEOUT_MS: '500',
    BREAKER_BACKOFF_MS: '100',
    BREAKER_BACKOFF_MAX_MS: '500',
  },
})
t.teardown(world.close)
const { acme, globex } = world
const [appA, appB] = world.apps as [Binary, Binary]
const links = await linkEach(acme, globex)
t.teardown(() => Promise.all(links.map(link => link.stop())))
const [linkA] = links
const gateway = await world.startGateway({
  APP_UPSTREAMS: links.map(originOf).join(','),
  TENANT_SPREAD: '1',
  REPLICA_SLOW_START_MS: '0',
  HEALTH_INTERVAL_MS: '200',
  UPSTREAM_HEAD_TIMEOUT_MS: String(HEAD_MS),
  UPSTREAM_BODY_IDLE_TIMEOUT_MS: String(BODY_IDLE_MS),
})
const atAcme = (await world.login(acme)).accessToken
const atGlobex = (await world.login(globex)).accessToken
const whoami = (token: string) => call(gateway.origin, '/api/whoami', { token })
const isServed = async ({ database }: WorldTenant, token: string) => {
  const { status, code, result } = await whoami(token)
  return status === 200 && result.database === database ? null : `${status} ${code}`
}
const acmeIsBack = () => until(async () => (await isServed(acme, atAcme)) === null, 8000)

const file = Buffer.alloc(8 * MIB, 'of acme ')
const stored = { method: 'PUT', token: atAcme, body: file }
equal((await call(gateway.origin, '/api/files/large.bin', stored)).status, 201)
equal(await isServed(globex, atGlobex), null)
const heapBefore = await Promise.all([gateway, appA, appB].map(heapOf))
const others = startLoad(2, () => isServed(globex, atGlobex))
t.teardown(() => others.stop())
const homeOfAcme = (await whoami(atAcme)).result.replica
const acmeIsHome = () =>
  until(async () => (await whoami(atAcme)).result.replica === homeOfAcme, 8000)

/** Does the fault, takes it back, and looks at what the other tenant saw meanwhile. */
function fault(work: (t: Test) => Promise<void>) {
  return async (t: Test) => {
    await acmeIsHome()
    others.reset()
    await work(t)
    await linkA.restore()
    await acmeIsBack()
    await until(() => others.done > 20)
    t.strictSame(others.failures, [], 'the other tenant sees no error')
    t.ok(others.slowestMs < OTHERS_MS_MAX, `and waits ${Math.round(others.slowestMs)} ms at most`)
  }
}

t.test(
  'an app that dies in mid-answer is seen as an abort by its client alone',
  fault(async t => {
    const download = await openDownload()
    linkA.cut()
    t.equal(await download.end, 'broken off')
    t.ok(download.isOwn(), 'what came is the tenant’s own')
    // The other replica takes over.
    await acmeIsBack()
  }),
)

t.test(
  'an app that hangs is 504, then it is left; once it answers it is used again',
  fault(async t => {
    linkA.set({ stall: true })
    t.match(await whoami(atAcme), { status: 504, code: 'UPSTREAM_TIMEOUT' })
    await acmeIsBack()
    t.not((await whoami(atAcme)).result.replica, homeOfAcme, 'by the other replica')
    await linkA.restore()
    await acmeIsHome()
  }),
)

t.test(
  'an answer that drips or stops in the middle ends by its time-out',
  fault(async t => {
    linkA.set({ bytesPerS: 1 })
    t.match(await whoami(atAcme), { status: 504, code: 'UPSTREAM_TIMEOUT' }, 'a head of 1 byte/s')
    await linkA.restore()
    linkA.resetAll()
    await acmeIsHome()
    const download = await openDownload()
    const stalledAt = performance.now()
    linkA.set({ stall: true })
    t.equal(await download.end, 'broken off')
    t.ok(performance.now() - stalledAt > BODY_IDLE_MS / 2)
    t.ok(download.isOwn())
  }),
)

t.test(
  'a link that is reset ends the WebSocket over it within a second, and no other',
  fault(async t => {
    const mine = await openSocket(atAcme)
    const theirs = await openSocket(atGlobex)
    const closed = once(mine, 'close')
    const startedAt = performance.now()
    linkA.resetAll()
    await closed
    t.ok(performance.now() - startedAt < 1000)
    await until(async () => (await gaugeOf(gateway, 'doorman_open_sockets')) === 1)
    await until(async () => (await gaugeOf(appA, 'doorman_app_streams{kind="ws"}')) === 0, 2000)
    theirs.send('"still here"')
    t.match(String((await once(theirs, 'message'))[0]), 'still here')
    theirs.terminate()
    await until(async () => (await gaugeOf(gateway, 'doorman_open_sockets')) === 0, 1000)
    await until(async () => (await gaugeOf(appB, 'doorman_app_streams{kind="ws"}')) === 0, 1000)
  }),
)

t.test(
  'a client that is reset in mid-upload or mid-download frees its slot',
  fault(async t => {
    const between = await startFaultProxy({ host: '127.0.0.1', port: gateway.port })
    t.teardown(() => between.stop())
    const leases = async () => (await bucketLeases(appA)) + (await bucketLeases(appB))
    const upload = request(`${originOf(between)}/api/files/half.bin`, {
      method: 'PUT',
      agent: false,
      headers: { authorization: `Bearer ${atAcme}`, 'content-length': 8 * MIB },
    })
    upload.on('error', () => {})
    upload.write(file.subarray(0, MIB))
    await until(async () => (await leases()) === 1)
    between.resetAll()
    await until(async () => (await leases()) === 0, 1000)
    const download = await openDownload(originOf(between))
    between.resetAll()
    t.equal(await download.end, 'broken off')
    await until(async () => (await leases()) === 0, 1000)
    const { status } = await call(gateway.origin, '/api/files/half.bin', { token: atAcme })
    t.equal(status, 404, 'half an upload is none')
  }),
)

t.test(
  'a tenant database that is cut, hangs, is slow or full is that tenant’s own',
  fault(async t => {
    const { port } = world.postgres
    const link = await startFaultProxy({ host: '127.0.0.1', port })
    t.teardown(() => link.stop())
    const point = async (to: number) => {
      const args = ['set-db', 'acme', '--keep-password', '--db-port', String(to)]
      t.equal((await world.cli(args)).code, 0)
    }
    await point(link.port)
    await until(async () => (await isServed(acme, atAcme)) === null && link.connections > 0)
    const refused = { status: 503, code: 'TENANT_DATABASE_UNAVAILABLE', headers: RETRY_AFTER }

    link.cut()
    t.match(await whoami(atAcme), refused, 'cut')
    await link.restore()
    await acmeIsBack()

    // A statement under way: nobody knows what became of it, until the gateway gives up.
    link.set({ stall: true })
    t.match(await whoami(atAcme), { status: 504, code: 'UPSTREAM_TIMEOUT' }, 'hangs')
    await link.restore()
    await acmeIsBack()

    link.set({ latencyMs: 200 })
    t.equal(await isServed(acme, atAcme), null, 'slow')
    await link.restore()

    const limit = (n: number) =>
      world.sql('postgres', `ALTER ROLE ${acme.database} CONNECTION LIMIT ${n}`)
    await limit(1)
    // Those of the other replica too, which served the tenant in the faults before.
    const sessions = "FROM pg_stat_activity WHERE datname = $1 AND application_name = 'doorman-app'"
    await world.sql('postgres', `SELECT pg_terminate_backend(pid) ${sessions}`, [acme.database])
    await until(async () => {
      const left = await world.sql('postgres', `SELECT pid ${sessions}`, [acme.database])
      return left.length === 0
    })
    const answers = await Promise.all(Array.from({ length: 20 }, () => whoami(atAcme)))
    for (const answer of answers) {
      if (answer.status === 200) t.equal(answer.result.database, acme.database)
      else t.match(answer, refused, 'full')
    }
    t.ok(
      answers.some(({ status }) => status === 200),
      'the one connection is used',
    )
    await limit(-1)
    await point(port)
  }),
)

t.test(
  'of a killed worker only what it had in hand is lost, and no POST runs twice',
  fault(async t => {
    const lanes = 6
    const clustered = await world.startGateway({ GATEWAY_WORKERS: '2' })
    await until(async () => (await gaugeOf(clustered, 'doorman_workers_ready')) === 2)
    const run = randomUUID()
    const made = new Set<string>()
    let n = 0
    const load = startLoad(lanes, async () => {
      const json = { name: `${run} ${n++}` }
      const options = { method: 'POST', token: atAcme, json, timeoutMs: 5000 }
      const { status, code } = await call(clustered.origin, '/api/projects', options)
      if (status === 201) made.add(json.name)
      return status === 201 ? null : `${status} ${code}`
    })
    await until(() => made.size >= 30)
    t.strictSame(load.failures, [])
    const started = clustered.lines.find(line => line.includes('"worker started"'))
    process.kill(JSON.parse(started ?? '{}').worker_pid, 'SIGKILL')
    const before = made.size
    await until(() => clustered.lines.some(line => line.includes('"worker ended"')), 5000)
    await until(async () => (await gaugeOf(clustered, 'doorman_workers_ready')) === 2, 20_000)
    await until(() => made.size >= before + 30)
    await load.stop()
    t.comment(`${load.failures.length} of ${load.done} failed`)
    t.ok(load.failures.length <= lanes, load.failures.join(', '))
    const rows = await world.sql(
      acme.database,
      'SELECT name, count(*)::int AS n FROM projects WHERE name LIKE $1 GROUP BY name',
      [`${run}%`],
    )
    t.strictSame(
      rows.filter(row => row.n !== 1),
      [],
    )
    const names = new Set(rows.map(({ name }) => name))
    t.ok([...made].every(name => names.has(name)))
    t.ok(names.size <= made.size + load.failures.length)
  }),
)

t.test('after all this everything runs, and nothing is held', async t => {
  for (const { adminOrigin } of [gateway, appA, appB]) {
    t.equal((await call(adminOrigin, '/livez')).status, 200)
    t.equal((await call(adminOrigin, '/readyz')).status, 200)
  }
  t.equal(await gaugeOf(gateway, 'doorman_open_sockets'), 0)
  // The load of the other tenant goes on.
  await until(async () => (await gaugeOf(gateway, 'doorman_requests_in_flight')) <= 2, 2000)
  await until(async () => (await gaugeOf(gateway, 'doorman_client_connections')) <= 2, 2000)
  for (const app of [appA, appB]) {
    t.equal(await bucketLeases(app), 0)
    t.equal(await gaugeOf(app, 'doorman_app_pool_waiting'), 0)
    t.equal(await gaugeOf(app, 'doorman_app_breakers_open'), 0)
  }
  for (const link of links) t.ok(link.connections <= IDLE_MAX, `${link.connections} connections`)
  for (const [i, binary] of [gateway, appA, appB].entries()) {
    const max = (heapBefore[i] as number) + HEAP_GROWTH_BYTES_MAX
    await until(async () => (await heapOf(binary)) < max)
  }
})

function originOf({ port }: FaultProxy): string {
  return `http://127.0.0.1:${port}`
}

/** Two links, so chosen that the first tenant is at home behind the first, the second behind the second. */
async function linkEach(
  first: WorldTenant,
  second: WorldTenant,
): Promise<[FaultProxy, FaultProxy]> {
  for (;;) {
    const made = await Promise.all([appA, appB].map(linkTo))
    const ranked = made.map(link => ({ link, hash: hashText(originOf(link)), weight: 1 }))
    const homes = [first, second].map(({ id }) => rank(hashText(id), ranked, 1)[0]?.link)
    if (homes[0] === made[0] && homes[1] === made[1]) return made as [FaultProxy, FaultProxy]
    await Promise.all(made.map(link => link.stop()))
  }
}

function linkTo({ port }: Binary): Promise<FaultProxy> {
  return startFaultProxy({ host: '127.0.0.1', port })
}

/** A download that is half-way: its link is slow from here on. */
async function openDownload(origin = gateway.origin) {
  const req = request(`${origin}/api/files/large.bin`, {
    agent: false,
    headers: { authorization: `Bearer ${atAcme}` },
  }).end()
  linkA.set({ bytesPerS: MIB })
  const [res] = (await once(req, 'response')) as [IncomingMessage]
  req.on('error', () => {})
  let bytes = 0
  let isOwn = true
  res.on('data', (chunk: Buffer) => {
    isOwn &&= chunk.equals(file.subarray(bytes % 8, (bytes % 8) + chunk.length))
    bytes += chunk.length
  })
  const end = new Promise<string>(resolve => {
    res.on('error', () => resolve('broken off'))
    res.on('end', () => resolve('whole'))
  })
  await until(() => bytes > 0)
  return { end, isOwn: () => isOwn && bytes < file.length }
}

async function openSocket(token: string): Promise<WebSocket> {
  const socket = new WebSocket(`${gateway.origin.replace('http', 'ws')}/api/ws`, {
    headers: { authorization: `Bearer ${token}` },
  })
  socket.on('error', () => {})
  await once(socket, 'message')
  return socket
}

function heapOf(binary: Binary): Promise<number> {
  return gaugeOf(binary, 'nodejs_heap_size_used_bytes')
}

function bucketLeases(app: Binary): Promise<number> {
  return gaugeOf(app, 'doorman_app_bucket_leases')
}

async function gaugeOf({ adminOrigin }: Binary, series: string): Promise<number> {
  const { text } = await call(adminOrigin, '/metrics')
  const line = text.split('\n').find(candidate => candidate.startsWith(`${series} `))
  return Number(line?.slice(series.length) ?? 0)
}
