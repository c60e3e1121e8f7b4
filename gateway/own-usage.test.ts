import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startFaultProxy } from '../registry/fault-proxy.ts'
import { writeStatus } from '../registry/tenant-write.ts'
import { rawExchange, startGateway, startUpstream, startWorld, until } from './test-kit.ts'

const world = await startWorld()
t.teardown(world.close)
const upstream = await startUpstream()
t.teardown(() => upstream.close())
upstream.respond = (_, res) => void res.end('from the app')
const [acme, globex] = [await world.createTenant('acme'), await world.createTenant('globex')]
const env = {
  ...world.env,
  APP_UPSTREAMS: upstream.origin,
  METERING_FLUSH_MS: '100',
  FRONTEND_URL: 'https://app.example',
}
const month = new Date().toISOString().slice(0, 7)

t.test('a tenant sees its own usage, whatever it says of others', async t => {
  const gateway = await startGateway(env)
  t.teardown(() => gateway.stop('SIGKILL'))
  const ask = async (tenant: { id: string }, path: string, headers: object = {}) => {
    const authorization = `Bearer ${world.token(tenant as never, { id: 'u' })}`
    const answer = await fetch(`${gateway.url}${path}`, {
      headers: { authorization, ...headers } as Record<string, string>,
    })
    const text = await answer.text()
    return { status: answer.status, fields: answer.headers, text }
  }
  for (let i = 0; i < 3; i++) t.equal((await ask(acme, '/api/x')).text, 'from the app')
  await ask(globex, '/api/x')
  await until(async () => {
    const rows = await world.store.query(
      'SELECT sum(api_requests) AS n FROM customer_usage_daily',
      [],
    )
    return Number(rows[0]?.n) === 4
  })
  const before = upstream.requests.length
  const origin = { origin: 'https://app.example' }
  const own = await ask(acme, '/api/usage', origin)
  t.equal(own.fields.get('access-control-allow-origin'), 'https://app.example')
  t.match(own.fields.get('cache-control'), /no-store/)
  const { status, result, request_id: id } = JSON.parse(own.text)
  t.equal(status, true)
  t.match(result, { month, api_requests: 3, active_users: 1, storage_gb: 0 })
  t.equal(own.fields.get('x-request-id'), id)
  t.notMatch(own.text, new RegExp(`${acme.id}|${globex.id}`), 'and of nobody’s id')
  for (const path of [
    `/api/usage?tenant_id=${acme.id}`,
    `/api/usage?id=${acme.id}&month=${month}`,
    `/api/usage?tenant_key=acme`,
  ]) {
    const { text } = await ask(globex, path, { 'x-tenant-key': 'acme', 'x-tenant-id': acme.id })
    t.match(JSON.parse(text).result, { api_requests: 1 }, path)
  }
  t.match(JSON.parse((await ask(acme, '/api/usage?month=2020-01')).text).result, {
    api_requests: 0,
  })
  for (const wrong of ['2026-13', 'x', '', `${month}&month=${month}`]) {
    const { status, text } = await ask(acme, `/api/usage?month=${wrong}`)
    t.match([status, JSON.parse(text).code], [400, 'VALIDATION_FAILED'], wrong)
  }
  const none = await fetch(`${gateway.url}/api/usage`)
  t.equal(none.status, 401)
  await none.arrayBuffer()
  const upgrade = await rawExchange(
    gateway.port,
    `GET /api/usage HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${world.token(acme)}\r\nConnection: Upgrade\r\n` +
      `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${Buffer.alloc(16).toString('base64')}\r\n\r\n`,
  )
  t.match(upgrade, /^HTTP\/1\.1 400/)
  await writeStatus(world.store, globex.id, 'suspended', null)
  await until(async () => (await ask(globex, '/api/usage')).status === 403)
  t.equal(upstream.requests.length, before, 'the app is not asked')
  await writeStatus(world.store, globex.id, 'active', null)
  // One more, which is written behind all that came before it.
  await ask(acme, '/api/x')
  const requestsOf = async () => {
    const sum = 'SELECT sum(api_requests)::int AS n FROM customer_usage_daily WHERE tenant_id = $1'
    return (await world.store.query(sum, [acme.id]))[0]?.n
  }
  await until(async () => Number(await requestsOf()) > 3)
  t.equal(await requestsOf(), 4, 'to look at one’s usage is no use')
})

t.test('a table without that row leaves the path to the app', async t => {
  const file = join(t.testdir({ 'routes.json': '' }), 'routes.json')
  const row = { name: 'api', path: '/api/*', credential: 'access_token' }
  writeFileSync(
    file,
    JSON.stringify({ routes: [{ ...row, name: 'bill', path: '/api/bill', answer: 'usage' }, row] }),
  )
  const gateway = await startGateway({ ...env, ROUTES_FILE: file })
  t.teardown(() => gateway.stop('SIGKILL'))
  const headers = { authorization: `Bearer ${world.token(acme)}` }
  const get = async (path: string) => (await fetch(`${gateway.url}${path}`, { headers })).text()
  t.equal(await get('/api/usage'), 'from the app')
  t.match(JSON.parse(await get('/api/bill')).result, { month })
})

t.test('a tenant that asks for many months takes no turn of another', async t => {
  const { port } = world.postgres
  const link = await startFaultProxy({ host: '127.0.0.1', port })
  t.teardown(() => link.stop())
  const url = world.registryUrl.replace(`:${port}/`, `:${link.port}/`)
  const gateway = await startGateway({ ...env, TENANT_REGISTRY_DB_URL: url })
  t.teardown(() => gateway.stop('SIGKILL'))
  const ask = async (tenant: { id: string }, path: string) => {
    const headers = { authorization: `Bearer ${world.token(tenant as never)}` }
    const answer = await fetch(`${gateway.url}${path}`, { headers })
    await answer.arrayBuffer()
    return answer.status
  }
  // Both are known to the gateway from here on.
  for (const tenant of [acme, globex]) t.equal(await ask(tenant, '/api/x'), 200)
  link.set({ latencyMs: 100 })
  const months = Array.from({ length: 6 }, (_, i) => ask(acme, `/api/usage?month=2021-0${i + 1}`))
  // Once one is refused, as many as may be are under way.
  await Promise.any(months.map(async asked => ((await asked) === 200 ? Promise.reject() : null)))
  t.equal(await ask(globex, '/api/usage'), 200)
  t.strictSame((await Promise.all(months)).sort(), [200, 429, 429, 429, 429, 429])
  link.set({ latencyMs: 0 })
  t.equal(await ask(acme, '/api/usage?month=2021-07'), 200, 'and its own turn is given back')
})
