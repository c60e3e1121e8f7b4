import { once } from 'node:events'
import { request } from 'node:http'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { awaitHold, HoldRefused } from '../../registry/await-hold.ts'
import { type Hold, holdAcks, placeHold, releaseHold } from '../../registry/holds.ts'
import { liveGateways } from '../../registry/membership.ts'
import type { Tenant } from '../../registry/tenant.ts'
import { writeDb } from '../../registry/tenant-write.ts'
import { type RunningGateway, startGateway, startUpstream, startWorld, until } from '../test-kit.ts'

const NEVER = new AbortController().signal

t.test('a held tenant', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const [acme, globex] = [await world.createTenant('acme'), await world.createTenant('globex')]
  const env = {
    ...world.env,
    APP_UPSTREAMS: upstream.origin,
    HELD_REQUESTS_PER_TENANT_MAX: '3',
    IN_FLIGHT_MAX: '3',
  }
  const [here, there] = (await Promise.all([startGateway(env), startGateway(env)])) as [
    RunningGateway,
    RunningGateway,
  ]
  const sockets = new WebSocketServer({ server: upstream.server })
  const { store } = world
  t.teardown(async () => {
    await Promise.all([here, there].map(gateway => gateway.stop('SIGKILL')))
    for (const socket of sockets.clients) socket.terminate()
    upstream.close()
    await world.close()
  })
  const answerOk = upstream.respond
  t.beforeEach(() => {
    upstream.requests.length = 0
    upstream.respond = answerOk
  })
  t.afterEach(() => releaseHold(store, acme.id, null))

  const call = (gateway: RunningGateway, tenant: Tenant, init: RequestInit = {}) =>
    fetch(`${gateway.url}/api/x`, {
      ...init,
      headers: { authorization: `Bearer ${world.token(tenant)}` },
    })
  const statusOf = async (gateway: RunningGateway, tenant: Tenant, init?: RequestInit) => {
    const response = await call(gateway, tenant, init)
    await response.body?.cancel()
    return response.status
  }
  const figure = async ({ internalUrl }: RunningGateway, name: string) => {
    const text = await (await fetch(`${internalUrl}/metrics`)).text()
    return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1])
  }
  const waiting = (gateway: RunningGateway, count: number) =>
    until(async () => (await figure(gateway, 'doorman_requests_held')) === count)
  const hold = async (ms = 30_000): Promise<Hold> => {
    const placed = await placeHold(store, acme.id, ms, null)
    await awaitHold(store, placed, 5000, NEVER)
    return placed
  }

  t.test('waits at all gateways, and goes on with what the row says by then', async t => {
    t.equal((await liveGateways(store)).length, 2, 'both are known')
    const startedAt = performance.now()
    const { id } = await hold()
    t.ok(performance.now() - startedAt < 1000, 'within a second')
    const held = [here, there].map(gateway => call(gateway, acme, { method: 'POST', body: 'x' }))
    await Promise.all([waiting(here, 1), waiting(there, 1)])
    t.equal(await statusOf(here, globex), 200, 'another tenant does not notice')
    t.equal(upstream.requests.length, 1)
    await writeDb(store, acme.id, { ...acme.db, name: 'db_moved' }, acme.configVersion)
    t.equal(await releaseHold(store, acme.id, id), true)
    for (const answer of await Promise.all(held)) t.equal(answer.status, 200)
    for (const { headers } of upstream.requests.slice(1)) {
      const claims = await world.verifier.verify(String(headers['x-tenant-context']), Date.now())
      t.equal(claims.db.name, 'db_moved', 'none by the context of before')
    }
    t.equal(upstream.requests.length, 3)
    t.equal(await figure(here, 'doorman_tenants_held'), 0)
  })

  t.test('what is under way ends first, and only then the gateway says so', async t => {
    const answers: (() => void)[] = []
    upstream.respond = (_, res) => answers.push(() => res.end('done'))
    const before = call(there, acme)
    await until(() => answers.length === 1)
    const placed = await placeHold(store, acme.id, 30_000, null)
    await until(async () => {
      const acks = await holdAcks(store, placed.id)
      return acks.filter(({ inFlight }) => inFlight === 0).length === 1
    })
    await t.rejects(awaitHold(store, placed, 100, NEVER), HoldRefused)
    const acks = await holdAcks(store, placed.id)
    t.strictSame(acks.map(({ inFlight }) => inFlight).sort(), [0, 1])
    answers[0]?.()
    t.equal(await (await before).text(), 'done', 'it is not cut')
    await awaitHold(store, placed, 5000, NEVER)
  })

  t.test('its sockets and event streams are cut, for the app may write by them', async t => {
    upstream.respond = (_, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n')
    }
    const token = (tenant: Tenant) => ({ authorization: `Bearer ${world.token(tenant)}` })
    const open = async (tenant: Tenant) => {
      const url = `${here.url.replace('http', 'ws')}/api/ws`
      const socket = new WebSocket(url, { headers: token(tenant) })
      await once(socket, 'open')
      return socket
    }
    const [mine, other] = [await open(acme), await open(globex)]
    const stream = await call(there, acme)
    const closed = once(mine, 'close')
    const ended = stream.text().then(
      () => 'clean',
      () => 'cut',
    )
    await hold()
    await closed
    t.equal(await ended, 'cut')
    t.equal(other.readyState, WebSocket.OPEN, 'another tenant’s stays')
    const again = open(acme)
    await waiting(here, 1)
    await releaseHold(store, acme.id, null)
    const opened = await again
    t.equal(opened.readyState, WebSocket.OPEN, 'a new one waits like a request')
    opened.terminate()
    other.terminate()
  })

  t.test('waits within bounds: beyond them 503 at once, and who leaves makes room', async t => {
    await hold()
    const clients = [1, 2, 3].map(() => {
      const headers = { authorization: `Bearer ${world.token(acme)}`, 'content-length': 1_000_000 }
      const req = request(`${here.url}/api/x`, { method: 'POST', headers })
      req.on('error', () => {})
      req.write(Buffer.alloc(65_536))
      return req
    })
    await waiting(here, 3)
    const refused = await call(here, acme)
    t.equal(refused.status, 503)
    t.ok(Number(refused.headers.get('retry-after')) > 0)
    t.match(await refused.json(), { code: 'TENANT_HELD', status: false })
    t.equal(await statusOf(here, globex), 200, 'those that wait shed nobody else')
    clients[0]?.socket?.resetAndDestroy()
    await waiting(here, 2)
    const next = call(here, acme)
    await waiting(here, 3)
    for (const client of clients) client.socket?.resetAndDestroy()
    await waiting(here, 1)
    await releaseHold(store, acme.id, null)
    t.equal((await next).status, 200)
    t.equal(upstream.requests.filter(({ method }) => method === 'POST').length, 0, 'none who left')
  })

  t.test('goes on by itself, whoever is gone', async t => {
    await hold(1000)
    const startedAt = performance.now()
    t.equal(await statusOf(here, acme), 200)
    t.ok(performance.now() - startedAt < 3000)
    t.equal(await releaseHold(store, acme.id, null), false, 'nobody released it')
    await hold(1000)
    const released = await placeHold(store, acme.id, 1000, null).catch(error => error)
    t.match(released, { code: 'CONFLICT' }, 'two operators do not meet')
  })

  t.test('is held by a gateway that starts meanwhile, from its first request', async t => {
    const placed = await hold()
    const late = await startGateway(env)
    await awaitHold(store, placed, 5000, NEVER)
    t.equal((await holdAcks(store, placed.id)).length, 3)
    const held = statusOf(late, acme)
    await waiting(late, 1)
    await releaseHold(store, acme.id, placed.id)
    t.equal(await held, 200)
    await late.stop('SIGTERM')
    t.equal((await liveGateways(store)).length, 2, 'who ends in order is gone at once')
  })
})
