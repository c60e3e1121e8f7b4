import websocket from '@fastify/websocket'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { RawData, WebSocket } from 'ws'
import { Fault } from '../../registry/lib/errors.ts'
import type { TenantId } from '../../registry/tenant.ts'
import type { Drain } from '../drain.ts'
import { requireUser } from '../kit/tenant-kit.ts'
import type { AppMetrics } from '../metrics.ts'
import { untilExpiry } from './until-expiry.ts'

export interface SocketOptions {
  readonly socketsMax: number
  readonly perTenantMax: number
}

const PATH = '/api/ws'
const PAYLOAD_BYTES_MAX = 64 * 1024
const BACKLOG_BYTES_MAX = 1024 * 1024
/** A peer that answered no ping for so long is gone. */
const HEARTBEAT_MS = 30_000

/**
 * `GET /api/ws`: says welcome, then echoes. The upgrade passes the same hook as every request, and a
 * refusal is an ordinary HTTP answer before the 101.
 */
export async function socketRoutes(
  app: FastifyInstance,
  drain: Drain,
  metrics: AppMetrics,
  options: SocketOptions,
): Promise<void> {
  const perTenant = new Map<TenantId, number>()
  let sockets = 0

  await app.register(websocket, {
    errorHandler: (_error, socket) => socket.terminate(),
    // Ours closes with 1001 before Fastify closes (main.ts); what is left then is cut.
    preClose(done) {
      for (const client of this.websocketServer.clients) client.terminate()
      this.websocketServer.close(() => done())
    },
    // Compression of small messages costs 300 KiB per socket and buys nothing.
    options: { maxPayload: PAYLOAD_BYTES_MAX, perMessageDeflate: false },
  })

  // The library would complete the upgrade of any route and close the socket then.
  app.addHook('onRequest', async request => {
    if (request.ws && request.routeOptions.url !== PATH) {
      throw new Fault('BAD_REQUEST', 'an upgrade of a route that is no WebSocket')
    }
  })

  const admitSocket = async (request: FastifyRequest) => {
    const { admitted } = request
    if (admitted === null) throw new Fault('CONTEXT_INVALID', 'no context')
    requireUser(admitted.principal)
    if (!request.ws) {
      throw new Fault('BAD_REQUEST', 'not an upgrade', { publicMessage: 'WebSocket expected.' })
    }
    if (drain.isClosing) throw new Fault('SHUTTING_DOWN', 'draining')
    const ofTenant = perTenant.get(admitted.claims.tid) ?? 0
    if (sockets >= options.socketsMax || ofTenant >= options.perTenantMax) {
      throw new Fault('TENANT_UNAVAILABLE', 'too many WebSockets')
    }
  }

  app.get(PATH, { websocket: true, preHandler: admitSocket }, (socket, request) => {
    const { admitted } = request
    if (admitted === null) {
      socket.terminate()
      return
    }
    const { tid, key } = admitted.claims
    const user = requireUser(admitted.principal)
    sockets += 1
    perTenant.set(tid, (perTenant.get(tid) ?? 0) + 1)
    metrics.streams.inc({ kind: 'ws' })
    const stopHeartbeat = startHeartbeat(socket)
    const stopClock = untilExpiry(user.expiresAtS, () => closeSoon(socket, 1008, 'token expired'))
    const forget = drain.onDrain(() => closeSoon(socket, 1001, 'going away'))
    socket.once('close', () => {
      sockets -= 1
      const left = (perTenant.get(tid) ?? 1) - 1
      if (left > 0) perTenant.set(tid, left)
      else perTenant.delete(tid)
      metrics.streams.dec({ kind: 'ws' })
      stopHeartbeat()
      stopClock()
      forget()
    })
    socket.on('message', (data, isBinary) => {
      if (socket.bufferedAmount > BACKLOG_BYTES_MAX) socket.terminate()
      else if (isBinary) socket.close(1003, 'text only')
      else socket.send(JSON.stringify({ type: 'echo', data: readMessage(data) }))
    })
    socket.send(JSON.stringify({ type: 'welcome', tenant: key, user: user.id }))
  })
}

/** JSON as it is, anything else as text. */
function readMessage(data: RawData): unknown {
  const text = data.toString()
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

function startHeartbeat(socket: WebSocket): () => void {
  let isAlive = true
  socket.on('pong', () => {
    isAlive = true
  })
  const timer = setInterval(() => {
    if (!isAlive) {
      socket.terminate()
      return
    }
    isAlive = false
    socket.ping()
  }, HEARTBEAT_MS)
  return () => clearInterval(timer)
}

/** A polite close, and an impolite one for a peer that does not answer it. */
function closeSoon(socket: WebSocket, code: number, reason: string): void {
  socket.close(code, reason)
  const timer = setTimeout(() => socket.terminate(), 1000)
  socket.once('close', () => clearTimeout(timer))
}
