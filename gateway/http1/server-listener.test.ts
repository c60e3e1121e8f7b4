import { once } from 'node:events'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import type { BodySink, Exchange } from '../exchange.ts'
import { Http1Server, type Http1ServerOptions } from './server-listener.ts'
import { currentTransport, RawClient, readBody, until } from './test-kit.ts'
import { TimerWheel } from './timer-wheel.ts'

const OK_GET = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'

/** Answers with the method, target and body of what it got. */
function echo(exchange: Exchange): void {
  const { method, rawTarget, body, reply } = exchange
  const answer = (text: string) =>
    reply.send(200, ['x-method', method], `${method} ${rawTarget} ${text}`)
  if (body === null) answer('-')
  else
    readBody(body).then(
      bytes => answer(bytes.toString('latin1')),
      () => {
        if (!reply.isDone) reply.send(400, [], 'broken body')
      },
    )
}

async function serve(
  t: Test,
  handle: (exchange: Exchange) => void = echo,
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
  t.teardown(() => {
    server.close()
    server.wheel.close()
  })
  const clients: RawClient[] = []
  t.teardown(() => {
    for (const client of clients) client.socket.destroy()
  })
  const dial = (options?: ConstructorParameters<typeof RawClient>[1]) => {
    const client = new RawClient(port, options)
    clients.push(client)
    return client
  }
  /** Sends and returns everything up to the close. */
  const ask = (text: string) => dial().write(text).all()
  return { server, port, exchanges, dial, ask }
}

t.test('a request and its answer, whole', async t => {
  const { ask, exchanges } = await serve(t)
  const text = await ask(
    'POST /a?b HTTP/1.1\r\nHost: a\r\nX-One:  1 \r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello',
  )
  t.match(
    text,
    /^HTTP\/1\.1 200 OK\r\nx-method: POST\r\ndate: \w{3}, [^\r]+ GMT\r\ncontent-length: 15\r\nconnection: close\r\n\r\nPOST \/a\?b hello$/,
  )
  t.match(exchanges[0], { method: 'POST', rawTarget: '/a?b', bytesIn: 5, upgrade: null })
  t.strictSame(exchanges[0]?.rawHeaders.slice(0, 4), ['Host', 'a', 'X-One', '1'])
  t.equal(exchanges[0]?.client.address, '127.0.0.1')
})

t.test('requests split at every byte get the same answers', async t => {
  const { dial } = await serve(t)
  const messages = [
    'POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;e=f\r\nabc\r\n2\r\nde\r\n0\r\nT: u\r\n\r\n',
    'POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde',
  ]
  const client = dial()
  for (const message of messages) {
    for (let cut = 1; cut < message.length; cut++) {
      client.text = ''
      client.write(message.slice(0, cut))
      await new Promise(resolve => setImmediate(resolve))
      client.write(message.slice(cut))
      await client.see('POST /x abcde')
    }
  }
})

t.test('many requests in one read are answered in their order, one at a time', async t => {
  let running = 0
  let most = 0
  const { dial } = await serve(t, async exchange => {
    most = Math.max(most, ++running)
    const body = exchange.body === null ? '' : (await readBody(exchange.body)).toString()
    // The earlier, the slower: only waiting keeps the order.
    await new Promise(resolve => setTimeout(resolve, 20 - Number(exchange.rawTarget.slice(1))))
    running--
    exchange.reply.send(200, [], `<${exchange.rawTarget}${body}>`)
  })
  let text = ''
  for (let i = 0; i < 20; i++) {
    text +=
      i % 3 === 0
        ? `POST /${i} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab`
        : i % 3 === 1
          ? `POST /${i} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n`
          : `GET /${i} HTTP/1.1\r\nHost: a\r\n\r\n`
  }
  const client = dial().write(text)
  await client.see('</19')
  t.strictSame(
    [...client.text.matchAll(/<\/(\d+)(ab)?>/g)].map(match => Number(match[1])),
    Array.from({ length: 20 }, (_, i) => i),
  )
  t.equal(most, 1)
})

t.test('1,000 requests in a row on one connection', async t => {
  const { dial, server } = await serve(t)
  const client = dial()
  for (let i = 0; i < 1000; i++) {
    client.text = ''
    client.write(`GET /${i} HTTP/1.1\r\nHost: a\r\n\r\n`)
    await client.see(`GET /${i} -`)
  }
  t.equal(server.connectionCount, 1)
})

t.test('requests that peers could read in two ways are refused and never handled', async t => {
  const { ask, exchanges } = await serve(t)
  const post = (fields: string, body = 'hello') =>
    `POST / HTTP/1.1\r\nHost: a\r\n${fields}\r\n${body}`
  const cases: [string, number, string][] = [
    ['length beside chunked', 400, post('Content-Length: 5\r\nTransfer-Encoding: chunked\r\n')],
    ['chunked beside length', 400, post('Transfer-Encoding: chunked\r\nContent-Length: 5\r\n')],
    ['two lengths', 400, post('Content-Length: 5\r\nContent-Length: 6\r\n')],
    ['the same length twice', 400, post('Content-Length: 5\r\nContent-Length: 5\r\n')],
    ['a list of lengths', 400, post('Content-Length: 5, 5\r\n')],
    ['a signed length', 400, post('Content-Length: +5\r\n')],
    ['a negative length', 400, post('Content-Length: -5\r\n')],
    ['a hex length', 400, post('Content-Length: 0x5\r\n')],
    ['an empty length', 400, post('Content-Length:\r\n')],
    ['a length past 2^53', 400, post('Content-Length: 9999999999999999\r\n')],
    ['a length with a blank', 400, post('Content-Length: 5 5\r\n')],
    ['two codings', 400, post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n')],
    ['gzip, chunked', 400, post('Transfer-Encoding: gzip, chunked\r\n')],
    ['chunked, identity', 400, post('Transfer-Encoding: chunked, identity\r\n')],
    ['identity', 400, post('Transfer-Encoding: identity\r\n')],
    ['xchunked', 400, post('Transfer-Encoding: xchunked\r\n')],
    ['a quoted coding', 400, post('Transfer-Encoding: "chunked"\r\n')],
    ['an empty coding', 400, post('Transfer-Encoding:\r\n')],
    ['coding by vertical tab', 400, post('Transfer-Encoding:\x0bchunked\r\n')],
    ['blank before the colon', 400, post('Transfer-Encoding : chunked\r\n')],
    [
      'coding in HTTP/1.0',
      400,
      'POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['a folded line', 400, post('X: a\r\n b\r\n')],
    ['a folded first line', 400, 'GET / HTTP/1.1\r\n Host: a\r\n\r\n'],
    ['a bare LF', 400, 'GET / HTTP/1.1\nHost: a\n\n'],
    ['a bare LF after a field', 400, 'GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n'],
    ['a bare CR', 400, 'GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n'],
    ['a NUL', 400, 'GET / HTTP/1.1\r\nHost: a\0\r\n\r\n'],
    ['a control', 400, 'GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n'],
    ['a field without a name', 400, 'GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n'],
    ['a field without a colon', 400, 'GET / HTTP/1.1\r\nHost: a\r\nabc\r\n\r\n'],
    ['a name with a blank', 400, 'GET / HTTP/1.1\r\nHost: a\r\na b: c\r\n\r\n'],
    ['no Host', 400, 'GET / HTTP/1.1\r\n\r\n'],
    ['two Hosts', 400, 'GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n'],
    ['a Host with user information', 400, 'GET / HTTP/1.1\r\nHost: u@a\r\n\r\n'],
    ['a Host with a path', 400, 'GET / HTTP/1.1\r\nHost: a/b\r\n\r\n'],
    ['a Host list', 400, 'GET / HTTP/1.1\r\nHost: a b\r\n\r\n'],
    ['a Host list without a blank', 400, 'GET / HTTP/1.1\r\nHost: a,b\r\n\r\n'],
    ['an empty Host', 400, 'GET / HTTP/1.1\r\nHost:\r\n\r\n'],
    ['a Host that is a port', 400, 'GET / HTTP/1.1\r\nHost: :80\r\n\r\n'],
    ['a Host with a quote', 400, 'GET / HTTP/1.1\r\nHost: a"b\r\n\r\n'],
    ['a length with zeros in front', 400, post('Content-Length: 05\r\n')],
    ['a length of two zeros', 400, post('Content-Length: 00\r\n')],
    [
      'two Authorizations',
      400,
      'GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nauthorization: y\r\n\r\n',
    ],
    ['two blanks', 400, 'GET  / HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a blank after the version', 400, 'GET / HTTP/1.1 \r\nHost: a\r\n\r\n'],
    ['a blank before the method', 400, ' GET / HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a tab', 400, 'GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['two empty lines first', 400, '\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a bare LF first', 400, '\nGET / HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['HTTP/0.9', 400, 'GET /\r\n\r\n'],
    ['RTSP', 400, 'GET / RTSP/1.0\r\nHost: a\r\n\r\n'],
    ['lower-case http', 400, 'GET / http/1.1\r\nHost: a\r\n\r\n'],
    ['zeros before the version', 400, 'GET / HTTP/01.01\r\nHost: a\r\n\r\n'],
    ['a blank in the version', 400, 'GET / HTTP/ 1.1\r\nHost: a\r\n\r\n'],
    ['a version without its dot', 400, 'GET / HTTP/11\r\nHost: a\r\n\r\n'],
    ['a version of three digits', 400, 'GET / HTTP/1.10\r\nHost: a\r\n\r\n'],
    ['HTTP/0.9 by name', 505, 'GET / HTTP/0.9\r\nHost: a\r\n\r\n'],
    ['HTTP/1.2', 505, 'GET / HTTP/1.2\r\nHost: a\r\n\r\n'],
    ['HTTP/2.0', 505, 'GET / HTTP/2.0\r\nHost: a\r\n\r\n'],
    ['an HTTP/2 preface', 505, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['an unknown method', 400, 'FOO / HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a lower-case method', 400, 'get / HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['CONNECT', 400, 'CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a non-ASCII target', 400, 'GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n'],
    [
      'an upgrade with a body',
      400,
      post('Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n'),
    ],
    ['another expectation', 417, post('Expect: 200-ok\r\nContent-Length: 5\r\n')],
    ['TLS', 400, '\x16\x03\x01\x02\x00\x01\x00\x01\xfc'],
    ['too many fields', 431, `GET / HTTP/1.1\r\nHost: a\r\n${'a: b\r\n'.repeat(100)}\r\n`],
    [
      'a length hidden behind 1,000 fields',
      431,
      post(`${'a: b\r\n'.repeat(1000)}Content-Length: 5\r\n`),
    ],
    ['too many bytes', 431, `GET / HTTP/1.1\r\nHost: a\r\nX: ${'b'.repeat(17_000)}\r\n\r\n`],
    ['too long a target', 431, `GET /${'b'.repeat(17_000)} HTTP/1.1\r\nHost: a\r\n\r\n`],
  ]
  for (const [name, status, request] of cases) {
    const text = await ask(request + OK_GET)
    t.match(text, new RegExp(`^HTTP/1.1 ${status} `), name)
    t.match(text, '\r\nconnection: close\r\n', name)
    const body = JSON.parse(text.slice(text.indexOf('\r\n\r\n')))
    t.match(body, { status: false, code: status === 431 ? 'HEADERS_TOO_LARGE' : 'BAD_REQUEST' })
    t.equal(text.split('HTTP/1.1 ').length, 2, `${name}: nothing behind it is answered`)
  }
  t.equal(exchanges.length, 0)
})

t.test('a broken chunked body fails its consumer, and nothing behind it is a request', async t => {
  const { ask, exchanges } = await serve(t)
  for (const body of [
    'zz\r\n',
    '1\r\nabc\r\n',
    '5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n',
    '1\na\r\n',
  ]) {
    exchanges.length = 0
    const text = await ask(
      `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${body}${OK_GET}`,
    )
    t.match(
      text,
      /^HTTP\/1.1 400 [\s\S]*connection: close\r\n\r\nbroken body$/,
      JSON.stringify(body),
    )
    t.equal(exchanges.length, 1)
  }
})

t.test('what is lawful though rare is served', async t => {
  const { ask } = await serve(t)
  const cases: [string, RegExp][] = [
    ['\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n', /^HTTP\/1.1 200 /],
    ['GET / HTTP/1.0\r\n\r\n', /^HTTP\/1.1 200 [\s\S]*connection: close/],
    [
      'GET / HTTP/1.1\r\nHost: a:\r\nConnection: x, Close\r\n\r\n',
      /^HTTP\/1.1 200 [\s\S]*connection: close/,
    ],
    ['GET http://[::1]:80/x HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n', /GET http:/],
    ['OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n', /OPTIONS \* -$/],
    ['POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n', /POST \/ -$/],
    [
      'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n0\r\n\r\n',
      /POST \/ $/,
    ],
    [
      'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n',
      /connection: keep-alive\r\n\r\nGET \/ -HTTP[\s\S]*GET \/2 -$/,
    ],
    ['PATCH / HTTP/1.1\r\nHost: a\r\nX: \x80\xff\r\nConnection: close\r\n\r\n', /^HTTP\/1.1 200 /],
  ]
  for (const [request, answer] of cases)
    t.match(await ask(request), answer, JSON.stringify(request))
})

t.test('answers are framed by method, status and version', async t => {
  const { ask } = await serve(t, ({ rawTarget, reply }) => {
    const [, status, length] = rawTarget.split('/')
    if (length === 'send') return reply.send(Number(status), [], 'hello')
    reply.writeHead(Number(status), ['a', 'b'], length === '-' ? null : Number(length), false)
    reply.write(Buffer.from('hel'))
    setImmediate(() => {
      reply.write(Buffer.from('lo'))
      reply.end()
    })
  })
  const get = async (line: string) => {
    const text = await ask(`${line}\r\nHost: a\r\nConnection: close\r\n\r\n`)
    const [head = '', ...body] = text.split('\r\n\r\n')
    return {
      length: /content-length: (\d+)/.exec(head)?.[1],
      isChunked: head.includes('transfer-encoding: chunked'),
      body: body.join('\r\n\r\n'),
    }
  }
  const bare = { length: undefined, isChunked: false, body: '' }
  t.strictSame(await get('GET /200/5 HTTP/1.1'), { ...bare, length: '5', body: 'hello' })
  t.strictSame(await get('GET /200/- HTTP/1.1'), {
    ...bare,
    isChunked: true,
    body: '3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n',
  })
  t.strictSame(await get('GET /200/- HTTP/1.0'), { ...bare, body: 'hello' })
  t.strictSame(await get('HEAD /200/5 HTTP/1.1'), { ...bare, length: '5' })
  t.strictSame(await get('HEAD /200/- HTTP/1.1'), bare)
  t.strictSame(await get('HEAD /200/send HTTP/1.1'), { ...bare, length: '5' })
  t.strictSame(await get('GET /204/5 HTTP/1.1'), bare)
  t.strictSame(await get('GET /204/send HTTP/1.1'), bare)
  t.strictSame(await get('GET /304/5 HTTP/1.1'), { ...bare, length: '5' })
  t.strictSame(await get('GET /304/send HTTP/1.1'), bare)
})

t.test(
  'an answer of another length than declared, or cut, is a reset and never a clean end',
  async t => {
    const { dial } = await serve(t, ({ rawTarget, reply }) => {
      reply.writeHead(200, [], rawTarget === '/cut' ? null : 5, false)
      reply.write(Buffer.from(rawTarget === '/long' ? 'hello, world' : 'hel'))
      setImmediate(() => (rawTarget === '/cut' ? reply.abort() : reply.end()))
    })
    for (const target of ['/cut', '/short', '/long']) {
      const client = dial().write(`GET ${target} HTTP/1.1\r\nHost: a\r\n\r\n`)
      await client.closed
      t.equal(client.error?.code, 'ECONNRESET', target)
      t.equal(client.hasEnded, false, target)
    }
  },
)

t.test('a field that would break out of an answer cuts it', async t => {
  const { dial } = await serve(t, ({ reply }) => reply.send(200, ['a', 'b\r\nset-cookie: x'], ''))
  const client = dial().write(OK_GET)
  t.equal(await client.all(), '')
})

t.test('a handler that throws costs its connection alone', async t => {
  const { dial, ask } = await serve(t, exchange => {
    if (exchange.rawTarget === '/throw') throw new Error('defect')
    echo(exchange)
  })
  t.equal(await dial().write('GET /throw HTTP/1.1\r\nHost: a\r\n\r\n').all(), '')
  t.match(await ask('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'), /200 OK/)
})

t.test('100 Continue is sent when the body is wanted, and not at all when it is not', async t => {
  const { dial } = await serve(t, exchange => {
    if (exchange.rawTarget === '/no') exchange.reply.send(403, [], 'no')
    else setTimeout(() => echo(exchange), 20)
  })
  const head = (target: string) =>
    `POST ${target} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n`
  const wanted = dial().write(head('/yes'))
  await wanted.see('HTTP/1.1 100 Continue\r\n\r\n')
  wanted.write('hello')
  t.match(await wanted.see('hello'), /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 /)
  const refused = await dial().write(head('/no')).all()
  t.match(refused, /^HTTP\/1.1 403 [\s\S]*connection: close/)
})

t.test(
  'an early answer to an unread body arrives whole; a small body keeps the connection',
  async t => {
    const { dial } = await serve(t, ({ reply }) => reply.send(413, [], 'too large'))
    const small = dial().write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n')
    await small.see('too large')
    small.write('x'.repeat(1000) + OK_GET)
    await until(() => small.text.split('too large').length === 3)
    t.notMatch(small.text, 'connection: close')
    for (const framing of ['Content-Length: 3000000', 'Transfer-Encoding: chunked']) {
      const client = dial().write(`POST / HTTP/1.1\r\nHost: a\r\n${framing}\r\n\r\n`)
      if (framing.startsWith('C')) for (let i = 0; i < 10; i++) client.write('x'.repeat(50_000))
      else for (let i = 0; i < 10; i++) client.write(`c350\r\n${'x'.repeat(50_000)}\r\n`)
      t.match(await client.see('too large'), 'connection: close')
      await until(() => client.hasEnded)
      t.equal(client.error, null, framing)
    }
  },
)

t.test('back-pressure reaches the client: a paused body stops the socket', async t => {
  let sink: BodySink | null = null
  let bytes = 0
  const { dial, exchanges } = await serve(t, exchange => {
    sink = {
      onBodyBytes(chunk) {
        bytes += chunk.length
        exchange.body?.pause()
      },
      onBodyEnd: () => exchange.reply.send(200, [], 'all of it'),
      onBodyError: () => {},
    }
    exchange.body?.start(sink)
  })
  const total = 8 << 20
  const client = dial().write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${total}\r\n\r\n`)
  client.socket.write(Buffer.alloc(total))
  await until(() => bytes > 0)
  const before = bytes
  await new Promise(resolve => setTimeout(resolve, 50))
  t.equal(bytes, before)
  t.ok(client.socket.writableLength > 0)
  while (bytes < total) {
    const seen = bytes
    exchanges[0]?.body?.resume()
    await until(() => bytes > seen)
    t.ok(bytes - seen <= 64 * 1024)
  }
  await client.see('all of it')
})

t.test('back-pressure reaches the pipeline: write says no, onReplyDrain says go', async t => {
  const chunk = Buffer.alloc(256 * 1024)
  let stalls = 0
  const { dial } = await serve(t, ({ reply }) => {
    let left = 64
    const push = () => {
      while (left-- > 0) {
        if (!reply.write(chunk)) {
          stalls++
          return
        }
      }
      reply.end()
    }
    reply.writeHead(200, [], 64 * chunk.length, false)
    reply.listener = { onReplyDrain: push, onReplyGone() {} }
    push()
  })
  const client = dial()
  client.socket.pause()
  client.write(OK_GET)
  await until(() => stalls > 0)
  const before = stalls
  await new Promise(resolve => setTimeout(resolve, 50))
  t.equal(stalls, before)
  client.socket.resume()
  await until(() => client.text.length > 64 * chunk.length, 10_000)
})

t.test('a client that leaves is noticed in every phase', async t => {
  let gone = 0
  const errors: string[] = []
  const { dial, server, exchanges } = await serve(
    t,
    exchange => {
      exchange.reply.listener = { onReplyGone: () => gone++, onReplyDrain() {} }
      if (exchange.body !== null) readBody(exchange.body).catch(error => errors.push(error.message))
      if (exchange.rawTarget === '/stream') {
        exchange.reply.writeHead(200, [], null, false)
        exchange.reply.write(Buffer.from('part'))
      }
    },
    { timeouts: { halfCloseMs: 50 } },
  )
  const upload = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf'
  for (const [request, leave] of [
    [OK_GET, 'reset'],
    [OK_GET, 'end'],
    [upload, 'reset'],
    [upload, 'end'],
    ['GET /stream HTTP/1.1\r\nHost: a\r\n\r\n', 'reset'],
    ['GET /stream HTTP/1.1\r\nHost: a\r\n\r\n', 'end'],
  ] as const) {
    gone = 0
    exchanges.length = 0
    const client = dial().write(request)
    await until(() => exchanges.length === 1)
    if (request.includes('/stream')) await client.see('part')
    if (leave === 'reset') client.socket.resetAndDestroy()
    else client.socket.destroy()
    await until(
      () => gone === 1,
      2000,
      () => `${leave} ${request}`,
    )
    t.equal(exchanges[0]?.reply.isDone, true)
    exchanges[0]?.reply.send(200, [], 'to nobody')
    exchanges[0]?.reply.abort()
    await until(() => server.connectionCount === 0)
    t.equal(gone, 1)
  }
  t.strictSame(errors, ['the client left', 'the client left'])
})

t.test('a client that closes its side only still gets its whole answer', async t => {
  const { dial } = await serve(t, ({ reply }) => {
    setTimeout(() => {
      reply.writeHead(200, [], 4 << 20, false)
      for (let i = 0; i < 4; i++) reply.write(Buffer.alloc(1 << 20, 0x61))
      reply.end()
    }, 30)
  })
  const client = dial({ allowHalfOpen: true })
  client.socket.end(OK_GET)
  const text = await client.all()
  t.equal(client.error, null)
  t.match(text.slice(0, 300), 'connection: close')
  t.equal(text.length - text.indexOf('\r\n\r\n') - 4, 4 << 20)
})

t.test('every wait on a client has its time-out', async t => {
  const { dial, server, exchanges } = await serve(
    t,
    exchange => {
      if (exchange.rawTarget === '/flood') {
        const flood = () => {
          while (exchange.reply.write(Buffer.alloc(1 << 20)));
        }
        exchange.reply.listener = { onReplyGone: () => exchanges.pop(), onReplyDrain: flood }
        exchange.reply.writeHead(200, [], null, false)
        flood()
      } else echo(exchange)
    },
    { timeouts: { headMs: 60, bodyIdleMs: 60, keepAliveMs: 60, writeStallMs: 60, lingerMs: 60 } },
  )
  const silent = dial()
  t.equal(await silent.all(), '')
  const drip = dial().write('GET / HT')
  t.match(await drip.all(), /^HTTP\/1.1 408 [\s\S]*REQUEST_TIMEOUT/)
  const slowBody = dial().write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf')
  t.match(await slowBody.all(), /^HTTP\/1.1 400 [\s\S]*connection: close[\s\S]*broken body$/)
  const idle = dial().write(OK_GET)
  t.match(await idle.all(), /^HTTP\/1.1 200 [\s\S]* -$/)
  const deaf = dial()
  deaf.socket.pause()
  deaf.write('GET /flood HTTP/1.1\r\nHost: a\r\n\r\n')
  await until(() => server.connectionCount === 1)
  await until(() => server.connectionCount === 0)
  const half = dial({ allowHalfOpen: true }).write('GET / HTTP/1.0\r\n\r\n')
  await until(() => half.hasEnded && server.connectionCount === 0)
})

t.test('connections are capped in all and per address', async t => {
  // Busy ones, for an idle one would make room.
  const busy = 'GET /hangs HTTP/1.1\r\nHost: a\r\n\r\n'
  const handle = (exchange: Exchange) => {
    if (exchange.rawTarget === '/') echo(exchange)
  }
  const { dial, server, exchanges } = await serve(t, handle, {
    limits: { connectionsMax: 3, connectionsPerAddressMax: 2 },
  })
  const first = [dial().write(busy), dial().write(busy)]
  await until(() => exchanges.length === 2)
  const third = dial()
  await third.closed
  t.equal(server.turnedAway, 1)
  const other = dial({ localAddress: '127.0.0.2' }).write(busy)
  await until(() => exchanges.length === 3)
  await dial({ localAddress: '127.0.0.3' }).closed
  t.equal(server.turnedAway, 2)
  for (const client of [...first, other]) client.socket.destroy()
  await until(() => server.connectionCount === 0)
  const again = dial().write(OK_GET)
  await again.see('200 OK')
})

t.test(
  'a drain lets answers under way finish, ends idle connections and accepts no more',
  async t => {
    const { dial, server, exchanges, port } = await serve(t, exchange => {
      if (exchange.rawTarget === '/') echo(exchange)
    })
    const idle = dial().write(OK_GET)
    await idle.see('200 OK')
    const busy = dial().write('GET /slow HTTP/1.1\r\nHost: a\r\n\r\n')
    await until(() => exchanges.length === 2)
    const drained = server.drain(5000)
    await idle.closed
    t.equal(idle.error, null)
    const late = new RawClient(port)
    await late.closed
    t.equal(late.error?.code, 'ECONNREFUSED')
    exchanges[1]?.reply.send(200, [], 'done')
    t.match(await busy.all(), /connection: close\r\n\r\ndone$/)
    await drained
    t.equal(server.connectionCount, 0)
  },
)

t.test('a drain that takes too long cuts what is left', async t => {
  const { dial, server, exchanges } = await serve(t, () => {})
  const client = dial().write(OK_GET)
  await until(() => exchanges.length === 1)
  await server.drain(50)
  await client.closed
  t.equal(server.connectionCount, 0)
})

t.test(
  'an upgrade is handed over as a stream, with the bytes that came behind its head',
  async t => {
    const { dial, server } = await serve(t, ({ upgrade, reply, rawTarget }) => {
      if (upgrade === null) return
      if (rawTarget === '/no') return reply.send(401, [], 'no')
      const { socket } = upgrade
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n',
      )
      socket.pipe(socket)
    })
    const head = (target: string) =>
      `GET ${target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`
    const client = dial().write(`${head('/')}early`)
    await client.see('\r\n\r\nearly')
    client.write('late')
    await client.see('earlylate')
    const big = 'z'.repeat(3 << 20)
    client.write(big)
    await until(() => client.text.length > big.length + 9)
    client.socket.end()
    await client.closed
    await until(() => server.connectionCount === 0)
    const reset = dial().write(head('/'))
    await reset.see('101')
    reset.socket.resetAndDestroy()
    await until(() => server.connectionCount === 0)
    t.match(
      await dial().write(head('/no')).all(),
      /^HTTP\/1.1 401 [\s\S]*connection: close\r\n\r\nno$/,
    )
  },
)

t.test('listen rejects on a port that is taken', async t => {
  const { port } = await serve(t)
  const second = new Http1Server({ handle: echo, log: pino({ level: 'silent' }) })
  await t.rejects(second.listen(port, '127.0.0.1'), { code: 'EADDRINUSE' })
})

t.test(
  'a client that pipelines and reads nothing is no longer read from, and loses no answer',
  async t => {
    const filler = 'x'.repeat(1000)
    const { dial, exchanges } = await serve(t, exchange => {
      exchange.reply.send(200, [], `<${exchange.rawTarget}>${filler}`)
    })
    const client = dial()
    client.socket.pause()
    await once(client.socket, 'connect')
    // More than both kernels’ buffers hold of answers.
    const count = 20_000
    let text = ''
    for (let i = 0; i < count; i++) text += `GET /${i} HTTP/1.1\r\nHost: a\r\n\r\n`
    client.write(text)
    await until(() => exchanges.length > 0)
    let answered = 0
    let sameSince = performance.now()
    await until(() => {
      if (answered !== exchanges.length) sameSince = performance.now()
      answered = exchanges.length
      return performance.now() - sameSince > 300
    }, 20_000)
    t.ok(answered < count / 2, `${answered} of ${count} answered unread`)

    client.socket.resume()
    await until(
      () => client.text.includes(`</${count - 1}>`),
      20_000,
      () => `${exchanges.length}`,
    )
    const seen = [...client.text.matchAll(/<\/(\d+)>/g)].map(match => Number(match[1]))
    t.equal(seen.length, count)
    t.ok(seen.every((nth, i) => nth === i))
  },
)

t.test('a client that never reads its pipelined answers is cut after writeStallMs', async t => {
  const { dial, server } = await serve(
    t,
    exchange => exchange.reply.send(200, [], Buffer.alloc(8 * 1024 * 1024)),
    { timeouts: { writeStallMs: 200, keepAliveMs: 60_000 } },
  )
  const client = dial()
  client.socket.pause()
  client.write(OK_GET.repeat(3))
  await until(() => server.connectionCount === 1)
  await until(() => server.connectionCount === 0, 3000)
  t.ok(client.socket.bytesRead < 1024 * 1024, 'and not because it read')
})

t.test('a client that leaves with pipelined bytes behind a request is noticed', async t => {
  for (const [behind, leave] of [
    ['G', 'reset'],
    [OK_GET.repeat(20), 'reset'],
    ['G', 'end'],
  ] as const) {
    let gone = false
    const { dial, exchanges, server } = await serve(t, exchange => {
      exchange.reply.listener = { onReplyDrain() {}, onReplyGone: () => (gone = true) }
    })
    const client = dial()
    client.write(OK_GET)
    await until(() => exchanges.length === 1)
    client.write(behind)
    await new Promise(resolve => setImmediate(resolve))
    if (leave === 'reset') client.socket.resetAndDestroy()
    else client.socket.destroy()
    await until(() => gone, leave === 'reset' ? 1000 : 2000)
    t.equal(exchanges.length, 1, 'nothing behind it ran')
    await until(() => server.connectionCount === 0)
  }
})

t.test(
  'what a client sent before it closed its side is answered, with a body or without',
  async t => {
    const { dial, exchanges } = await serve(t, async exchange => {
      if (exchange.body !== null) await readBody(exchange.body).catch(() => {})
      await new Promise(resolve => setTimeout(resolve, 20))
      if (!exchange.reply.isDone) exchange.reply.send(200, [], `<${exchange.rawTarget}>`)
    })
    const client = dial({ allowHalfOpen: true })
    const post = 'POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab'
    client.socket.end(`${OK_GET}${post}${OK_GET}`)
    t.strictSame((await client.all()).match(/<[^>]*>/g), ['</>', '</b>', '</>'])

    const cut = dial({ allowHalfOpen: true })
    cut.socket.end(`${OK_GET}${post.slice(0, -1)}`)
    t.strictSame((await cut.all()).match(/<[^>]*>/g), ['</>'], 'a body cut short is no request')
    t.equal(exchanges.length, 5)
  },
)

t.test('pipelined bytes behind a request that hangs are bounded', async t => {
  const { dial, exchanges } = await serve(t, () => {})
  const client = dial()
  client.write(OK_GET)
  await until(() => exchanges.length === 1)
  client.write('G'.repeat(32 * 1024 * 1024))
  const { socket } = client
  let left = 0
  let sameSince = performance.now()
  await until(() => {
    if (left !== socket.writableLength) sameSince = performance.now()
    left = socket.writableLength
    return performance.now() - sameSince > 200
  })
  t.ok(left > 0, 'the server stopped reading')
})

t.test(
  'an upgraded connection whose client has closed is cut unless the peer ends too',
  async t => {
    const closed: string[] = []
    const { dial } = await serve(
      t,
      exchange => {
        const { socket } = exchange.upgrade as NonNullable<Exchange['upgrade']>
        socket.on('close', () => closed.push(exchange.rawTarget))
        socket.on('end', () => {
          if (exchange.rawTarget === '/polite') socket.end('bye')
        })
        socket.resume()
        socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n')
      },
      { timeouts: { halfCloseMs: 100 } },
    )
    const handshake = (target: string) =>
      `GET ${target} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
    for (const target of ['/silent', '/polite']) {
      const client = dial({ allowHalfOpen: true })
      client.write(handshake(target))
      await client.see('101')
      client.socket.end()
      await client.closed
      t.equal(client.text.endsWith('bye'), target === '/polite')
      t.equal(client.error?.code, target === '/polite' ? undefined : 'ECONNRESET')
      await until(() => closed.includes(target), 1000)
    }
  },
)
