import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import type { BodySource, Exchange } from '../exchange.ts'
import type { UpstreamCall, UpstreamFault, UpstreamSink } from '../upstream/client.ts'
import { Http1Server } from './server-listener.ts'
import { RawClient, readBody, until } from './test-kit.ts'
import { Http1UpstreamClient } from './upstream-client.ts'

/** The smallest pipeline: an exchange and its upstream call, coupled as `forward` does it. */
class Relay implements UpstreamSink {
  readonly #exchange: Exchange
  readonly #call: UpstreamCall

  constructor(exchange: Exchange, client: Http1UpstreamClient, origin: string) {
    this.#exchange = exchange
    const { method, rawTarget: target, body, reply, rawHeaders } = exchange
    const headers: string[] = []
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const name = rawHeaders[i] as string
      if (!/^(content-length|transfer-encoding|connection|expect)$/i.test(name)) {
        headers.push(name, rawHeaders[i + 1] as string)
      }
    }
    reply.listener = {
      onReplyGone: () => this.#call.abort(),
      onReplyDrain: () => this.#call.resume(),
    }
    this.#call = client.send(origin, { method, target, headers, body }, this)
  }

  onHead(status: number, headers: string[], length: number | null, isBodyless: boolean): void {
    this.#exchange.reply.writeHead(status, headers, length, isBodyless)
  }

  onBytes(chunk: Buffer): void {
    if (!this.#exchange.reply.write(chunk)) this.#call.pause()
  }

  onEnd(): void {
    this.#exchange.reply.end()
  }

  onFault(fault: UpstreamFault): void {
    if (this.#exchange.reply.isHeadSent) this.#exchange.reply.abort()
    else this.#exchange.reply.send(502, [], fault.reason)
  }
}

async function relay(t: Test, onRequest: Parameters<typeof createServer>[1]) {
  const upstream = createServer(onRequest)
  await new Promise<void>(resolve => upstream.listen(0, '127.0.0.1', resolve))
  const origin = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`
  const client = new Http1UpstreamClient()
  const server = new Http1Server({
    handle: exchange => void new Relay(exchange, client, origin),
    log: pino({ level: 'silent' }),
    wheel: client.wheel,
  })
  const { port } = await server.listen(0, '127.0.0.1')
  t.teardown(() => {
    server.close()
    upstream.closeAllConnections()
    upstream.close()
    client.wheel.close()
    return client.close()
  })
  return { port, server, client, upstream }
}

t.test('256 MiB flow each way, and what is held of them stays below 64 MiB', async t => {
  const total = 256 << 20
  const chunk = Buffer.alloc(1 << 20, 0x61)
  let uploaded = 0
  const { port } = await relay(t, (req, res) => {
    if (req.method === 'PUT') {
      req.on('data', bytes => {
        uploaded += bytes.length
      })
      req.on('end', () => res.end('taken'))
      return
    }
    let left = total / chunk.length
    res.writeHead(200, req.url === '/length' ? { 'content-length': total } : {})
    const push = () => {
      while (left > 0) {
        left--
        if (!res.write(chunk)) return res.once('drain', push)
      }
      return res.end()
    }
    push()
  })
  // Garbage is no leak: what counts is what a collection leaves.
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  let peak = 0
  let unwatched = 0
  const watch = (bytes: number) => {
    unwatched += bytes
    if (unwatched < 32 << 20) return
    unwatched = 0
    collect()
    peak = Math.max(peak, process.memoryUsage().arrayBuffers)
  }
  collect()
  const before = process.memoryUsage().arrayBuffers
  for (const target of ['/length', '/chunked']) {
    const client = new RawClient(port)
    let got = 0
    client.socket.setEncoding()
    client.socket.removeAllListeners('data')
    client.socket.on('data', bytes => {
      got += bytes.length
      watch(bytes.length)
    })
    client.write(`GET ${target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`)
    await client.closed
    t.ok(got >= total && got < total * 1.02, `${target}: ${got}`)
  }
  const up = new RawClient(port)
  up.write(`PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: ${total}\r\nConnection: close\r\n\r\n`)
  for (let sent = 0; sent < total; sent += chunk.length) {
    if (!up.socket.write(chunk)) await new Promise(resolve => up.socket.once('drain', resolve))
    watch(chunk.length)
  }
  t.match(await up.all(), /200 OK[\s\S]*taken/)
  t.equal(uploaded, total)
  t.ok(
    peak > 0 && peak - before < 64 << 20,
    `${Math.round((peak - before) / 2 ** 20)} MiB at the peak`,
  )
})

t.test(
  'a client that leaves takes its upstream call with it; an upstream that breaks is shown',
  async t => {
    let open = 0
    const { port, client } = await relay(t, (req, res) => {
      open++
      res.on('close', () => open--)
      if (req.url === '/break') {
        res.writeHead(200, { 'content-length': 10 })
        res.write('half', () => setImmediate(() => req.socket.destroy()))
      } else if (req.url === '/stream') {
        res.writeHead(200).write('part')
      }
    })
    for (const target of ['/silent', '/stream']) {
      const leaver = new RawClient(port).write(`GET ${target} HTTP/1.1\r\nHost: a\r\n\r\n`)
      await until(() => open === 1)
      if (target === '/stream') await leaver.see('part')
      leaver.socket.destroy()
      await until(() => open === 0 && client.connectionCount() === 0, 2500)
    }
    const cut = new RawClient(port).write('GET /break HTTP/1.1\r\nHost: a\r\n\r\n')
    await cut.closed
    t.equal(cut.hasEnded, false)
    t.equal(cut.error?.code, 'ECONNRESET')
  },
)

interface Seen {
  accepted: boolean
  requests: string[]
}

/** Node takes these, the engine does not. Each pattern tells why, by what the message holds. */
const STRICTER: [string, RegExp][] = [
  [
    'blanks between the parts of the request line (RFC 9112 section 3)',
    /^[A-Z]+ {2,}|^[A-Z]+ \S+ {2,}/,
  ],
  ['more than one empty line, or a bare LF, before the request line', /^(?:\r\n){2}|^\n|^\r\n\n/],
  ['any transfer coding but chunked', /transfer-encoding: (?!chunked\r)/i],
  ['a coding in HTTP/1.0', /HTTP\/1\.0[\s\S]*transfer-encoding/i],
  ['two Host or Authorization fields', /(host|authorization):[\s\S]*\r\n\1:/i],
  ['a Host that is none, or empty', /host: ?(?:a b|a\/b|u@a)?\r/i],
  ['the connection ends with a 417, Node goes on', /expect: (?!100-continue\r)/i],
  ['another protocol or version', / (?:RTSP\/1\.0|HTTP\/(?:0\.9|2\.0))\r|^[A-Z]+ \S+\r/],
]

t.test(
  'what the engine accepts, Node accepts with the same result; what it refuses beyond is on the list',
  async t => {
    const record = (seen: Seen[], id: string, line: string) => seen[Number(id)]?.requests.push(line)
    const byNode: Seen[] = []
    const byEngine: Seen[] = []
    const tell = (method: string, target: string, raw: readonly string[], body: Buffer) =>
      JSON.stringify([method, target, raw, body.toString('latin1')])
    const idOf = (raw: readonly string[]) =>
      raw[raw.findIndex(text => /^x-id$/i.test(text)) + 1] ?? ''

    const node = createServer({ keepAlive: true }, (req, res) => {
      const chunks: Buffer[] = []
      req.on('error', () => {})
      req.on('data', bytes => chunks.push(bytes))
      req.on('end', () => {
        const { method = '', url = '', rawHeaders } = req
        record(byNode, idOf(rawHeaders), tell(method, url, rawHeaders, Buffer.concat(chunks)))
        res.end('ok')
      })
    })
    node.on('checkExpectation', (_, res) => res.writeHead(417, { connection: 'close' }).end())
    await new Promise<void>(resolve => node.listen(0, '127.0.0.1', resolve))
    const engine = new Http1Server({
      log: pino({ level: 'silent' }),
      handle: exchange => {
        const { method, rawTarget, rawHeaders, body, reply } = exchange
        const answer = (bytes: Buffer) => {
          record(byEngine, idOf(rawHeaders), tell(method, rawTarget, rawHeaders, bytes))
          reply.send(200, [], 'ok')
        }
        if (body === null) answer(Buffer.alloc(0))
        else
          readBody(body as BodySource).then(answer, () => reply.isDone || reply.send(400, [], ''))
      },
    })
    await engine.listen(0, '127.0.0.1')
    t.teardown(() => {
      engine.close()
      engine.wheel.close()
      node.closeAllConnections()
      node.close()
    })

    const play = async (port: number, message: string, seen: Seen[]) => {
      const client = new RawClient(port)
      // The last request says close; whoever refused has closed before.
      client.socket.end(message, 'latin1')
      const text = await client.all()
      const last = seen[seen.length - 1] as Seen
      last.accepted = last.requests.length > 0 && !/HTTP\/1\.1 (?:4|5)\d\d/.test(text)
    }

    const field = fc.constantFrom(
      'Content-Length: 3',
      'content-length: 5',
      'Content-Length: 0',
      'Content-Length: +3',
      'Content-Length: 3, 3',
      'Content-Length:',
      'Content-Length: 3 ',
      'Content-Length : 3',
      'Transfer-Encoding: chunked',
      'transfer-encoding: CHUNKED',
      'Transfer-Encoding: gzip, chunked',
      'Transfer-Encoding: identity',
      'Transfer-Encoding: chunked, chunked',
      'Transfer-Encoding : chunked',
      'Transfer-Encoding: chunked;q=1',
      'Transfer-Encoding:\x0bchunked',
      'Host: b',
      'Host: a b',
      'Host: a/b',
      'Host: u@a',
      'Authorization: x',
      'X: a\r\n b',
      'X: a\nY: b',
      'X: a\rb',
      'X: \0',
      'X: \x01',
      'X: \x7f',
      'X: \xff',
      'X:',
      'X:  a\t',
      'X',
      ': a',
      'X y: z',
      'Connection: keep-alive',
      'Connection: x, y',
      'Expect: 100-continue',
      'Expect: x',
    )
    const body = fc.constantFrom(
      '',
      'abc',
      'abcde',
      '3\r\nabc\r\n0\r\n\r\n',
      '3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n',
      '3;x="y;z"\r\nabc\r\n0\r\n\r\n',
      '3\nabc\n0\n\n',
      '03\r\nabc\r\n0\r\n\r\n',
      '0x3\r\nabc\r\n0\r\n\r\n',
      '3 \r\nabc\r\n0\r\n\r\n',
      '3\r\nabcd\r\n0\r\n\r\n',
      '3\r\nabc0\r\n\r\n',
      '0\r\n\r\n',
      '0\r\nX: y\r\n\r\n',
      '0\r\nContent-Length: 3\r\n\r\n',
      'g\r\n\r\n',
      '3\r\nabc\r\n0\r\n',
    )
    const line = fc.constantFrom(
      'GET / HTTP/1.1',
      'POST /x HTTP/1.1',
      'PUT /x?y=z HTTP/1.1',
      'POST / HTTP/1.0',
      'GET  / HTTP/1.1',
      'GET /  HTTP/1.1',
      'GET / HTTP/1.1 ',
      'GET / HTTP/0.9',
      'GET / HTTP/1.2',
      'GET / HTTP/2.0',
      'GET / RTSP/1.0',
      'GET /',
      '\r\nGET / HTTP/1.1',
      '\r\n\r\nGET / HTTP/1.1',
      '\nGET / HTTP/1.1',
      'get / HTTP/1.1',
      'GET /\xff HTTP/1.1',
      'GET http://a/ HTTP/1.1',
      'DELETE * HTTP/1.1',
    )
    /** Sound framing most of the time, then perhaps something beside it. */
    const framing = fc.oneof(
      { weight: 1, arbitrary: fc.constant({ fields: [] as string[], body: '' }) },
      { weight: 1, arbitrary: fc.constant({ fields: ['Content-Length: 3'], body: 'abc' }) },
      {
        weight: 3,
        arbitrary: body.map(body => ({ fields: ['Transfer-Encoding: chunked'], body })),
      },
      { weight: 2, arbitrary: fc.record({ fields: fc.array(field, { maxLength: 2 }), body }) },
    )
    const message = fc
      .record({
        line: fc.oneof(
          { weight: 4, arbitrary: fc.constantFrom('GET / HTTP/1.1', 'POST /x HTTP/1.1') },
          { weight: 1, arbitrary: line },
        ),
        framing,
        host: fc.oneof(
          { weight: 8, arbitrary: fc.constant('Host: a') },
          { weight: 1, arbitrary: fc.constantFrom('Host: a b', 'Host: a/b', 'Host: u@a', 'Host:') },
        ),
        extra: fc.oneof(
          { weight: 2, arbitrary: fc.constant<string[]>([]) },
          { weight: 1, arbitrary: fc.array(field, { minLength: 1, maxLength: 2 }) },
        ),
      })
      .map(({ line, host, framing: { fields, body }, extra }) => ({
        head: [line, host, ...fields, ...extra].join('\r\n'),
        body,
      }))

    const used = new Set<(typeof STRICTER)[number]>()
    const tally = { both: 0, neither: 0, stricter: 0 }
    const follower = (id: number) =>
      `GET /last HTTP/1.1\r\nHost: a\r\nX-Id: ${id}\r\nConnection: close\r\n\r\n`
    await fc.assert(
      fc.asyncProperty(message, async ({ head, body }) => {
        const id = byNode.length
        byNode.push({ accepted: false, requests: [] })
        byEngine.push({ accepted: false, requests: [] })
        const text = `${head}\r\nX-Id: ${id}\r\n\r\n${body}${follower(id)}`
        await Promise.all([
          play((node.address() as AddressInfo).port, text, byNode),
          play(engine.address.port, text, byEngine),
        ])
        const theirs = byNode[id] as Seen
        const ours = byEngine[id] as Seen
        // Whatever the engine took, Node took first and read the same.
        for (const [i, request] of ours.requests.entries()) {
          if (request !== theirs.requests[i]) {
            throw new Error(
              `${JSON.stringify(text)}\nengine: ${request}\nnode: ${theirs.requests[i]}`,
            )
          }
        }
        if (ours.requests.length === theirs.requests.length) {
          tally[ours.accepted ? 'both' : 'neither']++
          return
        }
        const why = STRICTER.find(([, pattern]) => pattern.test(`${head}\r\n`))
        if (why !== undefined) used.add(why)
        if (why === undefined) {
          throw new Error(
            `${JSON.stringify(text)}\nnode took ${theirs.requests.length}, the engine ${ours.requests.length}`,
          )
        }
        tally.stricter++
      }),
      { seed: 20_261_123, numRuns: 2000, endOnFailure: true },
    )
    t.strictSame(
      STRICTER.filter(row => !used.has(row)).map(([why]) => why),
      [],
      'no row is there in vain',
    )
    t.ok(tally.both > 300 && tally.neither > 300 && tally.stricter > 50, JSON.stringify(tally))
  },
)
