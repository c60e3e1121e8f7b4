import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { seeded } from '../../gateway/http1/test-kit.ts'
import { startGateway, startWorld, until, type World } from '../../gateway/test-kit.ts'
import {
  CONTEXT_HEADER,
  type ContextClaims,
  REQUEST_HEADER,
  verifyRequest,
} from '../../registry/context.ts'
import { type Reached, RecordingApp } from './probe/test-kit.ts'

/**
 * Messages that are nearly right, of two tenants on one connection, mutated and split anywhere. Each case
 * depends on its own number alone: `DOORMAN_FUZZ_SEED=<number> DOORMAN_FUZZ_CASES=1` repeats one, a larger
 * count is a longer run.
 */
const SEED = Number(process.env.DOORMAN_FUZZ_SEED ?? 1)
const CASES = Number(process.env.DOORMAN_FUZZ_CASES ?? 800)
const AT_ONCE = 25
const CASE_MS = 15_000

const timeout = 60_000 + 100 * CASES

t.test('mutated messages of two tenants on one connection', { timeout }, async t => {
  const world = await startWorld()
  const app = new RecordingApp()
  const tenants = [await world.createTenant('acme'), await world.createTenant('globex')]
  const tokens = tenants.map(tenant => world.token(tenant, { id: `user of ${tenant.key}` }))
  const gateway = await startGateway({
    ...world.env,
    APP_UPSTREAMS: await app.listen(),
    UPSTREAM_CONNECTIONS_MAX: '8',
    LOG_LEVEL: 'info',
  })
  t.teardown(async () => {
    await gateway.stop('SIGKILL')
    app.close()
    await world.close()
  })
  const socketsBefore = socketsOf(gateway.child.pid)
  const judge = new Judge(world)
  const problems: string[] = []
  const nonces = new Map<string, number>()
  const statuses = new Map<string, number>()
  let relayed = 0

  const run = async (seed: number) => {
    const nonce = `nonce${seed}end`
    nonces.set(nonce, seed)
    const text = await converse(gateway.port, makeCase(seed, nonce, tokens))
    if (text === null) return void problems.push(`case ${seed}: no end within ${CASE_MS} ms`)
    if (text !== '' && !text.startsWith('HTTP/1.1 '))
      problems.push(`case ${seed}: ${text.slice(0, 80)}`)
    for (const [, status = ''] of text.matchAll(/HTTP\/1\.1 (\d{3}) /g)) {
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      if (status === '500') problems.push(`case ${seed}: 500`)
    }
    relayed += text.match(/\r\nx-seen: /g)?.length ?? 0
    for (const [, other = ''] of text.matchAll(/\r\nx-nonce: (\w*)\r\n/g)) {
      const owner = nonces.get(other)
      if (owner !== undefined && owner !== seed)
        problems.push(`case ${seed}: an answer of ${owner}`)
    }
  }
  for (let at = 0; at < CASES; at += AT_ONCE) {
    const seeds = Array.from({ length: Math.min(AT_ONCE, CASES - at) }, (_, i) => SEED + at + i)
    await Promise.all(seeds.map(run))
    for (const request of app.reached.splice(0)) {
      const problem = await judge.problemOf(request)
      if (problem !== null) problems.push(`cases ${seeds[0]}-${seeds.at(-1)}: ${problem}`)
    }
    problems.push(
      ...app.strays.splice(0).map(stray => `cases ${seeds[0]}-${seeds.at(-1)}: ${stray}`),
    )
    if (problems.length > 0) break
  }

  t.strictSame(problems.slice(0, 10), [], `seed ${SEED}`)
  t.ok(relayed <= judge.whole, `${relayed} answers of the app to ${judge.whole} requests`)
  if (CASES > 100) {
    t.ok(judge.whole > CASES / 4 && judge.partial > 0, 'many pass, some in part')
    for (const status of ['200', '400', '401', '405']) t.ok(statuses.has(status), status)
  }
  t.notOk(
    gateway.log.some(({ code, level }) => code === 'INTERNAL' || level === 'fatal'),
    'nothing was a defect of ours',
  )
  t.equal(gateway.child.exitCode, null, 'the gateway lives')
  await until(async () => {
    const metrics = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
    return /^doorman_requests_in_flight 0$/m.test(metrics)
  })
  // What is kept: connections to the app, and the one that asked for metrics.
  await until(() => socketsOf(gateway.child.pid) <= socketsBefore + 8 + 1)
})

/** Looks at each request that came through: whose it is, and that the gateway made its context for it. */
class Judge {
  whole = 0
  partial = 0
  readonly #world: World
  readonly #contexts = new Map<string, Promise<ContextClaims>>()
  readonly #ids = new Set<string>()

  constructor(world: World) {
    this.#world = world
  }

  async problemOf({ method, target, fields, body, isWhole }: Reached): Promise<string | null> {
    if (isWhole) this.whole++
    else this.partial++
    const all = (name: string) => fields.filter(field => field[0] === name).map(field => field[1])
    const contexts = all(CONTEXT_HEADER)
    const bindings = all(REQUEST_HEADER)
    const line = `${method} ${target}`
    if (contexts.length !== 1 || bindings.length !== 1) return `${line}: not one context`
    const [text, binding] = [contexts[0] as string, bindings[0] as string]
    const verifying = this.#contexts.get(text) ?? this.#world.verifier.verify(text, Date.now())
    this.#contexts.set(text, verifying)
    try {
      const context = await verifying
      const { requestId, principal } = verifyRequest(
        binding,
        context.mac,
        method,
        target,
        Date.now(),
      )
      if (this.#ids.has(requestId)) return `${line}: a request id twice`
      this.#ids.add(requestId)
      if (method === 'POST' && target.startsWith('/api/auth/login')) {
        const key = isWhole ? keyOf(body, all('content-type')[0] ?? '') : null
        return key === null || key === context.key ? null : `${line}: ${context.key} for ${key}`
      }
      if (principal.sub !== `user of ${context.key}`) return `${line}: ${principal.sub}`
      // Absent where the client's Connection lists it: then only what was signed tells whose it is.
      const [, payload] = all('authorization')[0]?.split('.') ?? []
      if (payload === undefined) return null
      const { tenant_id } = JSON.parse(Buffer.from(payload, 'base64url').toString())
      return tenant_id === context.tid ? null : `${line}: ${context.key} for ${tenant_id}`
    } catch (error) {
      return `${line}: ${error}`
    }
  }
}

/** What an app would read as tenant_key, or null. */
function keyOf(body: string, type: string): string | null {
  const text = Buffer.from(body, 'latin1').toString()
  const read = () =>
    type.startsWith('application/json')
      ? JSON.parse(text).tenant_key
      : new URLSearchParams(text).get('tenant_key')
  try {
    return read() ?? null
  } catch {
    return null
  }
}

/** Sends the pieces, closes its side, and takes what comes until the gateway closes; null past the deadline. */
async function converse(port: number, pieces: readonly Buffer[]): Promise<string | null> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
  let text = ''
  socket.on('data', chunk => {
    text += chunk.toString('latin1')
  })
  socket.on('end', () => socket.end())
  socket.on('error', () => {})
  const closed = new Promise<true>(resolve => socket.on('close', () => resolve(true)))
  for (const piece of pieces) {
    if (!socket.writable) break
    socket.write(piece)
    await nextTurn()
  }
  // Answers on their way would be lost to a gateway that sees a client leave: wait for one where it may come.
  if (text === '') {
    const answered = new Promise(resolve => socket.once('data', resolve))
    await Promise.race([answered, closed, pause(30)])
  }
  socket.end()
  const isOver = await Promise.race([closed, pause(CASE_MS)])
  socket.destroy()
  return isOver === true ? text : null
}

function pause(ms: number): Promise<false> {
  return new Promise(resolve => setTimeout(resolve, ms, false).unref())
}

/** Open sockets of a process; 0 where the system does not tell. */
function socketsOf(pid: number | undefined): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length
  } catch {
    return 0
  }
}

const FIELDS = [
  ...['X-Tenant-Context: forged', 'x_tenant_context: forged', 'X-TENANT-REQUEST: v1.e30.a.1.b'],
  ...[
    'Connection: x-tenant-context, x-tenant-request',
    'Connection: close',
    'Connection: keep-alive',
  ],
  ...[
    'Connection: Authorization, Host',
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: identity',
  ],
  ...[
    'transfer-encoding:\tchunked',
    'Transfer_Encoding: chunked',
    'Content-Length: 0',
    'Content-Length: 7',
  ],
  ...[
    'content-length: 007',
    'Content_Length: 9',
    'Expect: 100-continue',
    'Expect: x',
    'TE: trailers',
  ],
  ...[
    'Host: evil.example',
    'Host: a, b',
    'Upgrade: h2c',
    'Upgrade: websocket',
    'Connection: Upgrade',
  ],
  ...[
    'X-Forwarded-For: 1.2.3.4',
    'Forwarded: for=1.2.3.4',
    'X-Request-Id: a.b',
    'X-Request-Id: sane-id',
  ],
  ...[
    'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    'Trailer: X-A',
    ' folded: x',
  ],
  ...[
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version: 13',
    'X-Tenant-Key: globex',
  ],
  ...[
    'Cookie: a=b',
    'X-A:',
    ': b',
    'no colon',
    'X-\0: a',
    'X-A: \x01',
    'X-A: \xff\xfe',
    `X-Long: ${'a'.repeat(9000)}`,
  ],
]
const BYTES = [
  '\r\n',
  '\n',
  '\r',
  '\0',
  ' ',
  '\t',
  ':',
  '\r\n\r\n',
  '0\r\n\r\n',
  '\x7f',
  '\xff',
  ';',
  ',',
  '%2f',
  '/',
  '\r\n ',
]
const TARGETS = [
  '',
  '/../x',
  '//x',
  '/%2e%2e/x',
  '?tenant_key=globex',
  '#x',
  ';x',
  '/%00',
  '\\x',
  '?a=%zz',
]
const METHODS = [
  'GET',
  'POST',
  'PUT',
  'DELETE',
  'OPTIONS',
  'HEAD',
  'PATCH',
  'TRACE',
  'CONNECT',
  'get',
  'PURGE',
]
const VERSIONS = [
  'HTTP/1.1',
  'HTTP/1.1',
  'HTTP/1.1',
  'HTTP/1.0',
  'HTTP/1.2',
  'HTTP/2.0',
  'http/1.1',
  'HTTP/1.1 ',
]
const SIZES = ['+', '0x', ' ', '-', '00000000', 'F'.repeat(16)]

/** The packets of one connection. */
function makeCase(seed: number, nonce: string, tokens: readonly string[]): Buffer[] {
  const random = seeded(seed * 7919)
  const below = (n: number) => Math.floor(random() * n)
  const pick = (list: readonly string[]) => list[below(list.length)] as string
  const chance = (share: number) => random() < share

  const message = (): string => {
    const tenantAt = below(2)
    const target = `/api/fuzz/${seed}?t=${tenantAt}`
    const fields = [
      'Host: probe.example',
      `Authorization: Bearer ${tokens[tenantAt]}`,
      `X-Nonce: ${nonce}`,
    ]
    let method = pick(['GET', 'GET', 'POST', 'PUT', 'HEAD', 'OPTIONS'])
    let path = target
    let body = ''
    const kind = below(10)
    if (kind === 0) {
      path = '/api/auth/login'
      method = 'POST'
      const key = pick(['acme', 'globex'])
      const isForm = chance(0.4)
      body = isForm
        ? `tenant_key=${key}&password=a`
        : JSON.stringify({ tenant_key: key, password: 'a' })
      fields.push(`Content-Type: application/${isForm ? 'x-www-form-urlencoded' : 'json'}`)
      fields.push(`Content-Length: ${body.length}`)
    } else if (kind === 1) {
      method = 'GET'
      fields.push('Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13')
      fields.push('Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==')
    } else if (method === 'POST' || method === 'PUT') {
      // Were a body ever read as requests, its context could not be right.
      const content = `${nonce}GET /api/smuggled HTTP/1.1\r\nHost: a\r\n\r\n`.repeat(1 + below(3))
      if (chance(0.5)) {
        fields.push(`Content-Length: ${content.length + (chance(0.1) ? below(9) - 4 : 0)}`)
        body = content
      } else {
        fields.push('Transfer-Encoding: chunked')
        body = chunk(content)
      }
    }
    if (chance(0.05)) method = pick(METHODS)
    if (chance(0.05)) path += pick(TARGETS)
    if (chance(0.03)) path = `http://${pick(['probe.example', 'other.example'])}${path}`
    for (let n = chance(0.4) ? 1 + below(3) : 0; n > 0; n--) {
      const at = below(fields.length + 1)
      const act = below(6)
      if (act < 3) fields.splice(at, 0, pick(FIELDS))
      else if (act === 3) fields.splice(at, 0, pick(fields))
      else if (act === 4) fields.splice(at, 1)
      else fields[at] = respell(fields[at] ?? 'X-A: b')
    }
    const version = chance(0.05) ? pick(VERSIONS) : 'HTTP/1.1'
    return `${method} ${path} ${version}\r\n${fields.join('\r\n')}\r\n\r\n${body}`
  }

  const chunk = (content: string): string => {
    let text = ''
    for (let at = 0; at < content.length; ) {
      const size = 1 + below(content.length - at)
      const prefix = chance(0.03) ? pick(SIZES) : ''
      const extension = chance(0.1) ? `;${pick(['a', 'a=b', 'a="b"', '', 'a\n', '\r'])}` : ''
      text += `${prefix}${size.toString(16)}${extension}${chance(0.02) ? '\n' : '\r\n'}`
      text += `${content.slice(at, at + size)}${chance(0.02) ? '\n' : '\r\n'}`
      at += size
    }
    const trailers = chance(0.1) ? `${pick(FIELDS)}\r\n` : ''
    return chance(0.05) ? text : `${text}0\r\n${trailers}\r\n`
  }

  const respell = (field: string): string => {
    const colon = field.indexOf(':')
    const [name, value] = [field.slice(0, colon), field.slice(colon + 1)]
    const names = [
      name.toUpperCase(),
      name.toLowerCase(),
      name.replaceAll('-', '_'),
      `${name} `,
      ` ${name}`,
    ]
    return `${pick(names)}:${pick(['', ' ', '\t', '  '])}${value.trim()}${pick(['', ' ', '\t'])}`
  }

  let wire = Array.from({ length: 1 + below(4) }, message).join('')
  for (let n = chance(0.35) ? 1 + below(3) : 0; n > 0; n--) {
    const at = below(wire.length)
    const size = 1 + below(chance(0.5) ? 3 : 200)
    const [before, part, after] = [
      wire.slice(0, at),
      wire.slice(at, at + size),
      wire.slice(at + size),
    ]
    const act = below(5)
    if (act === 0) wire = before + String.fromCharCode(below(256)) + wire.slice(at + 1)
    else if (act === 1) wire = before + after
    else if (act === 2) wire = before + part + part + after
    else if (act === 3) wire = before + pick(BYTES) + wire.slice(at)
    else wire = before + message().slice(below(40)) + wire.slice(at)
  }
  const bytes = Buffer.from(wire, 'latin1')
  if (chance(0.5)) return [bytes]
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + below(chance(0.3) ? 8 : 600)
    pieces.push(bytes.subarray(at, at + size))
    at += size
  }
  return pieces
}
