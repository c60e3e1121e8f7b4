import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import fastify from 'fastify'
import t from 'tap'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import { CONTEXT_HEADER } from '../../registry/context.ts'
import { Fault, faultBody, faultFields, toFault } from '../../registry/lib/errors.ts'
import { REPLICA_PATH, STATE_PATH } from '../../registry/lib/reserved-path.ts'
import { appState, replicaState } from '../../registry/live/answers.ts'
import { makeKeys, makeTenant, send, sql, TestGateway, until } from '../test-kit.ts'
import { tenantPlugin, tenantServerOptions } from './fastify.ts'
import { type KitOptions, openTenantKit } from './open-kit.ts'

const server = await startTestPostgres()
t.teardown(() => server.stop())
const keys = makeKeys()
const gateway = new TestGateway(keys)
const acme = await makeTenant(server, 'acme')
const globex = await makeTenant(server, 'globex')
for (const { db } of [acme, globex]) {
  await sql(server, db.name, `SET ROLE ${db.user}; CREATE TABLE notes (text text UNIQUE)`)
}
const notesOf = async ({ db }: typeof acme) =>
  (await sql(server, db.name, 'SELECT text FROM notes ORDER BY text')).map(row => row.text)

const openKit = (more: Partial<KitOptions> = {}) =>
  openTenantKit({
    ...more,
    publicKeys: JSON.parse(String(keys.env.TENANT_CONTEXT_PUBLIC_KEYS)),
    contentKeys: [keys.contentKey],
    addressPolicy: null,
  })

t.test('a foreign fastify API is verified, scoped, transactional and released', async t => {
  const { kit, pools } = await openKit()
  const api = fastify(tenantServerOptions)
  await api.register(tenantPlugin, { kit })
  api.get('/open', { config: { isOpen: true } }, async () => ({ open: true }))
  api.get('/leak', { config: { isOpen: true } }, async request => request.scope.tenant)
  api.get('/notes', async ({ scope }) => scope.db.query('SELECT text FROM notes ORDER BY text'))
  api.get('/stream', async ({ scope }, reply) => {
    await scope.db.query('SELECT')
    return reply.send(Readable.from(['a', scope.tenant.key]))
  })
  api.get('/sync', (_request, reply) => void setImmediate(() => reply.send('late')))
  api.post('/notes', async ({ scope, body }, reply) => {
    const { text, mustFail } = body as { text: string; mustFail?: boolean }
    await scope.db.query('INSERT INTO notes VALUES ($1)', [text])
    if (mustFail) throw new Fault('FORBIDDEN', 'secret reason')
    reply.code(201)
    return { text }
  })
  api.post('/loose', { config: { isTransactional: false } }, async ({ scope }) => {
    await scope.db.query(`INSERT INTO notes VALUES ('kept')`)
    throw new TypeError('a defect')
  })
  await api.listen({ port: 0, host: '127.0.0.1' })
  t.teardown(() => api.close())
  const { port } = api.server.address() as AddressInfo
  const call = (target: string, method = 'GET', body?: unknown, tenant = acme) =>
    gateway.call(port, tenant, method, target, { body })

  t.match(await send(port, 'GET', '/open', []), { status: 200, json: { open: true } })
  t.match(await send(port, 'GET', '/leak', []), { status: 503, json: { code: 'INTERNAL' } })
  for (const target of ['/notes', '/nowhere']) {
    const refused = await send(port, 'GET', target, ['x-request-id', 'mine'])
    t.match(refused, { status: 401, headers: { 'x-request-id': 'mine' } })
    t.match(refused.json, { status: false, code: 'CONTEXT_INVALID', request_id: 'mine' })
  }
  const upgrade = ['connection', 'upgrade', 'upgrade', 'websocket']
  t.equal((await send(port, 'GET', '/notes', upgrade)).status, 401, 'an upgrade as well')

  t.match(await call('/notes', 'POST', { text: 'one' }), { status: 201, json: { text: 'one' } })
  const failed = await call('/notes', 'POST', { text: 'undone', mustFail: true })
  t.match(failed, { status: 403, json: { code: 'FORBIDDEN' } })
  t.notMatch(failed.text, 'secret reason')
  t.match(await call('/notes', 'POST', { text: 'one' }), {
    status: 409,
    json: { code: 'CONFLICT' },
  })
  t.match(await call('/loose', 'POST', {}), { status: 503, json: { code: 'INTERNAL' } })
  t.strictSame(await notesOf(acme), ['kept', 'one'], 'rolled back, and not where it was opted out')
  t.match((await call('/notes')).json, [{ text: 'kept' }, { text: 'one' }])
  t.strictSame((await call('/notes', 'GET', undefined, globex)).json, [])
  t.match(await call('/notes', 'HEAD'), { status: 200, text: '' })
  t.match(await call('/stream'), { status: 200, text: 'aacme' })
  t.match(await call('/sync'), { status: 503, json: { code: 'INTERNAL' } })
  t.match(await call('/nowhere'), { status: 404, json: { code: 'ROUTE_NOT_FOUND' } })

  await until('all leases are back', () => pools.figures.leases === 0)
  t.ok(pools.figures.connections > 0)
  await api.close()
  await until('no connection is left', () => pools.figures.connections === 0)
})

t.test(
  'what is open for a tenant is told to the gateway, of the context’s tenant alone',
  async t => {
    const { kit } = await openKit({ replica: { name: 'r1' } })
    const api = fastify(tenantServerOptions)
    await api.register(tenantPlugin, { kit })
    api.get('/notes', async ({ scope }) => scope.db.query('SELECT text FROM notes'))
    await api.listen({ port: 0, host: '127.0.0.1' })
    t.teardown(() => api.close())
    const { port } = api.server.address() as AddressInfo
    const ask = (tenant: typeof acme) =>
      gateway.call(port, tenant, 'GET', STATE_PATH, { principal: null })

    t.match((await ask(acme)).json, { result: { version: null, pools: [], bucket: null } })
    t.equal((await gateway.call(port, acme, 'GET', '/notes')).status, 200)
    const { status, json, text } = await ask(acme)
    t.equal(status, 200)
    t.match(json.result, {
      version: acme.version,
      pools: [
        { is_current: true, size: 1, max: 5, idle: 1, leases: 0, waiting: 0, breaker: 'closed' },
      ],
    })
    t.ok(appState.safeParse(json.result).success)
    for (const told of [acme.db.password, acme.db.name, acme.db.host]) t.notOk(text.includes(told))
    t.match((await ask(globex)).json.result.pools, [], 'another tenant’s pool is not told')

    const whole = await gateway.call(port, globex, 'GET', REPLICA_PATH, { principal: null })
    t.match(whole.json.result, { name: 'r1', version: null, db_connections: 1, pools: 1 })
    t.ok(replicaState.safeParse(whole.json.result).success)
    for (const told of [acme.db.password, acme.db.name, acme.id]) t.notOk(whole.text.includes(told))
    for (const path of [STATE_PATH, REPLICA_PATH]) {
      t.equal((await send(port, 'GET', path, [])).status, 401)
      t.match(await gateway.call(port, acme, 'GET', path), { status: 404 }, 'not to a user')
    }
    t.equal((await gateway.call(port, acme, 'POST', STATE_PATH, { principal: null })).status, 404)
    const forNotes = await gateway.sign(acme, 'GET', '/notes', null)
    const elsewhere = await gateway.call(port, acme, 'GET', STATE_PATH, { context: forNotes })
    t.equal(elsewhere.status, 401, 'nor to who has a header for another path')
    const moved = { ...acme, version: acme.version + 1, db: { ...acme.db, pool_max: 2 } }
    t.equal((await gateway.call(port, moved, 'GET', '/notes')).status, 200)
    await until(
      'the old pool has ended',
      async () => (await ask(moved)).json.result.pools.length === 1,
    )
    t.match((await ask(moved)).json.result, { version: 2, pools: [{ is_current: true, max: 2 }] })
  },
)

t.test('the plain functions serve a node:http server', async t => {
  const { kit, pools } = await openKit()
  const api = createServer(async (request, response) => {
    const { method = '', url = '', rawHeaders } = request
    try {
      const admitted = await kit.admit({ method, target: url, rawHeaders })
      const answer = await kit.run(admitted, method !== 'GET', async ({ db, tenant }) => {
        if (method !== 'GET') await db.query('INSERT INTO notes VALUES ($1)', [url])
        if (url === '/fail') throw new Fault('FORBIDDEN', 'no')
        return { key: tenant.key, notes: await db.query('SELECT text FROM notes') }
      })
      response.setHeader('content-type', 'application/json').end(JSON.stringify(answer))
    } catch (error) {
      const fault = toFault(error)
      response.writeHead(fault.status, faultFields(fault)).end(faultBody(fault, 'r1'))
    }
  })
  await new Promise<void>(resolve => api.listen(0, '127.0.0.1', resolve))
  const { port } = api.address() as AddressInfo
  const call = (method: string, target: string) => gateway.call(port, globex, method, target)
  t.match(await call('POST', '/plain'), { status: 200, json: { key: 'globex' } })
  t.match(await call('PUT', '/fail'), { status: 403, json: { code: 'FORBIDDEN' } })
  t.match((await call('GET', '/')).json, { key: 'globex', notes: [{ text: '/plain' }] })
  const [, token = ''] = await gateway.sign(globex, 'GET', '/')
  const half = await send(port, 'GET', '/', [CONTEXT_HEADER, token])
  t.match(half, { status: 401, json: { code: 'CONTEXT_INVALID', request_id: 'r1' } })
  t.notOk((await notesOf(acme)).includes('/plain'))
  api.close()
  api.closeAllConnections()
  await kit.close()
  await until('no connection is left', () => pools.figures.connections === 0)
})

t.test('the API of the README runs as it stands', async t => {
  const root = join(import.meta.dirname, '../..')
  const readme = await readFile(join(root, 'README.md'), 'utf8')
  const snippet = /^```ts\n([\s\S]*?tenantPlugin[\s\S]*?)^```/m.exec(readme)?.[1] ?? ''
  const script = `${snippet}\nconsole.log(api.server.address().port)\n`
  const child = execFile(process.execPath, ['--input-type=module-typescript', '-e', script], {
    cwd: root,
    env: { PATH: dirname(process.execPath), ...keys.env, PORT: '0' },
  })
  t.teardown(() => child.kill())
  const port = await new Promise<number>((resolve, reject) => {
    let errors = ''
    child.stderr?.on('data', chunk => {
      errors += chunk
    })
    child.stdout?.on('data', chunk => resolve(Number(chunk)))
    child.on('exit', () => reject(new Error(errors)))
  })
  const body = { text: 'of the readme' }
  const made = await gateway.call(port, globex, 'POST', '/api/notes', { body })
  t.match(made, { status: 200 })
  const read = await gateway.call(port, globex, 'GET', '/api/notes')
  t.match(read.text, 'of the readme')
  t.equal((await send(port, 'GET', '/api/notes', [])).status, 401)
  t.notOk((await notesOf(acme)).includes('of the readme'))
})
