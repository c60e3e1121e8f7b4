import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import * as tls from 'node:tls'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { makeCertificateAuthority } from '../../deploy/local/certificates.ts'
import type { Exchange } from '../exchange.ts'
import { makeTrustedProxies } from '../forwarded.ts'
import { loadCertificate } from '../tls/certificate.ts'
import { makeTicketKeys } from '../tls/tls-keys.ts'
import type { TlsContexts } from './secure-socket.ts'
import { Http1Server, type Http1ServerOptions } from './server-listener.ts'
import { until } from './test-kit.ts'
import { TimerWheel } from './timer-wheel.ts'

const GET = 'GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'
const ca = makeCertificateAuthority()

function contexts(folder: string, ticketKeys = makeTicketKeys()): TlsContexts {
  const files = { cert: `${folder}/cert.pem`, key: `${folder}/key.pem` }
  const standard = loadCertificate(files, null, ticketKeys).context
  return { standard, contextFor: () => null }
}

function folderOf(t: Test): string {
  const { cert, key } = ca.issue({ names: ['localhost', '127.0.0.1'] })
  return t.testdir({ 'cert.pem': cert, 'key.pem': key })
}

async function serve(t: Test, { handle, ...options }: Partial<Http1ServerOptions>) {
  const exchanges: Exchange[] = []
  const failures: string[] = []
  const server = new Http1Server({
    handle: exchange => {
      exchanges.push(exchange)
      if (handle !== undefined) return handle(exchange)
      const { address, isTls } = exchange.client
      return exchange.reply.send(200, ['x-app', 'yes'], `<${address} ${isTls}>`)
    },
    log: pino({ level: 'silent' }),
    wheel: new TimerWheel(10),
    onOpeningFailed: reason => failures.push(reason),
    ...options,
  })
  const { port } = await server.listen(0, '127.0.0.1')
  const sockets: Socket[] = []
  t.teardown(() => {
    server.close()
    server.wheel.close()
    for (const socket of sockets) socket.destroy()
  })
  const dial = (from = '127.0.0.1') => {
    const socket = connect({ port, host: '127.0.0.1', localAddress: from, noDelay: true })
    socket.on('error', () => {})
    sockets.push(socket)
    return socket
  }
  /** A TLS connection over `raw`, once its handshake is done. Rejects where it fails. */
  const secure = async (options: tls.ConnectionOptions = {}, raw = dial()) => {
    const socket = tls.connect({ socket: raw, host: '127.0.0.1', ca: ca.cert, ...options })
    await once(socket, 'secureConnect')
    socket.on('error', () => {})
    return socket
  }
  return { server, port, exchanges, failures, dial, secure }
}

function answerOf(socket: Socket): Promise<string> {
  return new Promise(resolve => {
    let text = ''
    socket.on('data', bytes => {
      text += bytes.toString('latin1')
    })
    socket.on('close', () => resolve(text))
  })
}

t.test('TLS 1.2 and 1.3 are spoken, HTTP/1.1 over them, and nothing older or newer', async t => {
  const { secure, exchanges, failures } = await serve(t, { tls: contexts(folderOf(t)) })
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const ALPNProtocols = ['h2', 'http/1.1']
    const socket = await secure({ minVersion: version, maxVersion: version, ALPNProtocols })
    t.equal(socket.getProtocol(), version)
    t.equal(socket.alpnProtocol, 'http/1.1')
    t.match(socket.getCipher().standardName, /GCM|CHACHA20/)
    const answer = answerOf(socket)
    socket.write(GET)
    t.match(await answer, /^HTTP\/1\.1 200 [\s\S]*<127\.0\.0\.1 true>$/)
  }
  const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const
  await t.rejects(secure(old))
  await t.rejects(secure({ ALPNProtocols: ['h2'] }), { code: /NO_APPLICATION_PROTOCOL/ })
  const weak = { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA' } as const
  await t.rejects(secure(weak), 'no cipher without authenticated encryption')
  t.equal(exchanges.length, 2)
  t.strictSame(failures, ['tls', 'tls', 'tls'])
})

t.test('a client cannot renegotiate', async t => {
  const { secure, server } = await serve(t, { tls: contexts(folderOf(t)) })
  const socket = await secure({ maxVersion: 'TLSv1.2' })
  const answer = answerOf(socket)
  socket.renegotiate({}, () => {})
  await answer
  await until(() => server.connectionCount === 0)
})

t.test('what is no TLS is closed without an answer, and the others go on', async t => {
  const { dial, secure, failures, exchanges, server } = await serve(t, {
    tls: contexts(folderOf(t)),
    timeouts: { headMs: 300 },
  })
  const garbage = ['\x16\x03\x01\xff\xff', '\0'.repeat(500), '\x16\x03\x01\x00\x05hello']
  for (const text of [GET, ...garbage]) {
    const socket = dial()
    const answer = answerOf(socket)
    socket.write(text, 'latin1')
    t.notMatch(await answer, /HTTP/)
  }
  const silent = dial()
  t.equal(await answerOf(silent), '', 'a handshake has a deadline')
  const hello = await helloOf()
  const half = dial()
  half.end(hello.subarray(0, 40))
  await answerOf(half)
  const reset = dial()
  reset.write(hello.subarray(0, 40), () => reset.resetAndDestroy())
  await until(() => failures.length === 7 && server.connectionCount === 0)
  t.equal(exchanges.length, 0)
  t.strictSame(failures.slice(0, 5), ['tls', 'tls', 'tls', 'tls', 'too-slow'])
  const good = await secure()
  const answer = answerOf(good)
  good.write(GET)
  t.match(await answer, /^HTTP\/1\.1 200 /)
})

t.test('a handshake split at any byte is done', async t => {
  const { dial, secure } = await serve(t, { tls: contexts(folderOf(t)) })
  const raw = dial()
  const write = raw.write.bind(raw)
  // Of the client's whole flight one byte per segment.
  raw.write = ((bytes: Buffer, ...more: never[]) => {
    if (typeof bytes === 'string') return write(bytes, ...more)
    for (const byte of bytes.subarray(0, -1)) write(Buffer.from([byte]))
    return write(bytes.subarray(-1), ...more)
  }) as typeof raw.write
  const stream = Duplex.from({ readable: raw, writable: raw })
  const socket = await secure({}, stream as never)
  const answer = answerOf(socket)
  socket.end(GET)
  t.match(await answer, /^HTTP\/1\.1 200 /)
})

t.test('the caps count before the handshake, and handshakes make room before clients', async t => {
  const { dial, server, secure, failures, exchanges } = await serve(t, {
    tls: contexts(folderOf(t)),
    limits: { connectionsMax: 3, connectionsPerAddressMax: 2 },
    handle: exchange => {
      if (exchange.rawTarget === '/') exchange.reply.send(200, [], 'ok')
    },
  })
  const older = dial()
  await until(() => server.connectionCount === 1)
  const served = await secure()
  const gone = answerOf(older)
  const third = await secure()
  t.equal(await gone, '', 'the handshake that is not done')
  t.strictSame(failures, ['capped'])

  for (const socket of [served, third]) socket.write('GET /hangs HTTP/1.1\r\nHost: a\r\n\r\n')
  await until(() => exchanges.length === 2)
  const hello = await helloOf()
  const refused = dial()
  refused.write(hello)
  t.equal(await answerOf(refused), '', 'not a byte of a handshake')
  t.equal(server.turnedAway, 1)
  await secure({}, dial('127.0.0.2'))
  const last = await secure({}, dial('127.0.0.3'))
  t.equal(server.evicted, 2, 'the idle one of 127.0.0.2')
  t.equal(last.destroyed || served.destroyed || third.destroyed, false)
})

t.test('a session is resumed by whoever shares its ticket keys, and by no one else', async t => {
  const folder = folderOf(t)
  const keys = makeTicketKeys()
  const a = await serve(t, { tls: contexts(folder, keys) })
  const b = await serve(t, { tls: contexts(folder, keys) })
  const c = await serve(t, { tls: contexts(folder) })
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const first = await a.secure({ maxVersion })
    // In TLS 1.3 the ticket comes after the handshake.
    const session =
      maxVersion === 'TLSv1.2' ? first.getSession() : ((await once(first, 'session'))[0] as Buffer)
    t.equal((await b.secure({ maxVersion, session })).isSessionReused(), true, maxVersion)
    t.equal((await c.secure({ maxVersion, session })).isSessionReused(), false, maxVersion)
  }
})

t.test('Strict-Transport-Security is on every answer over TLS, and on no other', async t => {
  const hsts = /^strict-transport-security: max-age=86400\r$/m
  const handle = (exchange: Exchange) => {
    exchange.reply.send(200, ['Strict-Transport-Security', 'max-age=1', 'x-app', 'yes'], 'ok')
  }
  const over = await serve(t, { tls: contexts(folderOf(t)), hstsMaxAgeS: 86_400, handle })
  for (const text of [GET, 'GET / HTTP/3.1\r\n\r\n']) {
    const socket = await over.secure()
    const answer = answerOf(socket)
    socket.write(text)
    const [head] = (await answer).split('\r\n\r\n')
    t.match(head, hsts)
    t.equal(head?.match(/strict-transport-security/gi)?.length, 1, 'the app’s own is replaced')
  }
  const plain = await serve(t, { hstsMaxAgeS: 86_400 })
  const socket = plain.dial()
  socket.write(GET)
  t.notMatch(await answerOf(socket), /strict-transport/i)
})

const TRUSTED = { versions: 'on', trusts: makeTrustedProxies(['127.0.0.1']).trusts } as const
const V1 = 'PROXY TCP4 203.0.113.9 127.0.0.1 1000 443\r\n'

t.test(
  'property: a PROXY header split at every byte names the client, over TLS or not',
  async t => {
    const plain = await serve(t, { proxy: TRUSTED })
    const header = Buffer.from(V1)
    const v2 = Buffer.from('0d0a0d0a000d0a515549540a2111000ccb007109c633640203e801bb', 'hex')
    for (const bytes of [header, v2]) {
      for (let cut = 1; cut <= bytes.length; cut++) {
        const socket = plain.dial()
        socket.write(bytes.subarray(0, cut))
        await new Promise(resolve => setImmediate(resolve))
        socket.write(Buffer.concat([bytes.subarray(cut), Buffer.from(GET)]))
        const answer = await answerOf(socket)
        if (!answer.endsWith('<203.0.113.9 false>')) t.fail(`at ${cut}: ${answer}`)
      }
    }
    const over = await serve(t, { proxy: TRUSTED, tls: contexts(folderOf(t)) })
    const raw = over.dial()
    raw.write(V1)
    const socket = await over.secure({}, raw)
    const answer = answerOf(socket)
    socket.write(GET)
    t.match(await answer, /<203\.0\.113\.9 true>$/)

    // Header and ClientHello in one segment.
    const hello = await helloOf()
    const both = over.dial()
    both.write(Buffer.concat([header, hello]))
    const [reply] = (await once(both, 'data')) as [Buffer]
    t.equal(reply[0], 0x16, 'a ServerHello')
  },
)

t.test('a PROXY header is due from trusted peers, and nobody else gets in', async t => {
  const { dial, exchanges, failures, server } = await serve(t, {
    proxy: TRUSTED,
    timeouts: { headMs: 200 },
  })
  const refused = [GET, `proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n${GET}`, '\x16\x03\x01\x02\x00\x01']
  for (const text of refused) {
    const socket = dial()
    socket.write(text, 'latin1')
    t.equal(await answerOf(socket), '')
  }
  const stranger = dial('127.0.0.9')
  stranger.write(V1 + GET)
  t.equal(await answerOf(stranger), '')
  const slow = dial()
  slow.write(V1.slice(0, 20))
  t.equal(await answerOf(slow), '')
  t.equal(exchanges.length, 0)
  const expected = ['proxy-header', 'proxy-header', 'proxy-header', 'untrusted', 'too-slow']
  t.strictSame(failures, expected)
  const health = dial()
  health.write(`PROXY UNKNOWN\r\n${GET}`)
  t.match(await answerOf(health), /<127\.0\.0\.1 false>$/, 'a health check has its own address')
  await until(() => server.connectionCount === 0)
})

t.test('the cap per address counts clients, not the load balancer', async t => {
  const { dial, server, exchanges } = await serve(t, {
    proxy: TRUSTED,
    limits: { connectionsPerAddressMax: 1 },
    handle: exchange => {
      if (exchange.rawTarget === '/') exchange.reply.send(200, [], exchange.client.address)
    },
  })
  const open = (address: string, text: string) => {
    const socket = dial()
    socket.write(`PROXY TCP4 ${address} 127.0.0.1 1000 443\r\n${text}`)
    return socket
  }
  const hangs = 'GET /hangs HTTP/1.1\r\nHost: a\r\n\r\n'
  const first = open('203.0.113.1', hangs)
  open('203.0.113.2', hangs)
  await until(() => exchanges.length === 2)
  t.equal(await answerOf(open('203.0.113.1', GET)), '', 'that client has as many as it may have')
  t.equal(server.turnedAway, 1)
  t.match(await answerOf(open('203.0.113.3', GET)), /203\.0\.113\.3$/)
  first.destroy()
  await until(() => server.connectionCount === 1)
  t.match(await answerOf(open('203.0.113.1', GET)), /203\.0\.113\.1$/)
})

t.test('an IPv6 network of 64 bits counts as one address, for caps and for eviction', async t => {
  const { dial, server, exchanges } = await serve(t, {
    proxy: TRUSTED,
    limits: { connectionsMax: 7, connectionsPerAddressMax: 4 },
  })
  const dialAs = (address: string) => {
    const socket = dial().resume()
    const family = address.includes(':') ? 'TCP6 %s 2001:db8::1' : 'TCP4 %s 127.0.0.1'
    socket.write(`PROXY ${family.replace('%s', address)} 1000 443\r\n`)
    return socket
  }
  const isServed = async (socket: Socket) => {
    const before = exchanges.length
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await until(() => exchanges.length > before || socket.destroyed)
    return exchanges.length > before
  }
  const office = [dialAs('192.0.2.1'), dialAs('::ffff:192.0.2.1')]
  for (const socket of office) t.ok(await isServed(socket))
  const flood: Socket[] = []
  for (let i = 1; i <= 6; i++) {
    const socket = dialAs(`2001:db8:5:6:${i}::${i}`)
    flood.push(socket)
    await isServed(socket)
  }
  await until(() => flood.filter(socket => !socket.destroyed).length === 4)
  t.equal(server.connectionCount, 6, 'of the flood no more than of one address')
  t.ok(await isServed(dialAs('2001:db8:5:7::1')), 'another network')
  t.ok(await isServed(dialAs('198.51.100.1')), 'for which the flood makes room')
  for (const socket of office) t.ok(await isServed(socket), 'and nobody else')
})

t.test('a drain cuts handshakes that are not done', async t => {
  const { dial, server } = await serve(t, { tls: contexts(folderOf(t)) })
  const socket = dial()
  await until(() => server.connectionCount === 1)
  const closed = answerOf(socket)
  await server.drain(5000)
  t.equal(await closed, '')
  t.equal(server.connectionCount, 0)
})

/** The first bytes of a client. */
async function helloOf(): Promise<Buffer> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const client = tls.connect({ port, host: '127.0.0.1', ca: ca.cert })
  client.on('error', () => {})
  const [peer] = (await once(server, 'connection')) as [Socket]
  peer.on('error', () => {})
  const [hello] = (await once(peer, 'data')) as [Buffer]
  client.destroy()
  peer.destroy()
  server.close()
  return hello
}
