import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { Client } from 'pg'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { CONTEXT_HEADER, REQUEST_HEADER, verifyRequest } from '../registry/context.ts'
import { writeStatus } from '../registry/tenant-write.ts'
import { rawExchange, startGateway, startUpstream, startWorld, until } from './test-kit.ts'

t.test('WebSocket handshakes pass the same phases as requests', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const acme = await world.createTenant('acme')
  const gateway = await startGateway({ ...world.env, APP_UPSTREAMS: upstream.origin })
  const sockets = new WebSocketServer({ noServer: true })
  let onUpgrade: (req: IncomingMessage, socket: Duplex, head: Buffer) => void = () => {}
  upstream.server.on('upgrade', (req, socket, head) => onUpgrade(req, socket, head))
  t.teardown(async () => {
    await gateway.stop('SIGKILL')
    for (const socket of sockets.clients) socket.terminate()
    upstream.close()
    await world.close()
  })
  let handshake: IncomingMessage | null = null
  let peer: WebSocket | null = null
  t.beforeEach(() => {
    onUpgrade = (req, socket, head) => {
      handshake = req
      sockets.handleUpgrade(req, socket, head, ws => {
        peer = ws
        ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }))
      })
    }
  })
  const wsUrl = gateway.url.replace('http', 'ws')
  const open = (path: string, token = world.token(acme)) =>
    new WebSocket(`${wsUrl}${path}`, { headers: { authorization: `Bearer ${token}` } })
  const refusal = async (socket: WebSocket) => {
    const [, response] = await once(socket, 'unexpected-response')
    response.resume()
    return response.statusCode as number
  }
  const openSockets = async (of = gateway) => {
    const text = await (await fetch(`${of.internalUrl}/metrics`)).text()
    return Number(/^doorman_open_sockets (\d+)/m.exec(text)?.[1])
  }

  t.test('messages go both ways, and the handshake carries a signed context', async t => {
    const target = '/api/ws?room=1&next=//x'
    const socket = open(target)
    await once(socket, 'open')
    socket.send('hello')
    t.equal(String((await once(socket, 'message'))[0]), 'hello')
    const big = Buffer.alloc(1024 * 1024, 7)
    socket.send(big)
    t.ok(big.equals((await once(socket, 'message'))[0]))
    const { headers, url } = handshake as unknown as IncomingMessage
    t.equal(url, target, 'exactly as it was signed')
    const context = await world.verifier.verify(headers[CONTEXT_HEADER] as string, Date.now())
    t.equal(context.key, 'acme')
    const binding = headers[REQUEST_HEADER] as string
    t.ok(verifyRequest(binding, context.mac, 'GET', target, Date.now()))
    socket.close(4001, 'bye')
    t.equal((await once(peer as unknown as WebSocket, 'close'))[0], 4001)
    await until(async () => (await openSockets()) === 0)
  })

  t.test('a handshake without a token never reaches the app', async t => {
    handshake = null
    t.equal(await refusal(new WebSocket(`${wsUrl}/api/ws`)), 401)
    t.equal(await refusal(open('/api/ws', 'nonsense')), 401)
    t.equal(await refusal(open('/nowhere')), 404)
    t.equal(handshake, null)
  })

  t.test('an upgrade to anything else is refused', async t => {
    const answer = await rawExchange(
      gateway.port,
      `GET /api/ws HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${world.token(acme)}\r\n` +
        'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n',
    )
    t.match(answer, /^HTTP\/1.1 400 /)
  })

  t.test('a refusal of the app reaches the client with its body', async t => {
    onUpgrade = (_, socket) => {
      socket.end(
        'HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\nX-Tenant-Leak: 1\r\n\r\n4\r\nnope\r\n0\r\n\r\n',
      )
    }
    const [, response] = await once(open('/api/ws'), 'unexpected-response')
    t.equal(response.statusCode, 403)
    t.equal(response.headers['x-tenant-leak'], undefined)
    response.setEncoding('utf8')
    t.equal((await once(response, 'data'))[0], 'nope')
  })

  t.test('a reset on either side closes the other within a second', async t => {
    for (const side of ['client', 'app'] as const) {
      const socket = open('/api/ws')
      await once(socket, 'open')
      const app = peer as unknown as WebSocket
      const [killed, other] = side === 'client' ? [socket, app] : [app, socket]
      other.on('error', () => {})
      const startedAt = performance.now()
      const closed = once(other, 'close')
      killed.terminate()
      await closed
      t.ok(performance.now() - startedAt < 1000, side)
    }
    await until(async () => (await openSockets()) === 0)
  })

  t.test('a reset in the middle of a handshake leaves the gateway alive', async t => {
    onUpgrade = (_, socket) => socket.destroy()
    t.equal(await refusal(open('/api/ws')), 502)
    const arrived = new Promise<Duplex>(resolve => {
      onUpgrade = (_, socket) => resolve(socket)
    })
    const leaving = open('/api/ws')
    leaving.on('error', () => {})
    const app = await arrived
    app.on('error', () => {}).resume()
    leaving.terminate()
    await once(app, 'end')
    t.equal((await fetch(`${gateway.url}/healthz`)).status, 200)
  })

  t.test('a frame that comes in one piece with the 101 arrives', async t => {
    onUpgrade = (req, socket, head) => {
      socket.cork()
      sockets.handleUpgrade(req, socket, head, ws => ws.send('welcome'))
      process.nextTick(() => socket.uncork())
    }
    const socket = open('/api/ws')
    t.equal(String((await once(socket, 'message'))[0]), 'welcome')
    socket.terminate()
  })

  t.test('a reset after the 101 is no 502 in the midst of the frames', async t => {
    const arrived = new Promise<Duplex>(resolve => {
      onUpgrade = (_, socket) => {
        socket.write(
          'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nFRAME',
        )
        resolve(socket)
      }
    })
    const answer = rawExchange(
      gateway.port,
      `GET /api/ws HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${world.token(acme)}\r\n` +
        'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    )
    const app = (await arrived) as Socket
    setImmediate(() => app.resetAndDestroy())
    t.notMatch(await answer, /502|status/)
  })

  t.test('a refusal that is too long ends as a 502 and not never', async t => {
    onUpgrade = (_, socket) => {
      socket.on('error', () => {})
      socket.end(`HTTP/1.1 403 Forbidden\r\nContent-Length: 200000\r\n\r\n${'x'.repeat(200_000)}`)
    }
    t.equal(await refusal(open('/api/ws')), 502)
  })

  t.test('a revocation cuts the sockets of tokens issued before it', async t => {
    const hooli = await world.createTenant('hooli')
    const nowS = Math.floor(Date.now() / 1000)
    const old = open('/api/ws', world.token(hooli, { iat: nowS - 100 }))
    const fresh = open('/api/ws', world.token(hooli, { iat: nowS + 20 }))
    old.on('error', () => {})
    await Promise.all([once(old, 'open'), once(fresh, 'open')])
    const closed = once(old, 'close')
    const client = new Client(world.registryUrl)
    await client.connect()
    await client.query('UPDATE tenants SET tokens_valid_after = now() WHERE id = $1', [hooli.id])
    await client.end()
    await closed
    t.equal(fresh.readyState, WebSocket.OPEN)
    fresh.terminate()
  })

  t.test('a suspension in the midst of a handshake cuts it', async t => {
    const pied = await world.createTenant('piedpiper')
    const arrived = new Promise<void>(resolve => {
      onUpgrade = (_, socket) => {
        socket.on('error', () => {}).resume()
        resolve()
      }
    })
    const waiting = open('/api/ws', world.token(pied))
    const ended = once(waiting, 'error')
    await arrived
    await writeStatus(world.store, pied.id, 'suspended', 'test')
    await ended
    t.equal(waiting.readyState, WebSocket.CLOSED)
  })

  t.test('the sockets of one tenant leave room for the clients of others', async t => {
    const env = { ...world.env, APP_UPSTREAMS: upstream.origin, CLIENT_CONNECTIONS_MAX: '10' }
    const small = await startGateway(env)
    t.teardown(() => small.stop('SIGKILL'))
    const dial = (token: string) => {
      const headers = { authorization: `Bearer ${token}` }
      const socket = new WebSocket(`${small.url.replace('http', 'ws')}/api/ws`, { headers })
      socket.on('error', () => {})
      t.teardown(() => socket.terminate())
      return socket
    }
    const held = Array.from({ length: 8 }, () => dial(world.token(acme)))
    await Promise.all(held.map(socket => once(socket, 'open')))
    const [, response] = await once(dial(world.token(acme)), 'unexpected-response')
    t.equal(response.statusCode, 429)
    t.equal(response.headers['retry-after'], '1')
    response.resume()
    const initech = await world.createTenant('initech')
    await once(dial(world.token(initech)), 'open')
    held[0]?.terminate()
    await until(async () => (await openSockets(small)) === 8)
    await once(dial(world.token(acme)), 'open')
  })

  t.test('a socket is cut when its token expires', async t => {
    const socket = open('/api/ws', world.token(acme, { exp: Math.floor(Date.now() / 1000) + 1 }))
    socket.on('error', () => {})
    await once(socket, 'open')
    await once(socket, 'close')
    t.equal(await openSockets(), 0)
  })

  t.test('a suspension cuts the tenant’s sockets within a second, and no other’s', async t => {
    const globex = await world.createTenant('globex')
    const doomed = open('/api/ws', world.token(globex))
    const spared = open('/api/ws')
    doomed.on('error', () => {})
    await Promise.all([once(doomed, 'open'), once(spared, 'open')])
    const startedAt = performance.now()
    const closed = once(doomed, 'close')
    await writeStatus(world.store, globex.id, 'suspended', 'test')
    await closed
    t.ok(performance.now() - startedAt < 1000)
    t.equal(spared.readyState, WebSocket.OPEN)
    spared.terminate()
  })
})
