import { type ClientRequest, IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import httpProxy from 'http-proxy'
import type { MintedContext } from '../registry/context.ts'
import { Fault } from '../registry/lib/errors.ts'
import type { Log } from '../registry/lib/log.ts'
import type { Tenant } from '../registry/tenant.ts'
import type { Exchange } from './exchange.ts'
import { type Finish, ownReplica, upstreamHeaders } from './forward.ts'
import type { TrustedProxies } from './forwarded.ts'
import type { OpenSockets } from './open-sockets.ts'
import type { ReplicaSet } from './upstream/replicas.ts'
import { cleanResponseHeaders } from './upstream/response-head.ts'

export interface UpgradeOptions {
  readonly replicas: ReplicaSet
  readonly trusted: TrustedProxies
  readonly sockets: OpenSockets
  /** Bound of the wait for the replica's answer to the handshake. */
  readonly handshakeTimeoutMs: number
  readonly log: Log
}

/** A refusal's body longer than this is cut. */
const REFUSAL_BYTES_MAX = 64 * 1024

export type Upgrader = (exchange: Exchange, context: MintedContext, finish: Finish) => void

/**
 * WebSocket handshakes (RFC 6455) through http-proxy, which is used for nothing else: for plain
 * requests 1.18.1 smuggles (its `deleteLength` pass) and leaks. The exchange has passed the same
 * phases as a request by then.
 */
export function makeUpgrader(options: UpgradeOptions): Upgrader {
  // `toProxy` sends req.url as it is: parsed and printed again it would differ from what was signed.
  const proxy = httpProxy.createProxyServer({ ws: true, toProxy: true, xfwd: false })
  const calls = new WeakMap<IncomingMessage, (proxyReq: ClientRequest) => void>()
  proxy.on('proxyReqWs', (proxyReq, req) => calls.get(req)?.(proxyReq))
  // Every call passes its own error callback; this one keeps a late error from being thrown.
  proxy.on('error', error => options.log.debug({ err: error }, 'upgrade error'))

  return (exchange, context, finish) => {
    const { socket, head } = exchange.upgrade as NonNullable<Exchange['upgrade']>
    const tenant = exchange.tenant as Tenant
    const replica = ownReplica(tenant) ?? options.replicas.choose(null, Date.now())
    if (replica === null) throw new Fault('UPSTREAM_UNREACHABLE', 'no replica is known')
    exchange.attempts = 1
    exchange.upstream = replica.origin
    replica.inFlight++
    let isOver = false
    const end = (error: unknown) => {
      if (isOver) return
      isOver = true
      replica.inFlight--
      finish(exchange, error)
    }

    const req = handshakeOf(exchange, context, options.trusted)
    let proxyReq: ClientRequest | null = null
    calls.set(req, made => {
      proxyReq = made
      made.on('upgrade', (res, upstreamSocket) => {
        clearTimeout(timer)
        stopWatching()
        exchange.status = 101
        exchange.upstreamHeadAt = performance.now()
        res.headers = toObject(upgradeFields(res.rawHeaders, exchange.requestId))
        splice(exchange, upstreamSocket as Socket, options.sockets, end)
      })
    })
    const timer = setTimeout(() => {
      proxyReq?.destroy()
      end(new Fault('UPSTREAM_TIMEOUT', 'no answer to the handshake'))
    }, options.handshakeTimeoutMs)
    const stopWatching = watchEarly(socket)
    socket.on('close', () => {
      clearTimeout(timer)
      // http-proxy would let the handshake go on without its client.
      proxyReq?.destroy()
      end(null)
    })
    proxy.ws(req, socket as Socket, head, { target: targetOf(replica.origin) }, error => {
      clearTimeout(timer)
      end(new Fault('UPSTREAM_UNREACHABLE', error.message))
    })
    // Its own listener would write the decoded body behind a chunked head.
    ;(proxyReq as ClientRequest | null)?.removeAllListeners('response').on('response', res => {
      clearTimeout(timer)
      relayRefusal(exchange, res, end)
    })
  }
}

/** A client may not speak before the 101 (RFC 6455 section 4.1); a little is kept all the same. */
const EARLY_BYTES_MAX = 16 * 1024

/**
 * Reads from the client while the handshake is under way, for only a socket that is read from tells
 * that its peer has left. What came is put back when the returned function is called.
 */
function watchEarly(socket: Duplex): () => void {
  const early: Buffer[] = []
  let bytes = 0
  const onData = (chunk: Buffer) => {
    bytes += chunk.length
    early.push(chunk)
    if (bytes > EARLY_BYTES_MAX) socket.destroy()
  }
  const onEnd = () => socket.destroy()
  socket.on('error', () => {})
  socket.on('data', onData)
  socket.on('end', onEnd)
  return () => {
    socket.off('data', onData)
    socket.off('end', onEnd)
    socket.pause()
    if (bytes > 0) socket.unshift(Buffer.concat(early))
  }
}

/** Ties the two sides together: one gone, the other goes, for a half-open splice would leak. */
function splice(
  exchange: Exchange,
  upstreamSocket: Socket,
  sockets: OpenSockets,
  end: (error: unknown) => void,
): void {
  const socket = exchange.upgrade?.socket as Socket
  const cut = () => {
    socket.destroy()
    upstreamSocket.destroy()
  }
  const { tenant, principal } = exchange
  const forget = sockets.add((tenant as Tenant).id, principal?.exp ?? null, cut)
  const onClose = () => {
    forget()
    cut()
    exchange.bytesIn = upstreamSocket.bytesWritten
    exchange.bytesOut = upstreamSocket.bytesRead
    end(null)
  }
  upstreamSocket.on('error', () => {})
  upstreamSocket.on('close', onClose)
  socket.on('close', onClose)
}

/** What http-proxy reads: the handshake as it goes to the replica. */
function handshakeOf(
  exchange: Exchange,
  context: MintedContext,
  trusted: TrustedProxies,
): IncomingMessage {
  const req = new IncomingMessage(exchange.upgrade?.socket as Socket)
  req.method = exchange.method
  req.url = exchange.target
  req.httpVersion = '1.1'
  req.headers = toObject([
    ...upstreamHeaders(exchange, context, trusted, Date.now()),
    'connection',
    'Upgrade',
    'upgrade',
    'websocket',
  ])
  return req
}

function targetOf(origin: string) {
  const { protocol, hostname, port } = new URL(origin)
  const standard = protocol === 'https:' ? '443' : '80'
  return { protocol, host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? standard : port }
}

/** The 101's fields: without our own names, with what makes it an upgrade. */
function upgradeFields(raw: readonly string[], requestId: string): string[] {
  return [
    ...cleanResponseHeaders(raw, false),
    'connection',
    'Upgrade',
    'upgrade',
    'websocket',
    'x-request-id',
    requestId,
  ]
}

/** Repeated fields become an array, as http.request and http-proxy write them. */
function toObject(flat: readonly string[]): Record<string, string | string[]> & NodeJS.Dict<never> {
  const object: Record<string, string | string[]> = Object.create(null)
  for (let i = 0; i < flat.length; i += 2) {
    const name = (flat[i] as string).toLowerCase()
    const value = flat[i + 1] as string
    const before = object[name]
    object[name] = before === undefined ? value : [before, value].flat()
  }
  return object as Record<string, string | string[]> & NodeJS.Dict<never>
}

function relayRefusal(exchange: Exchange, res: IncomingMessage, end: (error: unknown) => void) {
  const chunks: Buffer[] = []
  let bytes = 0
  res.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes <= REFUSAL_BYTES_MAX) chunks.push(chunk)
    else res.destroy()
  })
  res.on('error', () => end(new Fault('UPSTREAM_BAD_RESPONSE', 'the refusal broke off')))
  res.on('end', () => {
    if (exchange.reply.isDone) return end(null)
    exchange.status = res.statusCode ?? 502
    exchange.upstreamHeadAt = performance.now()
    const body = Buffer.concat(chunks)
    exchange.bytesOut = body.length
    const headers = cleanResponseHeaders(res.rawHeaders, false)
    exchange.reply.send(exchange.status, [...headers, 'x-request-id', exchange.requestId], body)
    end(null)
  })
}
