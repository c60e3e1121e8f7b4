import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import type { Tenant } from '../registry/tenant.ts'
import { writeStatus } from '../registry/tenant-write.ts'
import { startGateway, startUpstream, startWorld, until } from './test-kit.ts'

const MIB = 1024 * 1024
const world = await startWorld()
const upstream = await startUpstream()
const [acme, globex] = [await world.createTenant('acme'), await world.createTenant('globex')]
const env = {
  ...world.env,
  APP_UPSTREAMS: upstream.origin,
  HEALTH_PATH: '/readyz',
  HEALTH_INTERVAL_MS: '100',
}
t.teardown(async () => {
  upstream.close()
  await world.close()
})
const asTenant = (tenant: Tenant) => ({
  headers: { authorization: `Bearer ${world.token(tenant)}` },
})
/** Downloads of 4 MiB that stop half-way until the test says so, by tenant path. */
const halves = new Map<string, ServerResponse>()
const half = (req: IncomingMessage, res: ServerResponse) => {
  res.writeHead(200, { 'content-length': 4 * MIB }).write(Buffer.alloc(2 * MIB))
  halves.set(req.url ?? '', res)
}
const rest = (path: string) => halves.get(path)?.end(Buffer.alloc(2 * MIB))

t.test('a long download is cut when its tenant is suspended, and no other is', async t => {
  const gateway = await startGateway(env)
  t.teardown(() => gateway.stop('SIGKILL'))
  upstream.respond = half
  const download = async (path: string, tenant: Tenant) => {
    const response = await fetch(`${gateway.url}${path}`, asTenant(tenant))
    const bytes = response.arrayBuffer().then(
      body => body.byteLength,
      () => 'an abort',
    )
    await until(() => halves.has(path))
    return bytes
  }
  const mine = download('/api/files/a', acme)
  const theirs = download('/api/files/b', globex)
  await until(() => halves.size === 2)
  const gone = once(halves.get('/api/files/a') as ServerResponse, 'close')
  const startedAt = performance.now()
  await writeStatus(world.store, acme.id, 'suspended', 'test')
  t.equal(await mine, 'an abort')
  await gone
  t.ok(performance.now() - startedAt < 5000)
  rest('/api/files/b')
  t.equal(await theirs, 4 * MIB)
  await writeStatus(world.store, acme.id, 'active', 'test')
})

t.test(
  'SIGTERM: not ready first, and new connections are served until the notice ends',
  async t => {
    const gateway = await startGateway({ ...env, DRAIN_NOTICE_MS: '700' })
    t.teardown(() => gateway.stop('SIGKILL'))
    upstream.respond = (_, res) => res.end('served')
    const ask = () => fetch(`${gateway.url}/api/x`, { ...asTenant(globex), keepalive: false })
    t.equal((await ask()).status, 200)
    const exited = gateway.stop()
    await until(async () => (await fetch(`${gateway.internalUrl}/readyz`)).status === 503)
    t.equal(await (await ask()).text(), 'served')
    await until(() =>
      ask().then(
        () => false,
        () => true,
      ),
    )
    t.equal(await exited, 0)
  },
)

t.test('SIGTERM: sockets and streams are told, answers under way come to their end', async t => {
  const gateway = await startGateway(env)
  t.teardown(() => gateway.stop('SIGKILL'))
  const apps = new Map<string, Socket>()
  const server = new WebSocketServer({ noServer: true })
  upstream.server.on('upgrade', (req, socket, head) => {
    apps.set(req.url ?? '', socket as Socket)
    socket.on('error', () => {})
    if (req.url === '/api/ws/pending') socket.resume().on('end', () => socket.end())
    else server.handleUpgrade(req, socket, head, () => {})
  })
  upstream.respond = (req, res) => {
    if (req.url !== '/api/events') return half(req, res)
    res.writeHead(200, { 'content-type': 'text/event-stream' }).write('event: ready\n\n')
  }
  const open = (path: string) => {
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}${path}`, asTenant(globex))
    socket.on('error', () => {})
    const messages: number[] = []
    socket.on('message', (data: Buffer) => messages.push(data.length))
    const closed = once(socket, 'close').then(([code]) => code as number)
    return { socket, messages, closed }
  }
  const [idle, busy, endless] = [
    open('/api/ws/idle'),
    open('/api/ws/busy'),
    open('/api/ws/endless'),
  ]
  for (const { socket } of [idle, busy, endless]) await once(socket, 'open')
  const pending = open('/api/ws/pending')
  const refused = once(pending.socket, 'unexpected-response') as Promise<[unknown, IncomingMessage]>
  await until(() => apps.size === 4)
  // Ten bytes are announced, three come; of the other's there will never be more.
  const busyApp = apps.get('/api/ws/busy') as Socket
  busyApp.write(Buffer.from([0x82, 10, 1, 2, 3]))
  const endlessApp = apps.get('/api/ws/endless') as Socket
  endlessApp.write(Buffer.from([0x82, 10, 1, 2, 3]))
  const events = await fetch(`${gateway.url}/api/events`, asTenant(globex))
  const download = await fetch(`${gateway.url}/api/files/c`, asTenant(globex))
  const gone = [...apps.values()].map(socket => once(socket, 'close'))

  const startedAt = performance.now()
  const exited = gateway.stop()
  t.equal(await idle.closed, 1001)
  busyApp.write(Buffer.from([4, 5, 6, 7, 8, 9, 10, 0x81, 1, 65]))
  t.equal(await busy.closed, 1001)
  t.strictSame(busy.messages, [10], 'the frame under way is whole, and none follows')
  t.equal(await endless.closed, 1006, 'no frame within a frame: it is cut')
  const [, answer] = await refused
  t.equal(answer.resume().statusCode, 503, 'a handshake under way')
  t.equal(await events.text(), 'event: ready\n\n', 'a whole body')
  await Promise.all(gone)
  rest('/api/files/c')
  t.equal((await download.arrayBuffer()).byteLength, 4 * MIB)
  t.equal(await exited, 0)
  t.ok(performance.now() - startedAt < 5000, 'long before its deadline')
})

t.test('a replica that is not ready loses its idle connections at once', async t => {
  const gateway = await startGateway(env)
  t.teardown(() => gateway.stop('SIGKILL'))
  upstream.respond = (_, res) => void setTimeout(() => res.end('ok'), 50)
  const sockets = new Set<Socket>()
  const ask = async (path: string) => {
    const response = await fetch(`${gateway.url}${path}`, asTenant(globex))
    return `${response.status} ${await response.text()}`
  }
  upstream.server.on('request', (req: IncomingMessage) => {
    if (req.url !== '/readyz') sockets.add(req.socket)
  })
  t.strictSame(new Set(await Promise.all([ask('/api/1'), ask('/api/2')])), new Set(['200 ok']))
  t.equal([...sockets].filter(({ destroyed }) => !destroyed).length, 2)
  upstream.isReady = false
  await until(() => [...sockets].every(({ destroyed }) => destroyed))
  upstream.isReady = true
})
