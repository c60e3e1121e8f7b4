import { type ClientRequest, Agent as HttpAgent, IncomingMessage } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { isIP, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type httpProxy from 'http-proxy'
import type { MintedContext } from '../registry/context.ts'
import type { AddressPolicy } from '../registry/lib/address.ts'
import { Fault } from '../registry/lib/errors.ts'
import { guardedLookup, requireAllowedLiteral } from '../registry/lib/guarded-socket.ts'
import type { Log } from '../registry/lib/log.ts'
import type { Tenant } from '../registry/tenant.ts'
import type { Exchange } from './exchange.ts'
import type { Fleet, Home } from './fleet/fleet.ts'
import type { Replica } from './fleet/replica.ts'
import { type Finish, upstreamHeaders } from './forward.ts'
import type { TrustedProxies } from './forwarded.ts'
import { loadHttpProxy } from './http-proxy.ts'
import { type OpenSockets, socketTokenOf } from './open-sockets.ts'
import { cleanResponseHeaders } from './upstream/response-head.ts'
import { FrameBoundaries, GOING_AWAY_FRAME } from './websocket-frames.ts'

export interface UpgradeOptions {
  readonly fleet: Fleet
  readonly trusted: TrustedProxies
  readonly sockets: OpenSockets
  /** Sockets and event streams of one tenant: none of them may take the connections of all clients. */
  readonly perTenantMax: number
  /** As `ForwardOptions.answered`. */
  readonly answered: (exchange: Exchange) => void
  /** Looks again whether the exchange may stay open, for much may have changed since it was admitted. */
  readonly recheck: (exchange: Exchange, cut: () => void) => void
  /** Bound of the wait for the replica's answer to the handshake. */
  readonly handshakeTimeoutMs: number
  /** Where tenants' own deployments may be (HARDENING B.13); null: anywhere. */
  readonly ownAddresses: AddressPolicy | null
  /** PEM of the CA that certificates of `https:` replicas must come from; absent: those that Node trusts. */
  readonly ca?: string | undefined
  readonly log: Log
}

/** From asking a client to close until its socket is cut. */
const GOODBYE_MS = 1000
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
  const proxy = loadHttpProxy().createProxyServer({ ws: true, toProxy: true, xfwd: false })
  const made = new WeakMap<IncomingMessage, ClientRequest>()
  proxy.on('proxyReqWs', (proxyReq, req) => made.set(req, proxyReq))
  // Every call passes its own error callback; this one keeps a late error from being thrown.
  proxy.on('error', error => options.log.debug({ err: error }, 'upgrade error'))
  const start: Start = (req, socket, origin, isOwn, onError) => {
    const addresses = isOwn ? options.ownAddresses : null
    const to = connectionTo(origin, addresses, options.ca)
    proxy.ws(req, socket as Socket, Buffer.alloc(0), to, onError)
    return made.get(req) as ClientRequest
  }
  return (exchange, context, finish) => {
    const { sockets, perTenantMax } = options
    if (sockets.countOf((exchange.tenant as Tenant).id) >= perTenantMax) {
      return finish(exchange, new Fault('TENANT_BUSY', `${perTenantMax} sockets open`))
    }
    new Upgrading(exchange, context, options, start, finish).attempt(null)
  }
}

type OnError = (error: Error) => void

/**
 * Starts one handshake with a replica.
 *
 * @param isOwn it is the tenant's own deployment
 * @throws Fault TENANT_CONFIG_INVALID where its address is refused; as an error where a name leads there
 */
type Start = (
  req: IncomingMessage,
  socket: Duplex,
  origin: string,
  isOwn: boolean,
  onError: OnError,
) => ClientRequest

/** Connecting takes two attempts at most; a handshake that was sent is never sent again. */
const ATTEMPTS_MAX = 2

/** One handshake and the splice that comes of it; alive until `finish` is called, exactly once. */
class Upgrading {
  readonly #exchange: Exchange
  readonly #context: MintedContext
  readonly #options: UpgradeOptions
  readonly #start: Start
  readonly #finish: Finish
  readonly #socket: Duplex
  readonly #stopWatching: () => void
  readonly #timer: NodeJS.Timeout
  /** Takes the socket out of those that a suspension or an expiry reaches. */
  readonly #forget: () => void
  #home: Home | null = null
  #replica: Replica | null = null
  #proxyReq: ClientRequest | null = null
  #upstreamSocket: Socket | null = null
  /** Of what the replica sends. */
  readonly #frames = new FrameBoundaries()
  #isLeaving = false
  #isOver = false

  constructor(
    exchange: Exchange,
    context: MintedContext,
    options: UpgradeOptions,
    start: Start,
    finish: Finish,
  ) {
    this.#exchange = exchange
    this.#context = context
    this.#options = options
    this.#start = start
    this.#finish = finish
    const { socket, head } = exchange.upgrade as NonNullable<Exchange['upgrade']>
    this.#socket = socket
    if (head.length > 0) socket.unshift(head)
    this.#stopWatching = watchEarly(socket)
    this.#timer = setTimeout(() => {
      this.#end(new Fault('UPSTREAM_TIMEOUT', 'no answer to the handshake'))
    }, options.handshakeTimeoutMs)
    socket.on('close', () => this.#end(null))
    // From now on, so that a suspension in the midst of the handshake reaches it too.
    this.#forget = options.sockets.add(
      (exchange.tenant as Tenant).id,
      socketTokenOf(exchange),
      () => this.#cut(),
      () => this.#goAway(),
      true,
    )
  }

  /** @param failed the replica of the attempt before */
  attempt(failed: Replica | null): void {
    try {
      this.#send(failed)
    } catch (error) {
      this.#end(error)
    }
  }

  #send(failed: Replica | null): void {
    const exchange = this.#exchange
    const { fleet, trusted } = this.#options
    const home = fleet.homeOf(exchange.tenant as Tenant)
    const replica = fleet.chooseForSocket(home, failed, Date.now())
    exchange.attempts++
    exchange.upstream = replica.origin
    this.#home = home
    this.#replica = replica
    replica.sockets++
    const req = handshakeOf(exchange, this.#context, trusted)
    const { origin } = replica
    const proxyReq = this.#start(req, this.#socket, origin, replica.isOwn, e => this.#onError(e))
    this.#proxyReq = proxyReq
    // Before http-proxy's own listener, which writes the head that we clean here.
    proxyReq.prependListener('upgrade', (res, upstreamSocket) => {
      this.#splice(res, upstreamSocket as Socket)
    })
    // Behind it: it puts back what came with the 101, which a listener from before would take for itself.
    proxyReq.on('upgrade', (_, upstreamSocket) => {
      upstreamSocket.on('data', chunk => this.#onFrames(chunk))
    })
    // Its own listener would write the decoded body behind a chunked head.
    proxyReq.removeAllListeners('response').on('response', res => this.#relayRefusal(res))
  }

  #onError(error: NodeJS.ErrnoException): void {
    // Once spliced there is no HTTP left to answer in: a 502 would be read as a frame.
    if (this.#upstreamSocket !== null) return this.#cut()
    const replica = this.#replica
    const isUnsent = error.syscall === 'connect' || error.syscall === 'getaddrinfo'
    if (replica === null || this.#isOver) return
    if (error instanceof Fault) return this.#end(error)
    if (isUnsent) {
      const { id } = this.#exchange.tenant as Tenant
      this.#options.fleet.note(this.#home as Home, id, replica, 'unreachable', Date.now())
    }
    if (isUnsent && this.#exchange.attempts < ATTEMPTS_MAX) {
      replica.sockets--
      this.#replica = null
      return this.attempt(replica)
    }
    const code = isUnsent ? 'UPSTREAM_UNREACHABLE' : 'UPSTREAM_BAD_RESPONSE'
    this.#end(new Fault(code, error.message))
  }

  /** Ties the two sides together: one gone, the other goes, for a half-open splice would leak. */
  #splice(res: IncomingMessage, upstreamSocket: Socket): void {
    clearTimeout(this.#timer)
    this.#stopWatching()
    this.#upstreamSocket = upstreamSocket
    upstreamSocket.on('error', () => {})
    upstreamSocket.on('close', () => {
      if (!this.#isLeaving) this.#end(null)
    })
    if (this.#isOver) return void upstreamSocket.destroy()
    const exchange = this.#exchange
    exchange.status = 101
    exchange.upstreamHeadAt = performance.now()
    res.headers = toObject(upgradeFields(res.rawHeaders, exchange))
    this.#options.answered(exchange)
    this.#options.recheck(exchange, () => this.#cut())
  }

  #relayRefusal(res: IncomingMessage): void {
    const exchange = this.#exchange
    const chunks: Buffer[] = []
    let bytes = 0
    res.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= REFUSAL_BYTES_MAX) chunks.push(chunk)
      else res.destroy()
    })
    res.on('error', () => {})
    // After 'end', or in place of it: too long, or broken off.
    res.on('close', () => {
      this.#end(new Fault('UPSTREAM_BAD_RESPONSE', 'a refusal that is too long or broke off'))
    })
    res.on('end', () => {
      if (this.#isOver || exchange.reply.isDone) return this.#end(null)
      exchange.status = res.statusCode ?? 502
      exchange.upstreamHeadAt = performance.now()
      const body = Buffer.concat(chunks)
      exchange.bytesOut = body.length
      const headers = cleanResponseHeaders(res.rawHeaders, false, exchange)
      this.#options.answered(exchange)
      exchange.reply.send(exchange.status, [...headers, 'x-request-id', exchange.requestId], body)
      this.#end(null)
    })
  }

  #onFrames(chunk: Buffer): void {
    if (!this.#isLeaving) return this.#frames.take(chunk)
    if (this.#socket.writableEnded) return
    const length = this.#frames.takeFrame(chunk)
    const hasRoom = this.#socket.write(chunk.subarray(0, length))
    if (this.#frames.isBetweenFrames) return this.#sayGoodbye()
    if (hasRoom) return
    this.#upstreamSocket?.pause()
    this.#socket.once('drain', () => this.#upstreamSocket?.resume())
  }

  /**
   * This process leaves: the client is told by a Close frame, behind the frame that is under way. The
   * replica sees its client gone; what the client sends after this was never to arrive.
   */
  #goAway(): void {
    const upstreamSocket = this.#upstreamSocket
    if (this.#isLeaving || this.#isOver) return
    if (upstreamSocket === null) return this.#end(new Fault('SHUTTING_DOWN', 'draining'))
    this.#isLeaving = true
    setTimeout(() => this.#cut(), GOODBYE_MS).unref()
    upstreamSocket.unpipe(this.#socket)
    this.#socket.unpipe(upstreamSocket)
    this.#socket.resume()
    if (this.#frames.isBetweenFrames) this.#sayGoodbye()
    else upstreamSocket.resume()
  }

  #sayGoodbye(): void {
    this.#upstreamSocket?.pause()
    // Its own Close frame and the end of its side are read and dropped, then it is closed.
    this.#socket.end(GOING_AWAY_FRAME)
  }

  /** Ends both sides without an answer. */
  #cut(): void {
    this.#socket.destroy()
    this.#end(null)
  }

  #end(error: unknown): void {
    if (this.#isOver) return
    this.#isOver = true
    clearTimeout(this.#timer)
    this.#forget()
    if (this.#replica !== null) this.#replica.sockets--
    const upstreamSocket = this.#upstreamSocket
    if (upstreamSocket === null) {
      // http-proxy would let the handshake go on without its client.
      this.#proxyReq?.destroy()
    } else {
      this.#exchange.bytesIn = upstreamSocket.bytesWritten
      this.#exchange.bytesOut = upstreamSocket.bytesRead
      upstreamSocket.destroy()
      this.#socket.destroy()
    }
    this.#finish(this.#exchange, error)
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

/**
 * Where http-proxy connects to, and how: one connection for each handshake, as without an agent.
 *
 * @param addresses which may be connected to; null: any
 * @throws Fault TENANT_CONFIG_INVALID
 */
function connectionTo(
  origin: string,
  addresses: AddressPolicy | null,
  ca: string | undefined,
): httpProxy.ServerOptions {
  const target = targetOf(origin)
  const { protocol, host } = target
  if (addresses !== null) requireAllowedLiteral(addresses, host)
  const guard = addresses === null ? {} : { lookup: guardedLookup(addresses) }
  if (protocol !== 'https:') return { target, agent: new HttpAgent(guard) }
  // Node takes the name that the certificate must hold from the Host field, which is the client's; an
  // agent's own options win over it. An address is never sent as a name (RFC 6066 section 3).
  const servername = isIP(host) === 0 ? host : ''
  const trust = ca === undefined ? {} : { ca }
  return { target, secure: true, agent: new HttpsAgent({ ...guard, ...trust, servername }) }
}

function targetOf(origin: string) {
  const { protocol, hostname, port } = new URL(origin)
  const standard = protocol === 'https:' ? '443' : '80'
  return { protocol, host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? standard : port }
}

/** The 101's fields: without our own names, with what makes it an upgrade. */
function upgradeFields(raw: readonly string[], exchange: Exchange): string[] {
  return [
    ...cleanResponseHeaders(raw, false, exchange),
    'connection',
    'Upgrade',
    'upgrade',
    'websocket',
    'x-request-id',
    exchange.requestId,
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
