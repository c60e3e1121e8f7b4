import { once } from 'node:events'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import type { BodySink, Exchange } from '../exchange.ts'
import { Http1Server, type Http1ServerOptions } from './server-listener.ts'
import { currentTransport, RawClient, readBody, until } from './test-kit.ts'
import { TimerWheel } from './timer-wheel.ts'

const GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'
const post = (bytes: number) => `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${bytes}\r\n\r\n`

async function serve(
  t: Test,
  handle: (exchange: Exchange) => void,
  options: Partial<Http1ServerOptions> = {},
) {
  const exchanges: Exchange[] = []
  const server = new Http1Server({
    handle: exchange => {
      exchanges.push(exchange)
      handle(exchange)
    },
    log: pino({ level: 'silent' }),
    wheel: new TimerWheel(10),
    tls: currentTransport().tls,
    ...options,
  })
  const { port } = await server.listen(0, '127.0.0.1')
  const clients: RawClient[] = []
  t.teardown(() => {
    for (const client of clients) client.socket.destroy()
    server.close()
    server.wheel.close()
  })
  const dial = (localAddress = '127.0.0.1') => {
    const client = new RawClient(port, { localAddress })
    clients.push(client)
    return client
  }
  return { server, exchanges, dial }
}

/** Takes the body and says what became of it. */
function answerBody({ body, reply }: Exchange): void {
  if (body === null) return reply.send(200, [], 'no body')
  readBody(body).then(
    bytes => reply.send(200, [], `${bytes.length} bytes`),
    error => {
      if (!reply.isDone) reply.send(408, [], error.message)
    },
  )
}

t.test('a body that drips is cut though it is never silent, a steady one is not', async t => {
  const { dial } = await serve(t, answerBody, {
    timeouts: { bodyIdleMs: 10_000, bodyRateWindowMs: 150 },
    limits: { bodyBytesPerSMin: 1000 },
  })
  const chunked = 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
  for (const [head, piece] of [
    [post(1_000_000), 'x'],
    [chunked, '1\r\nx\r\n'],
  ] as const) {
    const client = dial().write(head)
    const timer = setInterval(() => client.write(piece), 20)
    t.match(
      await client.all(),
      /^HTTP\/1.1 408 [\s\S]*close\r\n\r\nREQUEST_TIMEOUT: the body comes/,
    )
    clearInterval(timer)
  }
  const steady = dial().write(post(20_000))
  for (let i = 0; i < 20; i++) {
    steady.write('x'.repeat(1000))
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  await steady.see('20000 bytes')
})

t.test('a body that the replica holds up is not slow', async t => {
  let sink: BodySink | null = null
  const { dial, exchanges } = await serve(
    t,
    ({ body, reply }) => {
      sink = {
        onBodyBytes: () => body?.pause(),
        onBodyEnd: () => reply.send(200, [], 'all of it'),
        onBodyError: error => reply.send(408, [], error.message),
      }
      body?.start(sink)
    },
    { timeouts: { bodyRateWindowMs: 30 }, limits: { bodyBytesPerSMin: 100_000 } },
  )
  const client = dial().write(`${post(4)}x`)
  await until(() => exchanges[0]?.bytesIn === 1)
  for (let bytes = 2; bytes <= 4; bytes++) {
    await new Promise(resolve => setTimeout(resolve, 60))
    client.write('x')
    exchanges[0]?.body?.resume()
    await until(() => exchanges[0]?.bytesIn === bytes)
  }
  exchanges[0]?.body?.resume()
  await client.see('all of it')
})

t.test('a client that resets while its upload is held up is noticed within a second', async t => {
  let error: Error | null = null
  const { dial, exchanges, server } = await serve(t, ({ body }) => {
    body?.start({
      onBodyBytes: () => body.pause(),
      onBodyEnd() {},
      onBodyError: cause => {
        error = cause
      },
    })
  })
  const client = dial()
  // More than both kernels' buffers hold: a reset is all that can tell.
  client.socket.write(post(64 << 20))
  client.socket.write(Buffer.alloc(32 << 20))
  await until(() => (exchanges[0]?.bytesIn ?? 0) > 0)
  await new Promise(resolve => setTimeout(resolve, 50))
  t.ok(client.socket.writableLength > 0, 'the client is held up')
  client.socket.resetAndDestroy()
  await until(() => error !== null, 1000)
  t.match(error, { message: 'the client left' })
  await until(() => server.connectionCount === 0)
})

t.test('a client that closes while its upload is held up is noticed within a second', async t => {
  let error: Error | null = null
  const { dial, exchanges, server } = await serve(t, ({ body }) => {
    body?.start({
      onBodyBytes: () => body.pause(),
      onBodyEnd() {},
      onBodyError: cause => {
        error = cause
      },
    })
  })
  const client = dial().write(`${post(100_000)}first`)
  await until(() => exchanges[0]?.bytesIn === 5)
  client.write('second')
  client.socket.end()
  await until(() => error !== null, 1000)
  await until(() => server.connectionCount === 0)
})

t.test('a reset behind more pipelined bytes than are kept is noticed within a second', async t => {
  let isGone = false
  const { dial, exchanges, server } = await serve(t, exchange => {
    exchange.reply.listener = { onReplyDrain() {}, onReplyGone: () => (isGone = true) }
  })
  const client = dial().write(GET)
  await until(() => exchanges.length === 1)
  client.socket.write(Buffer.alloc(16 << 20, GET))
  await new Promise(resolve => setTimeout(resolve, 50))
  t.ok(client.socket.writableLength > 0, 'it is read no further')
  client.socket.resetAndDestroy()
  await until(() => isGone, 1000)
  t.equal(exchanges.length, 1, 'nothing behind it ran')
  await until(() => server.connectionCount === 0)
})

t.test('looking for a departure sends nothing and loses nothing', async t => {
  const { dial, exchanges } = await serve(t, ({ body, reply }) => {
    let bytes = 0
    body?.start({
      onBodyBytes: chunk => {
        bytes += chunk.length
        body.pause()
      },
      onBodyEnd: () => reply.send(200, [], `${bytes} bytes`),
      onBodyError: error => reply.send(408, [], error.message),
    })
  })
  const total = 8 << 20
  const client = dial().write(post(total))
  client.socket.write(Buffer.alloc(total))
  await until(() => (exchanges[0]?.bytesIn ?? 0) > 0)
  await new Promise(resolve => setTimeout(resolve, 1000))
  t.equal(client.text, '')
  while ((exchanges[0]?.bytesIn ?? 0) < total) {
    const before = exchanges[0]?.bytesIn ?? 0
    exchanges[0]?.body?.resume()
    await until(() => (exchanges[0]?.bytesIn ?? 0) > before)
  }
  await client.see(`${total} bytes`)
  t.match(client.text, /^HTTP\/1.1 200 /)
})

t.test('an answer left unread is cut though the client goes on sending its body', async t => {
  let isGone = false
  const { dial } = await serve(
    t,
    ({ body, reply }) => {
      body?.start({ onBodyBytes() {}, onBodyEnd() {}, onBodyError() {} })
      const flood = () => {
        while (reply.write(Buffer.alloc(1 << 20)));
      }
      reply.listener = { onReplyDrain: flood, onReplyGone: () => (isGone = true) }
      reply.writeHead(200, [], null, false)
      flood()
    },
    { timeouts: { writeStallMs: 200, bodyIdleMs: 60_000 } },
  )
  const client = dial()
  client.socket.pause()
  await once(client.socket, 'connect')
  client.write(post(1_000_000))
  const timer = setInterval(() => client.write('x'.repeat(500)), 20)
  await until(() => isGone, 2000)
  clearInterval(timer)
})

t.test('at a cap the oldest idle connection makes room; requests are never cut for it', async t => {
  const { dial, server, exchanges } = await serve(
    t,
    exchange => {
      if (exchange.rawTarget === '/') exchange.reply.send(200, [], 'ok')
    },
    { limits: { connectionsMax: 3, connectionsPerAddressMax: 2 } },
  )
  const older = dial().write(GET)
  await older.see('ok')
  const newer = dial().write(GET)
  await newer.see('ok')
  await dial().write(GET).see('ok')
  await older.closed
  t.equal(older.error, null, 'closed in order')
  t.equal(server.evicted, 1)
  t.equal(server.connectionCount, 2)

  newer.write('GET /hangs HTTP/1.1\r\nHost: a\r\n\r\n')
  await until(() => exchanges.length === 4)
  const other = dial('127.0.0.2').write(GET)
  await other.see('ok')
  await dial('127.0.0.3').write(GET).see('ok')
  t.equal(server.evicted, 2, 'the second of the address that held the most')
  t.equal(newer.hasEnded, false)
  t.equal(other.hasEnded, false)
  t.equal(server.turnedAway, 0)
})

t.test('a flood of idle connections from one address locks no other out', async t => {
  const { dial, server } = await serve(t, exchange => exchange.reply.send(200, [], 'ok'), {
    limits: { connectionsMax: 100, connectionsPerAddressMax: 1000 },
  })
  const good = dial('127.0.0.2').write(GET)
  await good.see('ok')
  const flood = Array.from({ length: 150 }, () => dial('127.0.0.3').write('GET / HT'))
  await until(() => server.evicted >= 40)
  good.text = ''
  await good.write(GET).see('ok')
  for (let i = 4; i < 24; i++) await dial(`127.0.0.${i}`).write(GET).see('ok')
  t.ok(server.connectionCount <= 100)
  t.equal(server.turnedAway, 0)
  t.ok(flood.some(client => client.socket.destroyed))
})

t.test('the cap per address is not for addresses that carry many clients', async t => {
  const { dial, server, exchanges } = await serve(t, () => {}, {
    limits: { connectionsPerAddressMax: 1 },
    carriesManyClients: address => address === '127.0.0.2',
  })
  for (let i = 0; i < 3; i++) dial('127.0.0.2').write(GET)
  await until(() => exchanges.length === 3)
  dial().write(GET)
  await until(() => exchanges.length === 4)
  await dial().write(GET).closed
  t.equal(server.turnedAway, 1)
})

const openSockets = () =>
  process.getActiveResourcesInfo().filter(name => name === 'TCPSocketWrap').length

t.test('a client that is refused and goes on pouring leaves no socket behind', async t => {
  const { server, dial } = await serve(t, answerBody)
  // Those of the tests before.
  await until(() => openSockets() === 0)
  const flood = Buffer.alloc(8 << 20, 'GET ')
  const clients = Array.from({ length: 8 }, () => {
    const client = dial()
    client.socket.write('GET / HTTP/1.1\r\nHost: \r\n\r\n')
    client.socket.write(flood)
    return client
  })
  await Promise.all(clients.map(({ closed }) => closed))
  await until(() => server.connectionCount === 0)
  await until(() => openSockets() === 0)
})

t.test(
  'a connection that is cut in the turn of its last answer leaves no socket behind',
  async t => {
    const { server, dial } = await serve(t, ({ reply }) => {
      reply.send(200, [], 'last')
      server.close()
    })
    const client = dial()
    client.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
    await client.closed
    client.socket.destroy()
    await until(() => openSockets() === 0)
  },
)
