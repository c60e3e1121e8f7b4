import { once } from 'node:events'
import { Client } from 'pg'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { type RunningGateway, startGateway, startUpstream, startWorld, until } from './test-kit.ts'

t.test('a dedicated tenant’s own deployment', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const sockets = new WebSocketServer({ server: upstream.server })
  const gateways: RunningGateway[] = []
  const start = async (env: Record<string, string>) => {
    const gateway = await startGateway({ ...world.env, APP_UPSTREAMS: upstream.origin, ...env })
    gateways.push(gateway)
    return gateway
  }
  t.teardown(async () => {
    for (const gateway of gateways) await gateway.stop('SIGKILL')
    for (const socket of sockets.clients) socket.terminate()
    upstream.close()
    await world.close()
  })
  const shared = await world.createTenant('shared')
  const { port } = new URL(upstream.origin)
  const client = new Client(world.registryUrl)
  await client.connect()
  const createOwn = async (key: string, appUrl: string) => {
    const tenant = await world.createTenant(key, { mode: 'dedicated' })
    await client.query('UPDATE tenants SET app_url = $2 WHERE id = $1', [tenant.id, appUrl])
    return tenant
  }
  const places = {
    literal: await createOwn('literal', upstream.origin),
    name: await createOwn('name', `http://localhost:${port}`),
    mapped: await createOwn('mapped', `http://[::ffff:127.0.0.1]:${port}`),
    number: await createOwn('number', `http://2130706433:${port}`),
    'tls-literal': await createOwn('tls-literal', `https://127.0.0.1:${port}`),
    'tls-name': await createOwn('tls-name', `https://localhost:${port}`),
    metadata: await createOwn('metadata', 'http://169.254.169.254'),
  }
  await client.end()
  const bearer = (tenant: (typeof places)['name']) => ({
    authorization: `Bearer ${world.token(tenant)}`,
  })

  t.test('in production is not on the machine itself, by name or by address', async t => {
    const gateway = await start({ NODE_ENV: 'production' })
    const get = (tenant: (typeof places)['name']) =>
      fetch(`${gateway.url}/api/x`, { headers: bearer(tenant) })
    t.equal((await get(shared)).status, 200, 'APP_UPSTREAMS may be there')
    const before = upstream.requests.length
    for (const [place, tenant] of Object.entries(places)) {
      const response = await get(tenant)
      t.equal(response.status, 503, place)
      t.match(await response.json(), { code: 'TENANT_CONFIG_INVALID' }, place)
      // Log lines are written in batches.
      const line = () => gateway.log.findLast(entry => entry.tenant === tenant.key)
      await until(() => line() !== undefined)
      t.match(
        line(),
        { level: 'warn', reason: /is a refused address: TENANT_ADDRESS_ALLOW/ },
        place,
      )
      const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/api/ws`, {
        headers: bearer(tenant),
      })
      const [, refusal] = await once(socket, 'unexpected-response')
      t.equal(refusal.statusCode, 503, `${place}, by upgrade`)
      refusal.resume()
    }
    t.equal(
      upstream.requests.length,
      before,
      'nothing reached it, not over idle connections either',
    )
    t.equal(sockets.clients.size, 0)
    t.equal((await get(shared)).status, 200, 'and no other tenant is touched')
  })

  t.test('is reached where TENANT_ADDRESS_ALLOW lists it', async t => {
    const gateway = await start({ NODE_ENV: 'production', TENANT_ADDRESS_ALLOW: '127.0.0.1,::1' })
    for (const tenant of [places.literal, places.name, places.mapped]) {
      const url = `${gateway.url}/api/x`
      t.equal((await fetch(url, { headers: bearer(tenant) })).status, 200, tenant.key)
      const socket = new WebSocket(url.replace('http', 'ws'), { headers: bearer(tenant) })
      await once(socket, 'open')
      socket.terminate()
    }
    const metadata = await fetch(`${gateway.url}/api/x`, { headers: bearer(places.metadata) })
    t.equal(metadata.status, 503)
  })
})
