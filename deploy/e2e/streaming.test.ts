import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import t from 'tap'
import { WebSocket } from 'ws'
import { until } from '../../gateway/test-kit.ts'
import { call } from './call.ts'
import { bytesRead, watchMemory } from './memory.ts'
import { type Binary, startWorld } from './test-kit.ts'

const MIB = 1024 ** 2
const GIB = 1024 ** 3
/** Buffers of both directions and what the collector has not come to yet; a body held would be 1 GiB. */
const GROWTH_BYTES_MAX = 120 * MIB

const world = await startWorld({ apps: 1 })
t.teardown(world.close)
const app = world.apps[0] as Binary
const { acme, globex, gateway } = world
const { accessToken: token } = await world.login(acme)
const { accessToken: globexToken } = await world.login(globex)

t.test('1 GiB goes up and comes down unchanged, and neither process holds it', async t => {
  const path = '/api/files/one-gib.bin'
  // What a process keeps once it has moved anything at all is not what grows with the size.
  await upload(path, 64 * MIB)
  await download(path)
  const watches = { gateway: watchMemory(gateway.pid), app: watchMemory(app.pid) }
  const uploadedAt = performance.now()
  const up = await upload(path, GIB)
  const downloadedAt = performance.now()
  const down = await download(path)
  const endedAt = performance.now()
  t.strictSame(up, { status: 201, bytes: GIB, sha1: down.sha1 })
  t.strictSame(down, { status: 200, bytes: GIB, sha1: up.sha1 })
  for (const [name, watch] of Object.entries(watches)) {
    watch.stop()
    const grown = Math.round(watch.growthBytes / MIB)
    t.ok(watch.growthBytes < GROWTH_BYTES_MAX, `${name} grew by ${grown} MiB at most`)
  }
  t.comment(`up ${seconds(uploadedAt, downloadedAt)} s, down ${seconds(downloadedAt, endedAt)} s`)
  t.match(await world.call(path, { method: 'HEAD', token: globexToken }), { status: 404 })
})

t.test('a client that leaves its upload at 10 % frees the app within a second', async t => {
  const path = '/api/files/left.bin'
  const req = openRequest('PUT', path, { 'content-length': 100 * MIB })
  req.on('error', () => {})
  await pipeline(Readable.from(pseudoRandomBytes(10 * MIB)), req, { end: false })
  await until(async () => (await bucketLeases()) === 1)
  req.destroy()
  const leftAt = performance.now()
  await until(async () => (await bucketLeases()) === 0 && (await inFlight()) === 0, 1000)
  t.comment(`freed ${Math.round(performance.now() - leftAt)} ms after it left`)
  t.match(await world.call(path, { token }), { status: 404 }, 'and nothing is stored')
})

t.test('a client that leaves its download at 10 % frees the app within a second', async t => {
  const req = openRequest('GET', '/api/files/one-gib.bin').end()
  req.on('error', () => {})
  const [file] = (await once(req, 'response')) as [IncomingMessage]
  file.on('error', () => {})
  let bytes = 0
  await new Promise<void>(resolve => {
    file.on('data', chunk => {
      bytes += chunk.length
      if (bytes > GIB / 10) resolve()
    })
  })
  t.equal(await bucketLeases(), 1, 'while it runs it is seen')
  req.destroy()
  const leftAt = performance.now()
  await until(async () => (await bucketLeases()) === 0 && (await inFlight()) === 0, 1000)
  t.comment(`freed ${Math.round(performance.now() - leftAt)} ms after it left`)
})

t.test('a client that reads slowly holds the storage back, not the bytes', async t => {
  const watches = { gateway: watchMemory(gateway.pid), app: watchMemory(app.pid) }
  const slow = Array.from({ length: 4 }, () => openRequest('GET', '/api/files/one-gib.bin').end())
  const files = await Promise.all(
    slow.map(async req => {
      req.on('error', () => {})
      const [file] = (await once(req, 'response')) as [IncomingMessage]
      file.on('error', () => {})
      return file
    }),
  )
  // Sockets hold what they hold; then nothing moves any more while nobody reads.
  let before = Number.NEGATIVE_INFINITY
  let since = performance.now()
  await until(() => {
    const now = bytesRead(gateway.pid)
    if (now - before > 64 * 1024) [before, since] = [now, performance.now()]
    return performance.now() - since > 300
  })
  for (const [name, watch] of Object.entries(watches)) {
    watch.stop()
    const grown = Math.round(watch.growthBytes / MIB)
    t.ok(watch.growthBytes < GROWTH_BYTES_MAX, `${name} grew by ${grown} MiB at most`)
  }
  const [first] = files as [IncomingMessage]
  let bytes = 0
  first.on('data', chunk => {
    bytes += chunk.length
  })
  await until(() => bytes > 50 * MIB)
  t.pass('and it goes on when the client does')
  for (const req of slow) req.destroy()
  await until(async () => (await bucketLeases()) === 0)
})

t.test('events arrive one by one, when they happen, at their own tenant alone', async t => {
  const [mine, others] = await Promise.all([openEvents(token), openEvents(globexToken)])
  await until(() => mine.text().includes('event: ready') && others.text().includes('event: ready'))
  for (const name of ['first', 'second', 'third']) {
    t.notMatch(mine.text(), `"name":"${name}"`)
    const startedAt = performance.now()
    await world.call('/api/projects', { method: 'POST', token, json: { name } })
    await until(() => mine.text().includes(`"name":"${name}"`), 1000)
    t.comment(`${name}: ${Math.round(performance.now() - startedAt)} ms from request to event`)
  }
  t.equal(mine.text().match(/event: project\.created/g)?.length, 3)
  const json = { name: 'of globex' }
  await world.call('/api/projects', { method: 'POST', token: globexToken, json })
  await until(() => others.text().includes('of globex'), 1000)
  t.equal(others.text().match(/event: project\.created/g)?.length, 1)
  t.notMatch(mine.text(), 'of globex')
  mine.close()
  others.close()
  await until(async () => (await gaugeOf(app, 'doorman_app_streams{kind="sse"}')) === 0, 1000)
  t.pass('a client that leaves ends its stream at the app')
})

t.test('messages go both ways over a WebSocket, each at its own tenant', async t => {
  const url = `${gateway.origin.replace('http', 'ws')}/api/ws`
  const open = (bearer: string) => {
    const socket = new WebSocket(url, { headers: { authorization: `Bearer ${bearer}` } })
    const messages: { type: string; tenant?: string; data?: unknown }[] = []
    socket.on('message', data => messages.push(JSON.parse(String(data))))
    socket.on('error', () => {})
    return { socket, messages }
  }
  const [mine, others] = [open(token), open(globexToken)]
  await until(() => mine.messages.length === 1 && others.messages.length === 1)
  t.match(mine.messages, [{ type: 'welcome', tenant: 'acme' }])
  t.match(others.messages, [{ type: 'welcome', tenant: 'globex' }])
  for (let n = 1; n <= 100; n++) mine.socket.send(JSON.stringify({ n }))
  await until(() => mine.messages.length === 101)
  t.strictSame(
    mine.messages.slice(1).map(({ data }) => data),
    Array.from({ length: 100 }, (_, i) => ({ n: i + 1 })),
    'all, in order',
  )
  t.equal(others.messages.length, 1)
  const closed = once(mine.socket, 'close')
  mine.socket.close(1000)
  t.equal((await closed)[0], 1000)
  const cut = once(others.socket, 'close')
  t.equal((await world.cli(['suspend', 'globex'])).code, 0)
  await cut
  await until(async () => (await gaugeOf(app, 'doorman_app_streams{kind="ws"}')) === 0, 1000)
  const refused = new WebSocket(url)
  const [error] = (await once(refused, 'error')) as [Error]
  t.match(error.message, /401/, 'without a token there is no socket')
})

/** Bytes that no layer can guess or compress, made as they are asked for. */
function* pseudoRandomBytes(length: number, hash?: ReturnType<typeof createHash>) {
  const block = Buffer.alloc(MIB)
  for (let i = 0; i < block.length; i += 4)
    block.writeUInt32LE(Math.imul(i + 1, 2654435761) >>> 0, i)
  for (let sent = 0; sent < length; sent += block.length) {
    const chunk = Buffer.from(block)
    chunk.writeDoubleLE(sent, sent % (MIB - 8))
    hash?.update(chunk)
    yield chunk
  }
}

async function upload(path: string, bytes: number) {
  const sha1 = createHash('sha1')
  const req = openRequest('PUT', path, { 'content-length': bytes })
  const answered = once(req, 'response') as Promise<[IncomingMessage]>
  await pipeline(Readable.from(pseudoRandomBytes(bytes, sha1)), req)
  const [res] = await answered
  const closed = once(res, 'close')
  res.resume()
  await closed
  return { status: res.statusCode, bytes, sha1: sha1.digest('hex') }
}

async function download(path: string) {
  const sha1 = createHash('sha1')
  const [res] = (await once(openRequest('GET', path).end(), 'response')) as [IncomingMessage]
  let bytes = 0
  for await (const chunk of res) {
    bytes += chunk.length
    sha1.update(chunk)
  }
  return { status: res.statusCode, bytes, sha1: sha1.digest('hex') }
}

function openRequest(method: string, path: string, headers: object = {}) {
  return request(`${gateway.origin}${path}`, {
    method,
    agent: false,
    headers: { authorization: `Bearer ${token}`, ...headers },
  })
}

async function openEvents(bearer: string) {
  const req = request(`${gateway.origin}/api/events`, {
    agent: false,
    headers: { authorization: `Bearer ${bearer}` },
  }).end()
  const [res] = (await once(req, 'response')) as [IncomingMessage]
  let text = ''
  res.setEncoding('utf8').on('data', chunk => {
    text += chunk
  })
  res.on('error', () => {})
  return { text: () => text, close: () => req.destroy() }
}

async function gaugeOf(binary: Binary, series: string): Promise<number> {
  const { text } = await call(binary.adminOrigin, '/metrics')
  const line = text.split('\n').find(candidate => candidate.startsWith(`${series} `))
  return Number(line?.slice(series.length) ?? 0)
}

function bucketLeases(): Promise<number> {
  return gaugeOf(app, 'doorman_app_bucket_leases')
}

function inFlight(): Promise<number> {
  return gaugeOf(gateway, 'doorman_requests_in_flight')
}

function seconds(from: number, to: number): string {
  return ((to - from) / 1000).toFixed(1)
}
