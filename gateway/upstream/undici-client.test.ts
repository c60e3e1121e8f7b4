import { once } from 'node:events'
import { createServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import t, { type Test } from 'tap'
import { ANSWERS, FORGED } from '../../deploy/e2e/probe/answers.ts'
import { makeCertificateAuthority } from '../../deploy/local/certificates.ts'
import { Inbox, RawServer, Recorder, until } from '../http1/test-kit.ts'
import type { UpstreamRequest } from './client.ts'
import { UndiciClient, type UndiciClientOptions } from './undici-client.ts'

const GET: UpstreamRequest = { method: 'GET', target: '/', headers: [], body: null }
const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'

async function pair(t: Test, options: Partial<UndiciClientOptions>) {
  const held: Socket[] = []
  let requests = 0
  const upstream = new RawServer(socket => {
    socket.on('data', () => {
      requests++
      held.push(socket)
    })
  })
  const origin = await upstream.listen()
  const client = new UndiciClient({
    connectTimeoutMs: 1000,
    headTimeoutMs: 30_000,
    bodyIdleTimeoutMs: 30_000,
    keepAliveTimeoutMs: 30_000,
    connectionsMax: 2,
    ...options,
  })
  t.teardown(async () => {
    await client.close()
    upstream.close()
  })
  const ask = () => {
    const recorder = new Recorder()
    return { recorder, call: client.send(origin, GET, recorder) }
  }
  return { client, origin, upstream, ask, held, requestCount: () => requests }
}

t.test('calls that wait are bounded in number and time, and were never sent', async t => {
  const { client, origin, upstream, ask, held, requestCount } = await pair(t, {
    queueMax: 3,
    queueMs: 1000,
  })
  const calls = Array.from({ length: 8 }, ask)
  t.equal(client.queueLength(origin), 3)
  const full = calls.slice(5)
  await Promise.all(full.map(({ recorder }) => recorder.done))
  for (const { recorder } of full)
    t.match(recorder.fault, { kind: 'queue', isUnsent: true, reason: /full/ })

  await until(() => held.length === 2)
  held[0]?.write(OK)
  await calls[0]?.recorder.done
  t.equal(calls[0]?.recorder.body, 'ok')
  await until(() => requestCount() === 3)
  await Promise.all([calls[3]?.recorder.done, calls[4]?.recorder.done])
  for (const nth of [3, 4])
    t.match(calls[nth]?.recorder.fault, {
      kind: 'queue-timeout',
      isUnsent: true,
      reason: /in time/,
    })
  t.equal(calls[2]?.recorder.faults, 0, 'what has been sent is not its deadline’s business')
  t.equal(upstream.accepted, 2)
  t.equal(requestCount(), 3)
})

t.test('an aborted call leaves the queue, and its place inside once it is cut', async t => {
  const { client, origin, ask, held, requestCount } = await pair(t, { queueMax: 2 })
  const calls = Array.from({ length: 4 }, ask)
  await until(() => held.length === 2)
  calls[2]?.call.abort()
  t.equal(client.queueLength(origin), 1)
  const late = ask()
  t.equal(client.queueLength(origin), 2, 'its place is free')
  calls[0]?.call.abort()
  calls[1]?.call.abort()
  await until(() => requestCount() === 4)
  for (const socket of held.slice(2)) socket.write(OK)
  await Promise.all([calls[3]?.recorder.done, late.recorder.done])
  t.equal(calls[3]?.recorder.body, 'ok')
  t.equal(late.recorder.body, 'ok')
  for (const nth of [0, 1, 2]) t.equal(calls[nth]?.recorder.faults, 0, 'an aborted call is silent')
  await until(() => client.activeCount(origin) === 0)
})

t.test('the whole queue ends with a fault when nothing is free in time', async t => {
  const { client, origin, ask } = await pair(t, { queueMs: 200 })
  const calls = Array.from({ length: 2000 }, ask)
  t.equal(client.queueLength(origin), 1024)
  const waited = calls.slice(2)
  await Promise.all(waited.map(({ recorder }) => recorder.done))
  t.ok(waited.every(({ recorder: { fault } }) => fault?.isUnsent && /^queue/.test(fault.kind)))
  t.equal(client.queueLength(origin), 0)
  t.equal(client.activeCount(origin), 2)
  await client.close()
  for (const { recorder } of calls.slice(0, 2)) t.equal(recorder.faults, 1)
})

/** undici reads these as bodies that go on: they end with their time-out. */
const ENDLESS = ['a length past 2^53', 'chunked, gzip']
/** What undici takes though our own client does not; none of it can be framed in another way. */
const LENIENT = [
  ...['chunked in HTTP/1.0', 'an empty line first', 'HTTP/2.0'],
  ...['an extension of 5 KB', 'trailers of 40 KB'],
]

t.test('no answer of an app gone wrong meets the next call', async t => {
  const upstream = new RawServer(async socket => {
    const inbox = new Inbox(socket)
    for (let head = await inbox.takeHead(); head !== null; head = await inbox.takeHead()) {
      const nth = /\/answer\/(\d+) /.exec(head)?.[1]
      socket.write(nth === undefined ? OK : (ANSWERS[Number(nth)]?.answer ?? ''), 'latin1')
    }
  })
  const origin = await upstream.listen()
  const options = { connectTimeoutMs: 1000, headTimeoutMs: 5000, bodyIdleTimeoutMs: 5000 }
  const client = new UndiciClient({ ...options, keepAliveTimeoutMs: 30_000, connectionsMax: 1 })
  t.teardown(async () => {
    await client.close()
    upstream.close()
  })
  const ask = async (target: string, method: string) => {
    const recorder = new Recorder()
    client.send(origin, { method, target, headers: [], body: null }, recorder)
    await recorder.done
    return recorder
  }
  for (const [i, { id, method = 'GET', want }] of ANSWERS.entries()) {
    if (ENDLESS.includes(id)) continue
    const got = await ask(`/answer/${i}`, method)
    t.notMatch(got.body, FORGED, id)
    if (typeof want === 'string' || typeof want === 'number') {
      t.equal(got.fault === null, LENIENT.includes(id), `${id}: ${got.fault?.reason}`)
    }
    t.equal((await ask('/', 'GET')).body, 'ok', `${id}: the next one`)
  }
})

t.test('a replica is verified by its origin’s name, whatever Host a request carries', async t => {
  const ca = makeCertificateAuthority()
  const hosts: (string | undefined)[] = []
  let connections = 0
  const replica = createServer(ca.issue({ names: ['localhost'] }), (req, res) => {
    hosts.push(req.headers.host)
    res.end('ok')
  })
  replica.on('secureConnection', () => connections++)
  replica.on('tlsClientError', () => {})
  replica.listen(0, '127.0.0.1')
  await once(replica, 'listening')
  const { port } = replica.address() as AddressInfo
  t.teardown(() => {
    replica.close()
    replica.closeAllConnections()
  })
  const ask = async (host: string, trusted: string | undefined, names: string[]) => {
    const client = new UndiciClient({
      connectTimeoutMs: 1000,
      headTimeoutMs: 30_000,
      bodyIdleTimeoutMs: 30_000,
      keepAliveTimeoutMs: 30_000,
      connectionsMax: 1,
      ca: trusted,
    })
    t.teardown(() => client.close())
    const heard: Recorder[] = []
    for (const name of names) {
      const recorder = new Recorder()
      const request = { ...GET, method: 'POST', headers: ['host', name] }
      client.send(`https://${host}:${port}`, request, recorder)
      await recorder.done
      heard.push(recorder)
    }
    return heard
  }
  const names = ['localhost', 'gate.example', '127.0.0.1']
  for (const { status, body } of await ask('localhost', ca.cert, names)) {
    t.equal(status, 200)
    t.equal(body, 'ok')
  }
  t.strictSame(hosts, names)
  t.equal(connections, 1, 'another Host is no other replica')

  hosts.length = 0
  const stranger = makeCertificateAuthority().cert
  const refused = [
    ...(await ask('127.0.0.1', ca.cert, ['localhost', '127.0.0.1'])),
    ...(await ask('localhost', stranger, ['localhost'])),
    ...(await ask('localhost', undefined, ['localhost'])),
  ]
  for (const { fault, heads } of refused) {
    t.match(fault, { kind: 'connect', isUnsent: true })
    t.equal(heads, 0)
  }
  t.strictSame(hosts, [], 'nothing was sent')
})
