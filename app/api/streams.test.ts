import { type IncomingMessage, request } from 'node:http'
import t from 'tap'
import { WebSocket } from 'ws'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import {
  makeKeys,
  makeTenant,
  startApp,
  type TestApp,
  TestGateway,
  type TestTenant,
  until,
} from '../test-kit.ts'

const server = await startTestPostgres()
t.teardown(() => server.stop())
const keys = makeKeys()
const gateway = new TestGateway(keys)
const acme = await makeTenant(server, 'acme')
const globex = await makeTenant(server, 'globex')

t.test('an event stream tells its tenant’s changes, and no other’s', async t => {
  const app = await startApp(keys)
  t.teardown(() => app.stop())
  const mine = await openEvents(app, acme)
  const theirs = await openEvents(app, globex)
  t.equal(mine.response.headers['content-type'], 'text/event-stream; charset=utf-8')
  await until('ready', () => /event: ready\ndata: .*"tenant":"acme"/.test(mine.text()))
  await gateway.call(app.port, acme, 'POST', '/api/projects', { body: { name: 'Seen' } })
  await until('the change', () =>
    /event: project\.created\ndata: .*"name":"Seen"/.test(mine.text()),
  )
  await gateway.call(app.port, globex, 'POST', '/api/projects', { body: { name: 'Other' } })
  await until('the other change', () => theirs.text().includes('Other'))
  t.notMatch(mine.text(), /Other/)
  t.notMatch(theirs.text(), /Seen|acme/)
  const refused = await gateway.call(app.port, acme, 'POST', '/api/projects', { body: {} })
  t.equal(refused.status, 400)
  t.equal(mine.text().match(/project\.created/g)?.length, 1, 'what failed is not told')
  t.equal(app.pools.figures.leases, 0, 'an open stream holds no lease')
  mine.response.destroy()
  await until('the gauge falls', async () => (await gauge(app, 'sse')) === 1)
})

t.test('streams are bounded per tenant', async t => {
  const app = await startApp(keys, { STREAMS_PER_TENANT_MAX: '1' })
  t.teardown(() => app.stop())
  await openEvents(app, acme)
  const second = await gateway.call(app.port, acme, 'GET', '/api/events')
  t.equal(second.status, 503)
  t.equal((await openEvents(app, globex)).response.statusCode, 200)
  await openSocket(app, acme)
  await t.rejects(openSocket(app, acme), { message: /503/ })
  await openSocket(app, globex)
})

t.test('a WebSocket says welcome and echoes, JSON as JSON', async t => {
  const app = await startApp(keys)
  t.teardown(() => app.stop())
  const { socket, next } = await openSocket(app, acme)
  t.same(await next(), { type: 'welcome', tenant: 'acme', user: acme.user.sub })
  socket.send('{"a":1}')
  t.same(await next(), { type: 'echo', data: { a: 1 } })
  socket.send('hello')
  t.same(await next(), { type: 'echo', data: 'hello' })
  const closed = new Promise<number>(resolve => socket.once('close', resolve))
  socket.send('x'.repeat(70_000))
  t.equal(await closed, 1009, 'too big a message ends it')
  await until('the gauge falls', async () => (await gauge(app, 'ws')) === 0)
  t.match(app.lines.join('\n'), /"route":"\/api\/ws","status":101/)
})

t.test('an upgrade passes the same verification as a request', async t => {
  const app = await startApp(keys)
  t.teardown(() => app.stop())
  const context = await gateway.sign(acme, 'GET', '/api/ws')
  const cases: [string, readonly string[]][] = [
    ['none', []],
    ['another path', await gateway.sign(acme, 'GET', '/api/whoami')],
    ['no user', await gateway.sign(acme, 'GET', '/api/ws', null)],
    ['foreign', await new TestGateway(makeKeys()).sign(acme, 'GET', '/api/ws')],
  ]
  for (const [name, headers] of cases) {
    await t.rejects(openSocket(app, acme, headers), { message: /401/ }, name)
  }
  await openSocket(app, acme, context)
  await t.rejects(openSocket(app, acme, context), { message: /401/ }, 'a replayed upgrade')
  await t.rejects(
    openSocket(app, acme, await gateway.sign(acme, 'GET', '/api/whoami'), '/api/whoami'),
    { message: /400/ },
    'an upgrade of an ordinary route never becomes a socket that serves',
  )
  await t.rejects(openSocket(app, acme, [], '/api/%zz'), { message: /400/ })
  const open = () =>
    new Promise<number>(resolve => app.app.server.getConnections((_, count) => resolve(count)))
  await until('refused upgrades leave no socket', async () => (await open()) === 1)
})

t.test('a stream ends with the token that opened it', async t => {
  const app = await startApp(keys)
  t.teardown(() => app.stop())
  const exp = Math.floor(Date.now() / 1000) + 1
  const brief = { ...acme, user: { ...acme.user, exp } }
  const { socket } = await openSocket(app, brief)
  // Listened to at once: on a busy machine a second is over before the other stream is open.
  const closed = new Promise(resolve => socket.once('close', resolve))
  const events = await openEvents(app, brief)
  const ended = new Promise(resolve => events.response.once('end', resolve))
  t.equal(await closed, 1008)
  await ended
})

t.test('a drain ends streams cleanly and lets a running request finish', async t => {
  const app = await startApp(keys)
  const { socket } = await openSocket(app, acme)
  const events = await openEvents(app, acme)
  const closed = new Promise(resolve => socket.once('close', resolve))
  const ended = new Promise(resolve => events.response.once('end', resolve))
  await app.stop()
  t.equal(await closed, 1001)
  await ended
  t.equal(app.pools.figures.connections, 0)
})

async function openEvents(app: TestApp, tenant: TestTenant) {
  const context = await gateway.sign(tenant, 'GET', '/api/events')
  const headers = ['host', 'app', ...context]
  const options = { port: app.port, host: '127.0.0.1', path: '/api/events', headers, agent: false }
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request({ ...options, agent: false })
      .on('response', resolve)
      .on('error', reject)
      .end()
  })
  let text = ''
  response.on('data', chunk => {
    text += chunk
  })
  response.on('error', () => {})
  t.teardown(() => response.destroy())
  return { response, text: () => text }
}

async function openSocket(
  app: TestApp,
  tenant: TestTenant,
  context?: readonly string[],
  path = '/api/ws',
) {
  const pairs = context ?? (await gateway.sign(tenant, 'GET', path))
  const headers: Record<string, string> = {}
  for (let i = 0; i + 1 < pairs.length; i += 2) headers[pairs[i] ?? ''] = pairs[i + 1] ?? ''
  const socket = new WebSocket(`ws://127.0.0.1:${app.port}${path}`, { headers })
  const messages: unknown[] = []
  socket.on('message', data => messages.push(JSON.parse(data.toString())))
  await new Promise((resolve, reject) => {
    socket.once('open', resolve)
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('closed')))
  })
  socket.on('error', () => {})
  t.teardown(() => socket.terminate())
  const next = async () => {
    await until('a message', () => messages.length > 0)
    return messages.shift()
  }
  return { socket, next }
}

async function gauge(app: TestApp, kind: string): Promise<number> {
  const { values } = await app.metrics.streams.get()
  return values.find(({ labels }) => labels.kind === kind)?.value ?? 0
}
