import { once } from 'node:events'
import { Agent, get as httpGet } from 'node:http'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { WebSocket } from 'ws'
import { rawExchange, startGateway, startUpstream, startWorld, until } from './test-kit.ts'

/** Heads that never end, and connections that say nothing: of each so many. */
const SLOW = 600
/** Bodies that stall, and bodies that drip, of each so many: these hold a replica's connection too. */
const SLOW_BODIES = 150
const SOURCES = 10
const GOOD = 10

t.test('clients that are slow, silent or too many', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const acme = await world.createTenant('acme')
  const authorization = `Bearer ${world.token(acme)}`
  const start = async (env: Record<string, string>) => {
    const gateway = await startGateway({ ...world.env, APP_UPSTREAMS: upstream.origin, ...env })
    t.teardown(() => gateway.stop('SIGKILL'))
    const figure = async (name: string) => {
      const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
      const line = text.split('\n').find(one => one.startsWith(`${name} `))
      return Number(line?.slice(name.length + 1))
    }
    return { gateway, figure }
  }
  t.teardown(async () => {
    upstream.close()
    await world.close()
  })
  t.beforeEach(() => {
    upstream.respond = (req, res) => void req.resume().on('end', () => res.end('{}'))
  })
  const head = (line: string) =>
    `${line} HTTP/1.1\r\nHost: a\r\nAuthorization: ${authorization}\r\n`

  t.test(
    'floods of slow heads, slow bodies and silence: cut, and no good client loses an answer',
    async t => {
      const { gateway, figure } = await start({
        HEAD_TIMEOUT_MS: '1500',
        BODY_IDLE_TIMEOUT_MS: '1500',
        BODY_RATE_WINDOW_MS: '1500',
        CLIENT_IDLE_TIMEOUT_MS: '1500',
        UPSTREAM_CONNECTIONS_MAX: '2000',
      })
      const kinds = {
        'slow head': 'GET /api/x HTTP/1.1\r\nHo',
        'stalled body': `${head('POST /api/x')}Content-Length: 100000\r\n\r\nx`,
        'dripping body': `${head('POST /api/x')}Content-Length: 100000\r\n\r\nx`,
        silence: '',
      }
      const flood: {
        kind: string
        socket: Socket
        closed: Promise<unknown>
        text: () => string
      }[] = []
      for (const [kind, bytes] of Object.entries(kinds)) {
        for (let i = 0; i < (kind.endsWith('body') ? SLOW_BODIES : SLOW); i++) {
          const localAddress = `127.0.0.${2 + (i % SOURCES)}`
          const socket = connect({ port: gateway.port, host: '127.0.0.1', localAddress })
          let text = ''
          socket
            .on('error', () => {})
            .on('data', chunk => {
              text += chunk
            })
          const closed = new Promise(resolve => socket.on('close', resolve))
          if (bytes !== '') socket.write(bytes)
          flood.push({ kind, socket, closed, text: () => text })
        }
      }
      const drip = setInterval(() => {
        for (const { kind, socket } of flood) if (kind === 'dripping body') socket.write('x')
      }, 300)
      t.teardown(() => clearInterval(drip))

      let isOver = false
      let good = 0
      const bad: unknown[] = []
      const agent = new Agent({ keepAlive: true, maxSockets: GOOD })
      const goodClient = async () => {
        while (!isOver) {
          const [response] = await once(
            httpGet(`${gateway.url}/api/x`, { agent, headers: { authorization } }),
            'response',
          )
          response.resume()
          await once(response, 'end')
          if (response.statusCode === 200) good++
          else bad.push(response.statusCode)
        }
      }
      const clients = Array.from({ length: GOOD }, goodClient).map(one =>
        one.catch(e => bad.push(e)),
      )
      await Promise.all(flood.map(({ closed }) => closed))
      isOver = true
      await Promise.all(clients)
      agent.destroy()
      t.strictSame(bad, [])
      t.ok(good > GOOD, `${good} good answers`)
      for (const { kind, text } of flood) {
        // On a machine without time to spare the first byte may be too late to be answered at all.
        if (kind === 'silence') t.equal(text(), '')
        else if (text() !== '') t.match(text(), /^HTTP\/1.1 408 /, kind)
      }
      await until(async () => (await figure('doorman_client_connections')) === 0)
      t.equal(await figure('doorman_requests_in_flight'), 0)
    },
  )

  t.test('a reader that takes nothing is cut, and its replica is free again', async () => {
    const { gateway } = await start({ WRITE_STALL_TIMEOUT_MS: '300' })
    let isAppFree = false
    upstream.respond = (_, res) => {
      res.on('close', () => {
        isAppFree = true
      })
      const push = () => {
        while (res.write(Buffer.alloc(256 * 1024)));
      }
      res.on('drain', push)
      push()
    }
    const socket = connect(gateway.port, '127.0.0.1')
    socket.on('error', () => {}).pause()
    socket.write(`${head('GET /api/x')}\r\n`)
    await until(() => isAppFree, 3000)
    socket.destroy()
  })

  t.test('above IN_FLIGHT_MAX new requests and handshakes are shed, health is not', async t => {
    const { gateway, figure } = await start({ IN_FLIGHT_MAX: '2' })
    let answer: () => void = () => {}
    const mayAnswer = new Promise<void>(resolve => {
      answer = resolve
    })
    upstream.respond = (_, res) => void mayAnswer.then(() => res.end('{}'))
    const seen = upstream.requests.length
    const call = () => fetch(`${gateway.url}/api/x`, { headers: { authorization } })
    const held = [call(), call()]
    await until(() => upstream.requests.length === seen + 2)

    // Before the token: an attacker's garbage must not cost more than a good request's refusal.
    for (const headers of [{ authorization }, { authorization: 'Bearer x' }]) {
      const shed = await fetch(`${gateway.url}/api/x`, { headers })
      t.equal(shed.status, 503)
      t.equal(shed.headers.get('retry-after'), '1')
      t.match(await shed.json(), { code: 'OVERLOADED', request_id: /./ })
    }
    const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/api/ws`, {
      headers: { authorization },
    })
    const [, refusal] = await once(socket, 'unexpected-response')
    t.equal(refusal.statusCode, 503)
    refusal.resume()
    const upload = await rawExchange(
      gateway.port,
      `${head('POST /api/x')}Content-Length: 5000000\r\n\r\n${'x'.repeat(100_000)}`,
    )
    t.match(upload, /^HTTP\/1.1 503 [\s\S]*connection: close\r\n/, 'its body is not waited for')
    t.equal((await fetch(`${gateway.url}/healthz`)).status, 200)
    t.equal((await fetch(`${gateway.internalUrl}/readyz`)).status, 200)
    t.equal(await figure('doorman_shed_requests_total{reason="in-flight",whose="anybody"}'), 4)

    answer()
    for (const response of await Promise.all(held)) t.equal(response.status, 200)
    t.equal((await call()).status, 200, 'and served again at once')
  })

  t.test('logins whose bodies do not come take no place of a request that is there', async t => {
    const { gateway, figure } = await start({ IN_FLIGHT_MAX: '3' })
    const login = { tenant_key: 'acme', email: 'a@acme.example', password: 'x' }
    const body = JSON.stringify(login)
    const dial = () => {
      const socket = connect(gateway.port, '127.0.0.1')
      socket.on('error', () => {})
      t.teardown(() => socket.destroy())
      socket.write(
        'POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n' +
          `Content-Length: ${body.length}\r\n\r\n`,
      )
      return socket
    }
    const slow = Array.from({ length: 6 }, dial)
    await until(async () => (await figure('doorman_requests_in_flight')) === slow.length)
    for (let i = 0; i < 3; i++) {
      const answer = await fetch(`${gateway.url}/api/x`, { headers: { authorization } })
      t.equal(answer.status, 200)
    }

    const held: { end(text: string): void }[] = []
    upstream.respond = (_, res) => void held.push(res)
    const answers = slow.map(async socket => String(await once(socket, 'data')))
    for (const socket of slow) socket.write(body)
    await until(() => held.length === 3)
    for (const res of held) res.end('{}')
    const statuses = (await Promise.all(answers)).map(answer => answer.slice(9, 12))
    t.strictSame(statuses.sort(), ['200', '200', '200', '503', '503', '503'], 'then they count')
    await until(async () => (await figure('doorman_requests_in_flight')) === 0)
  })
})
