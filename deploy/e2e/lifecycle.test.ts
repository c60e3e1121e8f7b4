import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { request } from 'node:http'
import { type AddressInfo, createServer } from 'node:net'
import pg from 'pg'
import t from 'tap'
import { until } from '../../gateway/test-kit.ts'
import { DEMO_PASSWORD } from '../local/demo-tenants.ts'
import { type Answer, call } from './call.ts'
import { startLoad } from './load.ts'
import { type Binary, startWorld, type WorldTenant } from './test-kit.ts'

const world = await startWorld({ tenants: 3 })
t.teardown(world.close)
const { acme, globex } = world
const [, , third] = world.tenants as [unknown, unknown, WorldTenant]
const atAcme = await world.login(acme)
const atGlobex = await world.login(globex)
const atThird = await world.login(third)

const whoami = (token: string, origin = world.gateway.origin) =>
  call(origin, '/api/whoami', { token })
/** Nothing but 200 from acme's own database is right. */
const acmeIsFine = async () => {
  const { status, code, result } = await whoami(atAcme.accessToken)
  return status === 200 && result.database === acme.database ? null : `${status} ${code}`
}

t.test('a running gateway sees a suspension within a second, and its end', async t => {
  const token = atGlobex.accessToken
  t.equal((await whoami(token)).status, 200)
  t.equal((await world.cli(['suspend', 'globex', '--reason', 'invoice 42'])).code, 0)
  const suspendedAt = performance.now()
  await until(async () => (await whoami(token)).status !== 200, 1000)
  t.comment(`seen ${Math.round(performance.now() - suspendedAt)} ms after the command's end`)
  const refused = await whoami(token)
  t.match(refused, { status: 403, code: 'TENANT_SUSPENDED' })
  t.notMatch(refused.text, 'invoice')
  const refresh = await world.call('/api/auth/refresh-token', {
    method: 'POST',
    json: { refreshToken: atGlobex.refreshToken },
  })
  t.match(refresh, { status: 403, code: 'TENANT_SUSPENDED' })

  const login = (tenant_key: string, email: string, password: string) =>
    world.call('/api/auth/login', { method: 'POST', json: { tenant_key, email, password } })
  const suspended = await login('globex', globex.email, DEMO_PASSWORD)
  const wrong = await login('acme', acme.email, 'wrong')
  const unknown = await login('nobody', acme.email, DEMO_PASSWORD)
  const shown = ({ json }: { json: unknown }) => ({ ...(json as object), request_id: '' })
  t.match(wrong, { status: 401, code: 'INVALID_CREDENTIALS' })
  for (const answer of [suspended, unknown]) {
    t.equal(answer.status, 401)
    t.strictSame(shown(answer), shown(wrong), 'the same body as a wrong password')
    t.strictSame(fieldsOf(answer), fieldsOf(wrong), 'and the same fields in the same order')
  }
  t.equal(await acmeIsFine(), null, 'the other tenant is served')

  t.equal((await world.cli(['activate', 'globex'])).code, 0)
  await until(async () => (await whoami(token)).status === 200, 1000)
})

t.test(
  'a tenant made while the gateway runs works at once, though it was asked for before',
  async t => {
    const key = 'newcomer'
    const json = { tenant_key: key, email: 'a@newcomer.example', password: 'a-first-password' }
    const login = () => world.call('/api/auth/login', { method: 'POST', json })
    t.match(await login(), { status: 401, code: 'INVALID_CREDENTIALS' })
    await world.sql('postgres', `CREATE ROLE ${key} LOGIN PASSWORD 'pw-of-newcomer'`)
    await world.sql('postgres', `CREATE DATABASE ${key} OWNER ${key}`)
    const flags = ['--db-host', '127.0.0.1', '--db-port', String(world.postgres.port)]
    const created = await world.cli(
      ['create', key, ...flags, '--db-name', key, '--db-user', key],
      'pw-of-newcomer\n',
    )
    t.equal(created.code, 0, created.output)
    t.equal((await world.migrateTenants()).code, 0)
    const added = await world.cli(
      ['add-user', key, '--email', json.email, '--name', 'A', '--role-id', '1'],
      `${json.password}\n`,
    )
    t.equal(added.code, 0, added.output)
    const answer = await login()
    t.match(answer, { status: 200, result: { accessToken: String } })
    const mine = await whoami(String(answer.result.accessToken))
    t.match(mine.result, { database: key, tenant: { key } })
  },
)

t.test('a rotated database password costs no request and needs no restart', async t => {
  // Both replicas have all the connections they need, as under a load that lasts.
  await Promise.all(Array.from({ length: 40 }, acmeIsFine))
  // Enough that both replicas of the tenant serve it: one without a request keeps its idle sessions until
  // DB_CONNECTION_IDLE_MS.
  const load = startLoad(6, acmeIsFine)
  const isWorking = (password: string) => {
    const client = new pg.Client({
      connectionString: world.postgres.url(acme.database, acme.database, password),
    })
    client.on('error', () => {})
    return client.connect().then(
      () => client.end().then(() => true),
      () => false,
    )
  }
  const [before] = await world.sql('postgres', 'SELECT clock_timestamp() AS now')
  await world.sql('postgres', `ALTER ROLE ${acme.database} PASSWORD 'rotated-password'`)
  const set = await world.cli(['set-db', 'acme'], 'rotated-password\n')
  t.equal(set.code, 0, set.output)
  const oldSessions = async () => {
    const [row] = await world.sql(
      'postgres',
      `SELECT count(*) FILTER (WHERE backend_start < $2)::int AS old, count(*)::int AS all
       FROM pg_stat_activity WHERE datname = $1 AND application_name = 'doorman-app'`,
      [acme.database, before?.now],
    )
    return row as { old: number; all: number }
  }
  await until(async () => (await oldSessions()).old === 0, 5000)
  load.reset()
  await until(() => load.done >= 100)
  t.ok((await oldSessions()).all > 0, 'sessions with the new password')
  await load.stop()
  t.strictSame(load.failures, [])
  t.notOk(await isWorking(acme.password), 'the old password is really gone')
  t.ok(await isWorking('rotated-password'))
  t.ok((await world.login(acme)).accessToken)
})

t.test(
  'a tenant whose database is down gets 503; the others see no error and no delay',
  async t => {
    const token = atGlobex.accessToken
    const load = startLoad(2, acmeIsFine)
    await world.sql('postgres', `ALTER DATABASE ${globex.database} CONNECTION LIMIT 0`)
    await world.sql(
      'postgres',
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1',
      [globex.database],
    )
    await until(async () => (await whoami(token)).status === 503)
    load.reset()
    const answers = await Promise.all(Array.from({ length: 20 }, () => whoami(token)))
    for (const answer of answers) {
      t.match(answer, { status: 503, code: 'TENANT_DATABASE_UNAVAILABLE' })
      t.match(answer.headers, { 'retry-after': /^\d+$/ })
      t.notMatch(answer.text, globex.database)
    }
    await t.rejects(world.login(globex), /503 .*TENANT_DATABASE_UNAVAILABLE/)
    await until(() => load.done >= 50)
    t.strictSame(load.failures, [])
    t.ok(load.slowestMs < 1000, `acme waited ${Math.round(load.slowestMs)} ms at most`)
    await world.sql('postgres', `ALTER DATABASE ${globex.database} CONNECTION LIMIT -1`)
    await until(async () => (await whoami(token)).status === 200, 5000)

    // Worse than down: a server that accepts and never says a word.
    const silent = createServer(socket => socket.on('error', () => {}))
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    t.teardown(() => silent.close())
    const { port } = silent.address() as AddressInfo
    const point = (to: number) =>
      world.cli(['set-db', 'globex', '--keep-password', '--db-port', String(to)])
    t.equal((await point(port)).code, 0)
    load.reset()
    const hung = await whoami(token)
    t.match(hung, { status: 503, code: 'TENANT_DATABASE_UNAVAILABLE' })
    t.match(hung.headers, { 'retry-after': /^\d+$/ })
    t.strictSame(load.failures, [])
    t.ok(load.done > 20, `acme was served meanwhile, ${load.done} times`)
    t.ok(load.slowestMs < 1000, `acme waited ${Math.round(load.slowestMs)} ms at most`)
    t.equal((await point(world.postgres.port)).code, 0)
    await until(async () => (await whoami(token)).status === 200, 5000)
    await load.stop()
  },
)

t.test('a replica that is killed costs what it had in hand; no POST is done twice', async t => {
  const doomed = await world.startApp()
  const lasting = world.apps[0] as Binary
  const gateway = await world.startGateway({
    APP_UPSTREAMS: `${doomed.origin},${lasting.origin}`,
  })
  const lanes = 8
  const made = new Set<string>()
  const run = randomUUID()
  let n = 0
  const load = startLoad(lanes, async () => {
    const name = `${run} ${n++}`
    const options = { method: 'POST', token: atThird.accessToken, json: { name } }
    const { status, code } = await call(gateway.origin, '/api/projects', options)
    if (status === 201) made.add(name)
    return status === 201 ? null : `${status} ${code}`
  })
  await until(() => made.size >= 50)
  t.strictSame(load.failures, [])
  process.kill(doomed.pid, 'SIGKILL')
  await doomed.exited
  const sizeAtDeath = made.size
  await until(() => made.size >= sizeAtDeath + 100)
  await load.stop()
  t.comment(`${load.failures.length} of ${load.done} failed`)
  t.ok(load.failures.length <= lanes, load.failures.join(', '))
  t.ok(load.failures.every(failure => failure.startsWith('502 ')))
  const rows = await world.sql(
    third.database,
    'SELECT name, count(*)::int AS n FROM projects WHERE name LIKE $1 GROUP BY name',
    [`${run}%`],
  )
  t.strictSame(
    rows.filter(row => row.n !== 1),
    [],
    'no project stands twice',
  )
  const stored = new Set(rows.map(row => row.name))
  t.strictSame(
    [...made].filter(name => !stored.has(name)),
    [],
    'what was answered 201 is there',
  )
  t.ok(stored.size <= made.size + load.failures.length)
  t.equal(await exitOf(gateway), 'exit code 0')
})

t.test('a replica that is told to stop finishes what it has and loses no request', async t => {
  const leaving = await world.startApp()
  const lasting = world.apps[0] as Binary
  const gateway = await world.startGateway({
    APP_UPSTREAMS: `${leaving.origin},${lasting.origin}`,
  })
  const direct = await world.startGateway({ APP_UPSTREAMS: leaving.origin })
  const upload = await startUpload(direct.origin, 'through-the-drain.txt', [leaving])
  // GETs: a connection that the listener had not accepted yet when it closed is reset, and what was sent on
  // it may be sent again only if it changes nothing.
  const load = startLoad(4, async () => {
    const { status, code } = await whoami(atThird.accessToken, gateway.origin)
    return status === 200 ? null : `${status} ${code}`
  })
  await until(() => load.done >= 40)
  process.kill(leaving.pid, 'SIGTERM')
  await until(async () => (await call(leaving.adminOrigin, '/readyz')).status === 503)
  await until(() => load.done >= 300)
  t.equal(await upload.finish(), 201, 'an upload that was under way')
  t.match(await leaving.exited, 'exit code 0')
  await until(() => load.done >= 400)
  await load.stop()
  t.strictSame(load.failures, [])
  t.equal(await exitOf(gateway), 'exit code 0')
  t.equal(await exitOf(direct), 'exit code 0')
})

t.test('a gateway that is told to stop finishes what it has, and takes nothing new', async t => {
  const gateway = await world.startGateway()
  const upload = await startUpload(gateway.origin, 'through-the-other-drain.txt')
  process.kill(gateway.pid, 'SIGTERM')
  await until(() =>
    whoami(atThird.accessToken, gateway.origin).then(
      () => false,
      () => true,
    ),
  )
  t.equal(await upload.finish(), 201)
  t.match(await gateway.exited, 'exit code 0')
  t.equal(await acmeIsFine(), null, 'the other gateway goes on')
})

/** The head of an answer without what differs between any two. */
function fieldsOf({ rawHeaders }: Answer): readonly string[] {
  return rawHeaders.map((text, i) =>
    /^(date|x-request-id)$/i.test(rawHeaders[i - 1] ?? '') ? '' : text,
  )
}

/** SIGTERM, and how the process ended. */
async function exitOf(binary: Binary): Promise<string | undefined> {
  process.kill(binary.pid, 'SIGTERM')
  return /\((.*?)\)/.exec(await binary.exited)?.[1]
}

/** An upload that is under way, and whose last byte is sent when the test says so. */
async function startUpload(origin: string, name: string, apps = world.apps) {
  const bucketLeases = async () => {
    const texts = await Promise.all(apps.map(app => call(app.adminOrigin, '/metrics')))
    const gauges = texts.map(({ text }) => /^doorman_app_bucket_leases (\d+)/m.exec(text)?.[1])
    return gauges.reduce((sum, gauge) => sum + Number(gauge), 0)
  }
  const leasesBefore = await bucketLeases()
  const req = request(`${origin}/api/files/${name}`, {
    method: 'PUT',
    agent: false,
    headers: { authorization: `Bearer ${atThird.accessToken}`, 'content-length': 6 },
  })
  const status = new Promise<number>((resolve, reject) => {
    req.on('response', res => resolve(res.resume().statusCode ?? 0))
    req.on('error', reject)
  })
  status.catch(() => {})
  req.write('abc')
  await until(async () => (await bucketLeases()) > leasesBefore)
  return {
    finish() {
      req.end('def')
      return status
    },
  }
}
