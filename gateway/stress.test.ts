import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { Inbox, seeded } from './http1/test-kit.ts'
import { startGateway, startWorld, until } from './test-kit.ts'

/**
 * Many tenants at once against the real binary: keep-alive, pipelining, splits at any byte, clients
 * that leave; an upstream that resets, drips, says too much or answers before it was asked in full.
 * What happens differs from run to run; what must hold does not.
 */
const SEED = 7
const RUN_MS = 8000
const CLIENTS = 25
const TENANTS = 8
const HANG_MS = 20_000
const ACTS = [
  ...['ok', 'ok', 'ok', 'ok', 'slow', 'reset', 'fin', 'half', 'drip'],
  ...['extra', 'interim', 'close', 'late', 'early'],
]
const METHODS = ['GET', 'POST', 'PUT', 'HEAD']
const LINE = /^(GET|POST|PUT|HEAD) \/api\/echo\?n=\w+&t=t\d&a=\w+ HTTP\/1\.1$/

const random = seeded(SEED)
const below = (n: number) => Math.floor(random() * n)
const pick = (list: readonly string[]) => list[below(list.length)] as string

t.test('under all faults at once no byte reaches another request', async t => {
  const problems: string[] = []
  const bad = (text: string) => void problems.push(text)
  const world = await startWorld()
  t.teardown(() => world.close())
  const tenants = await Promise.all(
    Array.from({ length: TENANTS }, (_, i) => world.createTenant(`t${i}`)),
  )
  const tokens = tenants.map((tenant, i) => world.token(tenant, { id: `user-${i}` }))
  const upstream = new Upstream(bad, async token => {
    const context = await world.verifier.verify(token, Date.now())
    return context.key
  })
  t.teardown(() => upstream.close())
  const gateway = await startGateway({
    ...world.env,
    LOG_LEVEL: 'info',
    APP_UPSTREAMS: await upstream.listen(),
    UPSTREAM_CONNECTIONS_MAX: '60',
  })
  t.teardown(() => gateway.stop('SIGKILL'))

  const untilMs = performance.now() + RUN_MS
  const clients = Array.from({ length: CLIENTS }, (_, i) => new Client(i, tokens, bad))
  await Promise.all(clients.map(client => client.run(gateway.port, untilMs)))

  t.strictSame(problems.slice(0, 10), [])
  const done = clients.reduce((sum, client) => sum + client.done, 0)
  t.ok(done > CLIENTS, `${done} answers compared, ${upstream.seen} requests seen upstream`)
  t.equal(gateway.child.exitCode, null, 'the gateway is alive')
  await until(async () => {
    const metrics = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
    return /^doorman_requests_in_flight 0$/m.test(metrics)
  })
})

/** Parses what it gets to the letter, and behaves as the query's `a` says. */
class Upstream {
  seen = 0
  readonly #bad: (text: string) => void
  readonly #tenantOf: (token: string) => Promise<string>
  readonly #ran = new Map<string, number>()
  readonly #sockets = new Set<Socket>()
  readonly #server = createServer(socket => this.#accept(socket))

  constructor(bad: (text: string) => void, tenantOf: (token: string) => Promise<string>) {
    this.#bad = bad
    const known = new Map<string, Promise<string>>()
    this.#tenantOf = token => {
      const tenant = known.get(token) ?? tenantOf(token)
      known.set(token, tenant)
      return tenant
    }
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => this.#sockets.delete(socket))
    const inbox = new Inbox(socket)
    this.#serve(socket, inbox).catch(error => this.#bad(`upstream: ${error}`))
  }

  async #serve(socket: Socket, inbox: Inbox): Promise<void> {
    for (;;) {
      const head = await inbox.takeHead()
      if (head === null) return
      const line = head.split('\r\n', 1)[0] as string
      if (!LINE.test(line)) {
        this.#bad(`upstream got a strange line: ${JSON.stringify(line.slice(0, 200))}`)
        socket.destroy()
        return
      }
      const [method, target] = line.split(' ') as [string, string]
      const query = new URLSearchParams(target.split('?')[1])
      const nonce = query.get('n') as string
      const act = query.get('a') as string
      const fields = this.#fieldsOf(head)
      if (act === 'early') {
        socket.write(render(method, await this.#answerTo(fields, query, 'early'), false, false))
        if (random() < 0.5) {
          socket.end()
          return
        }
      }
      const body = await inbox.takeBody(fields)
      if (body === null) return
      this.seen++
      const runs = (this.#ran.get(nonce) ?? 0) + 1
      this.#ran.set(nonce, runs)
      if (method === 'POST' && runs > 1) this.#bad(`POST ${nonce} ran twice (${act})`)
      if (act === 'early') {
        await pause(5)
        socket.destroy()
        return
      }
      const answer = await this.#answerTo(fields, query, sha1(body))
      if (!(await play(socket, act, render(method, answer, random() < 0.5, random() < 0.2)))) return
    }
  }

  #fieldsOf(head: string): Map<string, string> {
    const fields = new Map<string, string>()
    for (const line of head.split('\r\n').slice(1)) {
      const colon = line.indexOf(':')
      const name = line.slice(0, colon).toLowerCase()
      if (fields.has(name)) this.#bad(`upstream: duplicate ${name}`)
      fields.set(name, line.slice(colon + 1).trim())
    }
    return fields
  }

  async #answerTo(fields: Map<string, string>, query: URLSearchParams, sha: string) {
    const key = await this.#tenantOf(fields.get('x-tenant-context') ?? '')
    const request = fields.get('x-tenant-request') ?? ''
    const { sub } = JSON.parse(Buffer.from(request.split('.')[1] ?? '', 'base64url').toString())
    if (key !== query.get('t') || sub !== `user-${key.slice(1)}`) {
      this.#bad(`context of ${key} and ${sub} for a request of ${query.get('t')}`)
    }
    const size = random() < 0.2 ? below(300_000) : below(3000)
    return Buffer.from(`${query.get('n')} ${key} ${sha} ${'z'.repeat(size)} END`)
  }
}

/** Writes one answer as `act` says; false where the connection is over. */
async function play(socket: Socket, act: string, answer: Buffer): Promise<boolean> {
  switch (act) {
    case 'reset':
      socket.resetAndDestroy()
      return false
    case 'fin':
      socket.end()
      return false
    case 'half':
      socket.write(answer.subarray(0, below(answer.length)))
      await pause(below(10))
      if (random() < 0.5) socket.resetAndDestroy()
      else socket.end()
      return false
    case 'close':
      socket.end(answer.toString('latin1').replace('x-a: b', 'connection: close'), 'latin1')
      return false
    case 'drip':
      for (let at = 0; at < answer.length; ) {
        const size = 1 + below(at < 600 ? 40 : 20_000)
        socket.write(answer.subarray(at, at + size))
        at += size
        await nextTurn()
      }
      return true
    case 'extra':
      socket.write(
        Buffer.concat([answer, Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nPOISON')]),
      )
      return true
    case 'interim':
      socket.write('HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n')
      socket.write(answer)
      return true
    case 'late':
      socket.write(answer)
      setTimeout(() => socket.destroy(), below(3))
      return true
    default:
      if (act === 'slow') await pause(below(60))
      socket.write(answer)
      return true
  }
}

interface Asked {
  readonly nonce: string
  readonly tenant: string
  readonly act: string
  readonly method: string
  readonly sha: string
}

/** Sends rounds of requests over one connection after the other and compares every answer. */
class Client {
  done = 0
  readonly #nth: number
  readonly #tokens: readonly string[]
  readonly #bad: (text: string) => void
  #asked = 0

  constructor(nth: number, tokens: readonly string[], bad: (text: string) => void) {
    this.#nth = nth
    this.#tokens = tokens
    this.#bad = bad
  }

  async run(port: number, untilMs: number): Promise<void> {
    while (performance.now() < untilMs) {
      const socket = connect(port, '127.0.0.1')
      socket.on('error', () => {})
      const inbox = new Inbox(socket)
      for (let rounds = 1 + below(8); rounds > 0 && performance.now() < untilMs; rounds--) {
        if (inbox.isClosed || !(await this.#round(socket, inbox))) break
      }
      socket.destroy()
    }
  }

  /** False where the connection is over. */
  async #round(socket: Socket, inbox: Inbox): Promise<boolean> {
    const batch = Array.from({ length: random() < 0.3 ? 1 + below(5) : 1 }, () => this.#compose())
    const wire = Buffer.concat(batch.map(({ bytes }) => bytes))
    const isLeaving = random() < 0.12
    if (random() < 0.05) setTimeout(() => socket.destroy(), below(50))
    const sent = send(socket, wire, isLeaving ? below(wire.length) : wire.length)
    let isOpen = true
    for (const { asked } of batch) {
      const timer = setTimeout(() => {
        this.#bad(`no answer within ${HANG_MS} ms to ${JSON.stringify(asked)}`)
        socket.destroy()
      }, HANG_MS)
      isOpen = await this.#compare(asked, inbox)
      clearTimeout(timer)
      if (!isOpen) break
    }
    if (!isOpen) socket.destroy()
    await sent
    return isOpen && !isLeaving
  }

  async #compare(asked: Asked, inbox: Inbox): Promise<boolean> {
    const head = await inbox.takeHead()
    if (head === null) return false
    if (!head.startsWith('HTTP/1.1 ')) {
      this.#bad(`${asked.nonce} got ${JSON.stringify(head.slice(0, 100))}`)
      return false
    }
    const fields = new Map<string, string>()
    for (const line of head.toLowerCase().split('\r\n').slice(1)) {
      fields.set(line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim())
    }
    const body = asked.method === 'HEAD' ? Buffer.alloc(0) : await inbox.takeBody(fields)
    if (body === null) return false
    if (head.startsWith('HTTP/1.1 200 ')) {
      this.done++
      if (asked.method !== 'HEAD') this.#compareBody(asked, body.toString('latin1'))
    }
    return fields.get('connection') !== 'close'
  }

  #compareBody({ nonce, tenant, act, sha }: Asked, text: string): void {
    const [nonceSeen, tenantSeen, shaSeen] = text.split(' ', 3)
    const isWhole = text.endsWith(' END') && shaSeen === (act === 'early' ? 'early' : sha)
    if (nonceSeen !== nonce || tenantSeen !== tenant || !isWhole) {
      this.#bad(`${nonce} of ${tenant} (${act}, ${sha}) got ${text.slice(0, 100)}`)
    }
    if (act === 'reset' || act === 'fin') this.#bad(`an answer to ${act}`)
  }

  #compose(): { asked: Asked; bytes: Buffer } {
    const tenantAt = below(TENANTS)
    const act = pick(ACTS)
    const method = pick(METHODS)
    const nonce = `n${this.#nth}x${this.#asked++}`
    const isWithBody = method === 'POST' || method === 'PUT'
    const size = isWithBody ? below(random() < 0.2 ? 200_000 : 2000) : 0
    // Were a body ever read as requests, the upstream would see a line that it does not know.
    const body = Buffer.alloc(size, `${nonce}GET /evil HTTP/1.1\r\n\r\n`)
    const head =
      `${method} /api/echo?n=${nonce}&t=t${tenantAt}&a=${act} HTTP/1.1\r\nhost: x\r\n` +
      `authorization: Bearer ${this.#tokens[tenantAt]}\r\n`
    const framed = !isWithBody
      ? Buffer.from('\r\n')
      : random() < 0.5
        ? Buffer.concat([Buffer.from(`content-length: ${size}\r\n\r\n`), body])
        : Buffer.concat([Buffer.from('transfer-encoding: chunked\r\n\r\n'), chunked(body)])
    return {
      asked: { nonce, tenant: `t${tenantAt}`, act, method, sha: sha1(body) },
      bytes: Buffer.concat([Buffer.from(head), framed]),
    }
  }
}

/** Whole or in pieces; cut short of its end the client leaves. */
async function send(socket: Socket, wire: Buffer, stopAt: number): Promise<void> {
  const isInPieces = random() < 0.4
  for (let at = 0; at < stopAt && !socket.destroyed; ) {
    const size = isInPieces ? 1 + below(at < 400 ? 50 : 30_000) : wire.length
    socket.write(wire.subarray(at, Math.min(stopAt, at + size)))
    at += size
    if (isInPieces) await nextTurn()
  }
  if (stopAt === wire.length) return
  await pause(below(20))
  if (random() < 0.5) socket.resetAndDestroy()
  else socket.destroy()
}

function render(method: string, body: Buffer, isChunked: boolean, isContinued: boolean): Buffer {
  const framing = isChunked ? 'transfer-encoding: chunked' : `content-length: ${body.length}`
  const head = `HTTP/1.1 200 OK\r\nx-a: b\r\n${framing}\r\n\r\n`
  const interim = isContinued ? 'HTTP/1.1 100 Continue\r\n\r\n' : ''
  const content = method === 'HEAD' ? Buffer.alloc(0) : isChunked ? chunked(body) : body
  return Buffer.concat([Buffer.from(interim + head), content])
}

function chunked(body: Buffer): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at < body.length; ) {
    const size = Math.min(body.length - at, 1 + below(random() < 0.1 ? 20 : 40_000))
    parts.push(Buffer.from(`${size.toString(16)}\r\n`), body.subarray(at, at + size))
    parts.push(Buffer.from('\r\n'))
    at += size
  }
  return Buffer.concat([...parts, Buffer.from('0\r\n\r\n')])
}

function sha1(bytes: Buffer): string {
  return createHash('sha1').update(bytes).digest('hex')
}
