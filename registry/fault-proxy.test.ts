import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts'
import { until } from './test-kit.ts'

/** A server that sends back what it hears, after its greeting. */
async function startEcho(greeting: string) {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true }, socket => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    socket.write(greeting)
    socket.pipe(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const stop = () => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  return { host: '127.0.0.1', port, sockets, stop }
}

/** A client that keeps what it hears. */
function dial(proxy: FaultProxy) {
  const socket = connect(proxy.port, proxy.host)
  const heard = { text: '', error: '' }
  socket.on('data', chunk => {
    heard.text += chunk
  })
  socket.on('error', error => {
    heard.error = (error as NodeJS.ErrnoException).code ?? ''
  })
  return { socket, heard }
}

const echo = await startEcho('a')
const other = await startEcho('b')
t.teardown(() => {
  echo.stop()
  other.stop()
})
const start = async (t: Test) => {
  const proxy = await startFaultProxy(echo)
  t.teardown(() => proxy.stop())
  return proxy
}

t.test('a link without faults carries bytes and both half-closes', async t => {
  const proxy = await start(t)
  const socket = connect(proxy.port, proxy.host)
  const sent = 'x'.repeat(3_000_000)
  socket.end(sent)
  t.equal(await text(socket), `a${sent}`)
  await until('both ends are gone', () => proxy.connections === 0 && echo.sockets.size === 0)
  t.equal(proxy.accepted, 1)
})

t.test('latency delays and keeps the order; a slow link trickles', async t => {
  const proxy = await start(t)
  proxy.set({ latencyMs: 60 })
  const startedAt = performance.now()
  const { socket, heard } = dial(proxy)
  socket.write('1')
  socket.write('2')
  await until('the echo', () => heard.text === 'a12')
  t.ok(performance.now() - startedAt >= 115, 'once there and once back')
  proxy.set({ latencyMs: 0, bytesPerS: 100 })
  const slowAt = performance.now()
  socket.write('x'.repeat(20))
  await until('all of it', () => heard.text.length === 23)
  t.ok(performance.now() - slowAt >= 150)
})

t.test('a stalled link accepts, says nothing, and goes on where it stopped', async t => {
  const proxy = await start(t)
  const before = dial(proxy)
  await until('the greeting', () => before.heard.text === 'a')
  proxy.set({ stall: true })
  const during = dial(proxy)
  await once(during.socket, 'connect')
  before.socket.write('1')
  const gone = dial(proxy)
  await once(gone.socket, 'connect')
  t.equal(proxy.connections, 3)
  gone.socket.destroy()
  await until('a client that left is seen', () => proxy.connections === 2)
  t.equal(before.heard.text + during.heard.text, 'a')
  proxy.set({ stall: false })
  await until('it goes on', () => before.heard.text === 'a1' && during.heard.text === 'a')
})

t.test('a link whose answers are stalled is heard and says nothing', async t => {
  const proxy = await start(t)
  const { socket, heard } = dial(proxy)
  await until('the greeting', () => heard.text === 'a')
  proxy.set({ stallAnswers: true })
  socket.write('1')
  await until('it is asked', () => [...echo.sockets].at(-1)?.bytesRead === 1)
  await new Promise(resolve => setImmediate(resolve))
  t.equal(heard.text, 'a')
  proxy.set({ stallAnswers: false })
  await until('the answer', () => heard.text === 'a1')
})

t.test('reset, refuse, cut and restore do as they say, on one port', async t => {
  const proxy = await start(t)
  const first = dial(proxy)
  await until('the greeting', () => first.heard.text === 'a')
  proxy.resetAll()
  await until('a reset', () => first.heard.error === 'ECONNRESET')
  const second = dial(proxy)
  await until('new ones pass', () => second.heard.text === 'a')
  proxy.refuse()
  const third = dial(proxy)
  await until('refused', () => third.heard.error === 'ECONNREFUSED')
  second.socket.write('!')
  await until('open ones go on', () => second.heard.text === 'a!')
  proxy.cut()
  await until('cut', () => second.heard.error === 'ECONNRESET')
  await until('behind it too', () => echo.sockets.size === 0)
  const { port } = proxy
  proxy.target(other.host, other.port)
  await proxy.restore()
  t.equal(proxy.port, port)
  const fourth = dial(proxy)
  await until('the other server', () => fourth.heard.text === 'b')
  t.equal(proxy.connections, 1)
  await proxy.stop()
  t.equal(proxy.connections, 0)
})

t.test('a server that is down resets the client, over a stalled link only later', async t => {
  const closed = await startEcho('')
  closed.stop()
  const proxy = await startFaultProxy(closed)
  t.teardown(() => proxy.stop())
  const { heard } = dial(proxy)
  await until('a reset', () => heard.error === 'ECONNRESET')
  proxy.set({ stall: true })
  const { socket, heard: later } = dial(proxy)
  await once(socket, 'connect')
  const other = dial(proxy)
  await once(other.socket, 'connect')
  t.equal(later.error, '')
  t.equal(proxy.connections, 2)
  proxy.set({ stall: false })
  await until('a reset', () => later.error === 'ECONNRESET')
})
