import t from 'tap'
import { startTestPostgres } from '../deploy/local/postgres.ts'
import {
  makeKeys,
  makeTenant,
  send,
  sessionsOf,
  sql,
  startApp,
  TestGateway,
  until,
} from './test-kit.ts'

const server = await startTestPostgres()
t.teardown(() => server.stop())
const keys = makeKeys()
const gateway = new TestGateway(keys)
const acme = await makeTenant(server, 'acme')
const globex = await makeTenant(server, 'globex')
const app = await startApp(keys)
t.teardown(() => app.stop())
const { port } = app

t.test('a signed request reaches its tenant, its user and its database', async t => {
  const answer = await gateway.call(port, acme, 'GET', '/api/whoami?x=1', {
    headers: ['x-request-id', 'edge-1'],
  })
  t.equal(answer.status, 200)
  t.equal(answer.json.status, true)
  t.match(answer.json.result, {
    tenant: { id: acme.id, key: 'acme', mode: 'shared' },
    principal: { sub: acme.user.sub },
    database: acme.db.name,
  })
  t.equal(answer.headers['x-request-id'], 'edge-1')
  const other = await gateway.call(port, globex, 'GET', '/api/whoami')
  t.equal(other.json.result.database, globex.db.name)
})

t.test('a request without a valid context is refused by one opaque answer', async t => {
  const target = '/api/whoami'
  const sign = () => gateway.sign(acme, 'GET', target)
  const [contextName, token, requestName, header] = (await sign()) as [
    string,
    string,
    string,
    string,
  ]
  const [, otherToken] = (await gateway.sign(globex, 'GET', target)) as [string, string]
  const stranger = new TestGateway(makeKeys())
  const forger = new TestGateway({ ...makeKeys(), contentKey: keys.contentKey })
  const old = await gateway.sign(acme, 'GET', target, acme.user, Date.now() - 61_000)
  const early = await gateway.sign(acme, 'GET', target, acme.user, Date.now() + 40_000)
  const flipped = `${token.slice(0, -2)}${token.endsWith('AA') ? 'BB' : 'AA'}`
  const { token: fresh } = await gateway.mint(acme)
  const cases: Record<string, readonly string[]> = {
    'no headers': [],
    'context alone': [contextName, token],
    'request header alone': [requestName, header],
    'flipped byte in the context': [contextName, flipped, requestName, header],
    'context of another tenant': [contextName, otherToken, requestName, header],
    'another context of the same tenant': [contextName, fresh, requestName, header],
    'foreign keys': await stranger.sign(acme, 'GET', target),
    'right content key, foreign signing key': await forger.sign(acme, 'GET', target),
    expired: old,
    'from the future': early,
    'two contexts': [contextName, token, ...(await sign())],
    'two contexts in another spelling': ['X-Tenant-Context', token, ...(await sign())],
    'two request headers': [...(await sign()), requestName, header],
    'header of another method': await gateway.sign(acme, 'POST', target),
    'header of another path': await gateway.sign(acme, 'GET', '/api/projects'),
    'header of another query': await gateway.sign(acme, 'GET', `${target}?a=1`),
    garbage: [contextName, 'x', requestName, 'y'],
    'changed principal': [
      contextName,
      token,
      requestName,
      header.replace(/^v1\.[^.]+/, 'v1.eyJzdWIiOiJyb290In0'),
    ],
  }
  for (const [name, headers] of Object.entries(cases)) {
    const answer = await send(port, 'GET', target, headers)
    t.equal(answer.status, 401, name)
    t.equal(answer.json.code, 'CONTEXT_INVALID', name)
    t.equal(answer.json.message, 'The tenant context is missing or not valid.', name)
    t.equal(answer.json.result, null)
    t.ok(answer.json.request_id)
  }
  const unknown = await send(port, 'GET', '/nothing', [])
  t.equal(unknown.status, 401, 'routes are not told to strangers')
})

t.test('a request header serves once', async t => {
  const context = await gateway.sign(acme, 'GET', '/api/whoami')
  t.equal((await gateway.call(port, acme, 'GET', '/api/whoami', { context })).status, 200)
  const again = await gateway.call(port, acme, 'GET', '/api/whoami', { context })
  t.equal(again.status, 401)
  t.equal(again.json.code, 'CONTEXT_INVALID')
  const other = await gateway.call(port, acme, 'GET', '/api/projects', { context })
  t.equal(other.status, 401, 'nor on another path')
  const twins = await gateway.sign(acme, 'GET', '/api/whoami')
  const both = await Promise.all(
    [1, 2].map(() => gateway.call(port, acme, 'GET', '/api/whoami', { context: twins })),
  )
  t.same(both.map(answer => answer.status).sort(), [200, 401], 'nor twice at the same moment')
})

t.test('a context older than one seen is refused as our fault, not as the user’s', async t => {
  const tenant = await makeTenant(server, 'versions')
  tenant.version = 7
  t.equal((await gateway.call(port, tenant, 'GET', '/api/whoami')).status, 200)
  tenant.version = 6
  const answer = await gateway.call(port, tenant, 'GET', '/api/whoami')
  t.equal(answer.status, 503)
  t.equal(answer.json.code, 'TENANT_UNAVAILABLE')
  t.equal(answer.headers['retry-after'], '1')
  tenant.version = 7
  t.equal((await gateway.call(port, tenant, 'GET', '/api/whoami')).status, 200)
})

t.test('a route with a user refuses an empty principal', async t => {
  for (const target of [
    '/api/whoami',
    '/api/projects',
    '/api/files',
    '/api/auth/profile',
    '/api/events',
  ]) {
    const answer = await gateway.call(port, acme, 'GET', target, { principal: null })
    t.equal(answer.status, 401, target)
    t.equal(answer.json.code, 'TOKEN_MISSING', target)
  }
})

t.test('projects: create, read, page, change, delete, each in its tenant only', async t => {
  const made = await gateway.call(port, acme, 'POST', '/api/projects', {
    body: { name: 'One', description: 'first' },
  })
  t.equal(made.status, 201)
  const { id } = made.json.result
  t.match(made.json.result, { name: 'One', description: 'first', created_by: acme.user.sub })
  const foreign = await gateway.call(port, globex, 'GET', `/api/projects/${id}`)
  t.equal(foreign.status, 404)
  t.equal(foreign.json.code, 'NOT_FOUND')
  const gone = await gateway.call(port, globex, 'DELETE', `/api/projects/${id}`)
  t.equal(gone.status, 404)
  const patched = await gateway.call(port, acme, 'PATCH', `/api/projects/${id}`, {
    body: { description: null },
  })
  t.match(patched.json.result, { name: 'One', description: null })
  const replaced = await gateway.call(port, acme, 'PUT', `/api/projects/${id}`, {
    body: { name: 'Uno' },
  })
  t.match(replaced.json.result, { name: 'Uno' })
  await gateway.call(port, acme, 'POST', '/api/projects', { body: { name: 'Two' } })
  const page = await gateway.call(port, acme, 'GET', '/api/projects?page=2&limit=1')
  t.match(page.json.result, { total: 2, page: 2, limit: 1, items: [{ name: 'Uno' }] })
  t.same((await gateway.call(port, globex, 'GET', '/api/projects')).json.result.items, [])
  t.equal((await gateway.call(port, acme, 'DELETE', `/api/projects/${id}`)).status, 200)
  t.equal((await gateway.call(port, acme, 'GET', `/api/projects/${id}`)).status, 404)
})

t.test('bad input is a 4xx with the field in the message', async t => {
  const bad: [string, string, unknown, string][] = [
    ['POST', '/api/projects', {}, 'VALIDATION_FAILED'],
    ['POST', '/api/projects', { name: ' ' }, 'VALIDATION_FAILED'],
    ['POST', '/api/projects', { name: 'a\u0000b' }, 'VALIDATION_FAILED'],
    ['POST', '/api/projects', { name: 'x'.repeat(201) }, 'VALIDATION_FAILED'],
    ['POST', '/api/projects', { name: 'x'.repeat(1_100_000) }, 'BODY_TOO_LARGE'],
    ['POST', '/api/projects', Buffer.from('{'), 'BODY_TYPE_UNSUPPORTED'],
    ['GET', '/api/projects?limit=101', undefined, 'VALIDATION_FAILED'],
    ['GET', '/api/projects?page=0', undefined, 'VALIDATION_FAILED'],
    ['GET', '/api/projects/1', undefined, 'VALIDATION_FAILED'],
    ['GET', '/api/projects/%zz', undefined, 'TARGET_INVALID'],
    ['GET', '/api/unknown', undefined, 'ROUTE_NOT_FOUND'],
    ['GET', '/api/ws', undefined, 'BAD_REQUEST'],
  ]
  for (const [method, target, body, code] of bad) {
    const answer = await gateway.call(port, acme, method, target, { body })
    t.equal(answer.json?.code, code, `${method} ${target}`)
    t.ok(answer.status >= 400 && answer.status < 500)
    t.equal(answer.json.status, false)
  }
  const broken = await gateway.call(port, acme, 'POST', '/api/projects', {
    body: Buffer.from('{'),
    headers: ['content-type', 'application/json'],
  })
  t.equal(broken.json.code, 'BODY_INVALID')
})

t.test('a request that fails half-way leaves nothing behind', async t => {
  await sql(
    server,
    acme.db.name,
    `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '23505'; END $$;
     CREATE CONSTRAINT TRIGGER refuse_late AFTER INSERT ON projects
       DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.name = 'late')
       EXECUTE FUNCTION refuse()`,
  )
  const answer = await gateway.call(port, acme, 'POST', '/api/projects', { body: { name: 'late' } })
  t.equal(answer.status, 409)
  t.equal(answer.json.code, 'CONFLICT')
  t.equal((await sql(server, acme.db.name, "SELECT FROM projects WHERE name = 'late'")).length, 0)
  t.equal((await gateway.call(port, acme, 'GET', '/api/whoami')).status, 200)
})

t.test('no secret and no path with ids reaches the log or the metrics', async t => {
  const log = app.lines.join('\n')
  const metrics = await app.metrics.registry.metrics()
  t.match(log, /"route":"\/api\/projects\/:id"/)
  t.match(log, new RegExp(acme.id))
  t.match(metrics, /doorman_app_requests_total\{method="GET",route="\/api\/whoami",status="200"\}/)
  t.notMatch(metrics, new RegExp(`${acme.id}|${globex.id}`))
  for (const secret of [acme.db.password, globex.db.password, keys.contentKey]) {
    t.notOk(log.includes(secret))
    t.notOk(metrics.includes(secret))
  }
})

t.test('all connections come back', async t => {
  const own = await startApp(keys)
  await Promise.all([1, 2, 3, 4].map(() => gateway.call(own.port, globex, 'GET', '/api/whoami')))
  t.ok(own.pools.figures.connections > 0)
  await until('leases at 0', () => own.pools.figures.leases === 0)
  await own.stop()
  await until('sockets at 0', () => own.pools.figures.connections === 0)
  await app.pools.close()
  await until('sessions at 0', async () => (await sessionsOf(server, globex)) === 0)
})
