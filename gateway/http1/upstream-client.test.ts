import diagnostics from 'node:diagnostics_channel'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import type { UpstreamRequest } from '../upstream/client.ts'
import { HandSource, RawServer, Recorder, until } from './test-kit.ts'
import { TimerWheel } from './timer-wheel.ts'
import { Http1UpstreamClient, type Http1UpstreamOptions } from './upstream-client.ts'

const GET: UpstreamRequest = { method: 'GET', target: '/', headers: [], body: null }
const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'

/** A client and an upstream that answers every request head it sees by `answer`. */
async function pair(
  t: Test,
  script: string | ((socket: Socket, nth: number) => void),
  options: Http1UpstreamOptions = {},
) {
  const upstream = new RawServer(typeof script === 'string' ? answering(script) : script)
  const origin = await upstream.listen()
  const client = new Http1UpstreamClient({ wheel: new TimerWheel(10), ...options })
  t.teardown(() => {
    upstream.close()
    client.wheel.close()
    return client.close()
  })
  const ask = (request: Partial<UpstreamRequest> = {}) => {
    const recorder = new Recorder()
    const call = client.send(origin, { ...GET, ...request }, recorder)
    return { recorder, call }
  }
  const fetch = async (request: Partial<UpstreamRequest> = {}) => {
    const { recorder } = ask(request)
    await recorder.done
    return recorder
  }
  return { upstream, origin, client, ask, fetch }
}

function answering(answer: string) {
  return (socket: Socket) => {
    let seen = ''
    socket.setEncoding('latin1').on('data', (text: string) => {
      seen += text
      while (seen.includes('\r\n\r\n')) {
        seen = seen.slice(seen.indexOf('\r\n\r\n') + 4)
        socket.write(answer, 'latin1')
      }
    })
  }
}

t.test(
  'a request is written from its parts, and the answer arrives without hop-by-hop fields',
  async t => {
    let seen = ''
    const { fetch } = await pair(t, socket => {
      socket.setEncoding('latin1').on('data', (text: string) => {
        seen += text
        if (seen.endsWith('\r\n\r\nhello')) {
          socket.write(
            'HTTP/1.1 201 Created\r\nX-One: 1\r\nConnection: keep-alive, X-Hop\r\nx-hop: 2\r\n' +
              'Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nDate: now\r\nSet-Cookie: a\r\nset-cookie: b\r\n' +
              'Content-Length: 3\r\nEmpty:\r\n\r\nyes',
          )
        }
      })
    })
    const got = await fetch({
      method: 'POST',
      target: '/a?b=c',
      headers: ['Host', 'x.example', 'X-Two', 'zw\xf6i'],
      body: Buffer.from('hello'),
    })
    t.equal(
      seen,
      'POST /a?b=c HTTP/1.1\r\nHost: x.example\r\nX-Two: zw\xf6i\r\ncontent-length: 5\r\n\r\nhello',
    )
    t.equal(got.status, 201)
    t.strictSame(got.headers, ['X-One', '1', 'Set-Cookie', 'a', 'set-cookie', 'b', 'Empty', ''])
    t.equal(got.length, 3)
    t.equal(got.body, 'yes')
    t.equal(got.ends, 1)
    t.equal(got.faults, 0)
  },
)

t.test('an answer split at every byte arrives as if it came at once', async t => {
  const answers = [
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 5\r\n\r\nhello',
    'HTTP/1.1 200 OK\r\nA: b\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nT: u\r\n\r\n',
  ]
  for (const answer of answers) {
    let cut = 0
    const { fetch, upstream } = await pair(t, socket => {
      socket.on('data', () => {
        const at = cut
        socket.write(answer.slice(0, at), () => setImmediate(() => socket.write(answer.slice(at))))
      })
    })
    for (cut = 1; cut < answer.length; cut++) {
      const got = await fetch()
      if (got.body !== 'hello' || got.heads !== 1 || got.faults !== 0) {
        t.fail(`split at ${cut}: ${got.fault?.reason} ${got.body}`)
      }
    }
    t.equal(upstream.accepted, 1, 'one connection served all')
  }
})

t.test(
  'answers that could be read in two ways are refused, and their connection with them',
  async t => {
    const bad: Record<string, string> = {
      'length beside chunked':
        'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
      'two lengths': 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk',
      'a list of lengths': 'HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok',
      'a signed length': 'HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok',
      'a hex length': 'HTTP/1.1 200 OK\r\ncontent-length: 0x2\r\n\r\nok',
      'an empty length': 'HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\nok',
      'a length past 2^53': 'HTTP/1.1 200 OK\r\ncontent-length: 9999999999999999\r\n\r\nok',
      'gzip, chunked': 'HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
      identity: 'HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nok',
      'chunked twice':
        'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
      'chunked in HTTP/1.0': 'HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
      'a folded line': 'HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 2\r\n\r\nok',
      'a folded line by tab': 'HTTP/1.1 200 OK\r\na: b\r\n\tc\r\ncontent-length: 2\r\n\r\nok',
      'a bare LF': 'HTTP/1.1 200 OK\r\na: b\ncontent-length: 2\r\n\r\nok',
      'a bare CR': 'HTTP/1.1 200 OK\r\na: b\rcontent-length: 2\r\n\r\nok',
      'a NUL': 'HTTP/1.1 200 OK\r\na: b\0\r\ncontent-length: 2\r\n\r\nok',
      'a blank before the colon': 'HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok',
      'no colon': 'HTTP/1.1 200 OK\r\nabc\r\ncontent-length: 2\r\n\r\nok',
      'an empty name': 'HTTP/1.1 200 OK\r\n: x\r\ncontent-length: 2\r\n\r\nok',
      'an empty first line': '\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok',
      'HTTP/2': 'HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok',
      'HTTP/1.2': 'HTTP/1.2 200 OK\r\ncontent-length: 2\r\n\r\nok',
      'two digits': 'HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\nok',
      'four digits': 'HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok',
      'status 099': 'HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok',
      'status 600': 'HTTP/1.1 600 OK\r\ncontent-length: 2\r\n\r\nok',
      'not HTTP': 'SSH-2.0-OpenSSH\r\n\r\n',
      'an upgrade': 'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n',
      'endless 1xx': 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(20),
      'a large head': `HTTP/1.1 200 OK\r\na: ${'b'.repeat(33_000)}\r\n\r\n`,
      'a large head without end': `HTTP/1.1 200 OK\r\na: ${'b'.repeat(40_000)}`,
      'many fields': `HTTP/1.1 200 OK\r\n${'a: b\r\n'.repeat(201)}\r\n`,
      'a chunk size with a sign': chunked('+2\r\nok\r\n0\r\n\r\n'),
      'a chunk size by 0x': chunked('0x2\r\nok\r\n0\r\n\r\n'),
      'an empty chunk size': chunked('\r\nok\r\n0\r\n\r\n'),
      'a blank after the chunk size': chunked('2 \r\nok\r\n0\r\n\r\n'),
      'a chunk size past 2^53': chunked('fffffffffffffff\r\nok'),
      'a chunk longer than its size': chunked('2\r\nokk\r\n0\r\n\r\n'),
      'a bare LF after the size': chunked('2\nok\r\n0\r\n\r\n'),
      'a bare LF after the chunk': chunked('2\r\nok\n0\r\n\r\n'),
      'a bare LF in an extension': chunked('2;a\nb\r\nok\r\n0\r\n\r\n'),
      'an endless extension': chunked(`2;${'a'.repeat(5000)}\r\nok\r\n0\r\n\r\n`),
      'a folded trailer': chunked('2\r\nok\r\n0\r\na: b\r\n c\r\n\r\n'),
      'endless trailers': chunked(`2\r\nok\r\n0\r\n${'a: b\r\n'.repeat(8000)}\r\n`),
    }
    let answer = ''
    const { fetch, upstream, client } = await pair(t, socket => {
      socket.on('data', () => socket.write(answer, 'latin1'))
    })
    for (const [name, text] of Object.entries(bad)) {
      answer = text
      const got = await fetch()
      t.equal(got.fault?.kind, 'protocol', name)
      t.equal(got.fault?.isUnsent, false, name)
      t.equal(got.ends, 0, name)
      t.equal(client.connectionCount(), 0, name)
    }
    t.equal(upstream.accepted, Object.keys(bad).length)
  },
)

function chunked(body: string): string {
  return `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${body}`
}

t.test('answers without a body end at their head, whatever length they name', async t => {
  const cases: [string, string, number | null][] = [
    ['HEAD', 'HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n', 500],
    ['HEAD', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n', null],
    ['GET', 'HTTP/1.1 204 No Content\r\n\r\n', null],
    ['GET', 'HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n', 7],
  ]
  for (const [method, answer, length] of cases) {
    const { fetch, upstream } = await pair(t, answer)
    for (let i = 0; i < 2; i++) {
      const got = await fetch({ method })
      t.equal(got.ends, 1)
      t.equal(got.isBodyless, true)
      t.equal(got.length, length)
      t.equal(got.body, '')
    }
    t.equal(upstream.accepted, 1, 'the connection went on')
  }
})

t.test(
  'a body without framing runs until the close, and its connection is not used again',
  async t => {
    const { fetch, upstream, client } = await pair(t, socket => {
      socket.on('data', () => socket.end('HTTP/1.0 200 OK\r\n\r\nall of it'))
    })
    t.equal((await fetch()).body, 'all of it')
    t.equal((await fetch()).body, 'all of it')
    t.equal(upstream.accepted, 2)
    t.equal(client.connectionCount(), 0)
  },
)

t.test('Connection: close and HTTP/1.0 end the connection after a framed answer', async t => {
  for (const head of [
    'HTTP/1.1 200 OK\r\nConnection: close',
    'HTTP/1.0 200 OK\r\nConnection: keep-alive',
  ]) {
    const { fetch, upstream, client } = await pair(t, `${head}\r\ncontent-length: 2\r\n\r\nok`)
    t.equal((await fetch()).body, 'ok')
    t.equal((await fetch()).body, 'ok')
    t.equal(upstream.accepted, 2, head)
    t.equal(client.connectionCount(), 0)
  }
})

t.test('bytes after an answer or on an idle connection are nobody’s answer', async t => {
  const { fetch, upstream, client } = await pair(t, (socket, nth) => {
    socket.on('data', () => {
      socket.write(nth === 0 ? `${OK}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged` : OK)
    })
  })
  t.equal((await fetch()).body, 'ok')
  t.equal(client.connectionCount(), 0, 'surplus in the same read')
  t.equal((await fetch()).body, 'ok')
  t.equal(client.connectionCount(), 1)
  for (const socket of upstream.sockets)
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged')
  await until(() => client.connectionCount() === 0)
  t.equal((await fetch()).body, 'ok')
  t.equal(upstream.accepted, 3)
})

t.test('an answer cut short is a reset after its head, never an end', async t => {
  for (const part of [
    'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf',
    `${chunked('5\r\nhello\r\n')}`,
    `${chunked('5\r\nhello\r\n0\r\n')}`,
  ]) {
    const { fetch } = await pair(t, socket => {
      socket.on('data', () => socket.end(part))
    })
    const got = await fetch()
    t.equal(got.heads, 1)
    t.equal(got.ends, 0)
    t.match(got.fault, { kind: 'reset', isUnsent: false, isReused: false })
  }
})

t.test('faults say truthfully whether the request may have been seen', async t => {
  const { fetch, upstream, origin, client } = await pair(t, (socket, nth) => {
    let requests = 0
    socket.on('data', () => {
      if (nth === 0 && requests++ === 0) socket.write(OK)
      else socket.destroy()
    })
  })
  t.equal((await fetch()).body, 'ok')
  t.match((await fetch()).fault, { kind: 'reset', isUnsent: false, isReused: true })
  t.match((await fetch()).fault, { kind: 'reset', isUnsent: false, isReused: false })
  upstream.close()
  const recorder = new Recorder()
  client.send(origin, GET, recorder)
  await recorder.done
  t.match(recorder.fault, { kind: 'connect', isUnsent: true, isReused: false })
})

t.test('an idle connection that the peer closed is replaced, and no request is lost', async t => {
  const { fetch, upstream, client } = await pair(t, OK)
  for (let i = 0; i < 5; i++) {
    t.equal((await fetch()).body, 'ok')
    for (const socket of upstream.sockets) socket.end()
    await until(() => client.connectionCount() === 0)
  }
  t.equal(upstream.accepted, 5)
})

t.test('parts that would break out of the head are refused before anything is sent', async t => {
  const { fetch, upstream } = await pair(t, OK)
  const requests: Partial<UpstreamRequest>[] = [
    { headers: ['a', 'b\r\nx: y'] },
    { headers: ['a', 'b\nx: y'] },
    { headers: ['a', 'b\0'] },
    { headers: ['a', 'b\u010a'] },
    { headers: ['a\r\nb', 'c'] },
    { headers: ['a b', 'c'] },
    { headers: ['', 'c'] },
    { headers: ['host', 'a', 'Host', 'b'] },
    { headers: ['Content-Length', '5'] },
    { headers: ['Transfer-Encoding', 'chunked'] },
    { headers: ['Connection', 'close'] },
    { target: '/ HTTP/1.1\r\nx: y' },
    { target: '/\u0120' },
    { target: '' },
    { method: 'GET /' },
    { method: 'G\r\nT' },
  ]
  for (const request of requests) {
    const got = await fetch(request)
    t.match(got.fault, { kind: 'protocol', isUnsent: true }, JSON.stringify(request))
  }
  t.equal(upstream.accepted, 0)
})

t.test(
  'a streamed body goes out in its framing, and one of another length than declared never does',
  async t => {
    let seen = ''
    const { ask, client } = await pair(t, socket => {
      seen = ''
      socket.setEncoding('latin1').on('data', (text: string) => {
        seen += text
        if (seen.endsWith('world') || seen.endsWith('0\r\n\r\n')) socket.write(OK)
      })
    })
    for (const length of [10, null]) {
      seen = ''
      const source = new HandSource(length)
      const { recorder } = ask({ method: 'PUT', body: source })
      const sink = await source.started
      sink.onBodyBytes(Buffer.from('hello'))
      sink.onBodyBytes(Buffer.alloc(0))
      sink.onBodyBytes(Buffer.from('world'))
      sink.onBodyEnd()
      await recorder.done
      t.equal(recorder.body, 'ok')
      t.equal(
        seen.slice(seen.indexOf('\r\n\r\n') + 4),
        length === null ? '5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n' : 'helloworld',
      )
      t.match(seen, length === null ? 'transfer-encoding: chunked\r\n' : 'content-length: 10\r\n')
      t.equal(client.connectionCount(), 1)
    }
    for (const [bytes, end] of [
      ['too long by far', false],
      ['short', true],
    ] as const) {
      const source = new HandSource(10)
      const { recorder } = ask({ method: 'PUT', body: source })
      const sink = await source.started
      sink.onBodyBytes(Buffer.from(bytes))
      if (end) sink.onBodyEnd()
      await recorder.done
      t.match(recorder.fault, { kind: 'request-body' })
      t.equal(client.connectionCount(), 0)
    }
    const source = new HandSource(10)
    const { recorder } = ask({ method: 'PUT', body: source })
    ;(await source.started).onBodyError(new Error('the client left'))
    await recorder.done
    t.match(recorder.fault, { kind: 'request-body', reason: 'the client left' })
    t.equal(client.connectionCount(), 0)
  },
)

t.test(
  'an answer that overtakes the upload is delivered, and the connection is not reused',
  async t => {
    const { ask, fetch, upstream, client } = await pair(t, socket => {
      socket.on('data', () => socket.write(OK))
    })
    const source = new HandSource(1_000_000)
    const { recorder } = ask({ method: 'POST', body: source })
    const sink = await source.started
    sink.onBodyBytes(Buffer.alloc(1000))
    await recorder.done
    t.equal(recorder.body, 'ok')
    t.equal(source.isPaused, true)
    t.equal(client.connectionCount(), 0)
    sink.onBodyBytes(Buffer.alloc(1000))
    sink.onBodyError(new Error('too late to matter'))
    t.equal(recorder.faults, 0)
    t.equal((await fetch()).body, 'ok')
    t.equal(upstream.accepted, 2)
  },
)

t.test('abort cuts the connection in every phase and silences the sink', async t => {
  const { ask, upstream, client } = await pair(
    t,
    socket => {
      socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\npart'))
    },
    { limits: { connectionsMax: 1 } },
  )
  const connecting = ask()
  const queued = ask()
  queued.call.abort()
  connecting.call.abort()
  await until(() => client.connectionCount() === 0 && upstream.sockets.size === 0)
  const streaming = ask()
  await until(() => streaming.recorder.body === 'part')
  const waiting = ask()
  streaming.call.abort()
  streaming.call.abort()
  await until(() => waiting.recorder.body === 'part', 5000)
  waiting.call.abort()
  await until(() => client.connectionCount() === 0 && upstream.sockets.size === 0)
  for (const { recorder } of [connecting, queued, streaming, waiting]) {
    t.equal(recorder.ends + recorder.faults, 0)
  }
})

t.test('every wait has its time-out', async t => {
  const short = { connectMs: 1000, headMs: 60, bodyIdleMs: 60, idleMs: 60 }
  const silent = await pair(t, () => {}, { timeouts: short })
  t.match((await silent.fetch()).fault, { kind: 'timeout', isUnsent: false, reason: /head/ })
  const stuck = await pair(t, 'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok', { timeouts: short })
  const got = await stuck.fetch()
  t.match(got.fault, { kind: 'timeout', reason: /idle/ })
  t.equal(got.heads, 1)
  const idle = await pair(t, OK, { timeouts: short })
  t.equal((await idle.fetch()).body, 'ok')
  await until(() => idle.client.connectionCount() === 0 && idle.upstream.sockets.size === 0)
  const deaf = await pair(t, socket => void socket.pause(), { timeouts: short })
  const source = new HandSource(null)
  const { recorder } = deaf.ask({ method: 'PUT', body: source })
  const sink = await source.started
  while (!source.isPaused) sink.onBodyBytes(Buffer.alloc(1 << 20))
  await recorder.done
  t.match(recorder.fault, { kind: 'timeout', reason: /not taken/ })
})

t.test('no time runs against the upstream while the client uploads or does not read', async t => {
  const { ask } = await pair(
    t,
    socket => {
      socket.on('data', text => {
        if (String(text).endsWith('end'))
          socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok')
        if (String(text).endsWith('go')) socket.write('ok')
      })
    },
    { timeouts: { headMs: 50, bodyIdleMs: 50 } },
  )
  const source = new HandSource(null)
  const { recorder, call } = ask({ method: 'PUT', body: source })
  const sink = await source.started
  await new Promise(resolve => setTimeout(resolve, 150))
  sink.onBodyBytes(Buffer.from('end'))
  t.equal(recorder.faults, 0)
  call.pause()
  await new Promise(resolve => setTimeout(resolve, 150))
  t.equal(recorder.faults, 0)
  call.abort()
})

t.test('connections and the queue are bounded, calls in the queue are served in order', async t => {
  const held: Socket[] = []
  const { ask, client, origin, upstream } = await pair(
    t,
    socket => void socket.on('data', () => held.push(socket)),
    { limits: { connectionsMax: 2, queueMax: 2, queueMs: 1500 } },
  )
  const calls = [ask(), ask(), ask(), ask(), ask()]
  const recorders = calls.map(({ recorder }) => recorder)
  await recorders[4]?.done
  t.match(recorders[4]?.fault, { kind: 'queue', isUnsent: true, reason: /full/ })
  t.equal(client.connectionCount(origin), 2)
  t.equal(client.queueLength(origin), 2)
  await until(() => held.length === 2)
  held[0]?.write(OK)
  await recorders[0]?.done
  t.equal(recorders[0]?.body, 'ok')
  await until(() => held.length === 3)
  t.equal(held[2], held[0], 'the freed connection took the next call')
  await recorders[3]?.done
  t.match(recorders[3]?.fault, { kind: 'queue', isUnsent: true, reason: /free connection/ })
  held[2]?.write(OK)
  held[1]?.destroy()
  await Promise.all([recorders[1]?.done, recorders[2]?.done])
  t.equal(recorders[2]?.body, 'ok')
  t.match(recorders[1]?.fault, { kind: 'reset' })
  t.equal(upstream.accepted, 2)
  t.equal(client.queueLength(origin), 0)
})

t.test('a queued call gets a new connection when one is lost', async t => {
  const { ask, upstream } = await pair(
    t,
    (socket, nth) =>
      void socket.on('data', () => (nth === 0 ? socket.destroy() : socket.write(OK))),
    { limits: { connectionsMax: 1 } },
  )
  const [first, second, third] = [ask(), ask(), ask()]
  await Promise.all([first.recorder.done, second.recorder.done, third.recorder.done])
  t.match(first.recorder.fault, { kind: 'reset' })
  t.equal(second.recorder.body, 'ok')
  t.equal(third.recorder.body, 'ok')
  t.equal(upstream.accepted, 2)
})

t.test(
  '1,000 requests in a row use one connection; the last one freed is the first one used',
  async t => {
    const { ask, fetch, upstream } = await pair(t, OK)
    for (let i = 0; i < 1000; i++) if ((await fetch()).body !== 'ok') t.fail(`request ${i}`)
    t.equal(upstream.accepted, 1)
    const many = Array.from({ length: 10 }, () => ask().recorder.done)
    await Promise.all(many)
    t.equal(upstream.accepted, 10)
    for (let i = 0; i < 20; i++) await fetch()
    t.equal(upstream.accepted, 10)
  },
)

t.test('close ends idle connections at once and the others after their call', async t => {
  const held: Socket[] = []
  const { ask, fetch, client, upstream } = await pair(t, (socket, nth) => {
    socket.on('data', () => (nth === 0 ? held.push(socket) : socket.write(OK)))
  })
  const slow = ask()
  await until(() => held.length === 1)
  await fetch()
  t.equal(client.connectionCount(), 2)
  const closed = client.close()
  await until(() => upstream.sockets.size === 1)
  t.match((await fetch()).fault, { kind: 'connect', isUnsent: true })
  held[0]?.write(OK)
  await slow.recorder.done
  t.equal(slow.recorder.body, 'ok')
  await closed
  t.equal(client.connectionCount(), 0)
})

t.test('no connection to a replica that leaves is kept, until it is called again', async t => {
  const held: Socket[] = []
  const { ask, fetch, client, origin, upstream } = await pair(t, (socket, nth) => {
    socket.on('data', () => (nth === 0 ? held.push(socket) : socket.write(OK)))
  })
  const slow = ask()
  await until(() => held.length === 1)
  await fetch()
  t.equal(client.connectionCount(origin), 2)
  client.closeIdle(origin)
  await until(() => upstream.sockets.size === 1)
  held[0]?.write(OK)
  await slow.recorder.done
  t.equal(slow.recorder.body, 'ok', 'the call under way got its answer')
  t.equal(client.connectionCount(origin), 0)
  t.equal((await fetch()).body, 'ok')
  t.equal((await fetch()).body, 'ok')
  t.equal(client.connectionCount(origin), 1, 'kept again')
  client.closeIdle('http://127.0.0.1:1')
})

t.test('a pool that loses its last dead connection as a call comes stays known', async t => {
  const sockets: Socket[] = []
  const onSocket = (message: unknown) => sockets.push((message as { socket: Socket }).socket)
  diagnostics.subscribe('net.client.socket', onSocket)
  t.teardown(() => diagnostics.unsubscribe('net.client.socket', onSocket))
  const { client, origin, ask, fetch } = await pair(t, OK)
  t.equal((await fetch()).body, 'ok')
  // Dead, and its 'close' not yet emitted: what a reset looks like within the tick of a call.
  sockets[0]?.destroy()
  const { recorder } = ask()
  t.equal(client.connectionCount(origin), 1, 'the new connection is counted')
  await recorder.done
  t.equal(recorder.body, 'ok')
  t.equal(sockets.length, 2)
  t.equal(client.connectionCount(origin), 1)
  await client.close()
  t.ok(sockets[1]?.destroyed, 'and closed with the client')
})
