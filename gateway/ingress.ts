import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { Fault, faultBody } from '../registry/lib/errors.ts'
import {
  type BodySink,
  type BodySource,
  blankExchange,
  type Client,
  type Exchange,
  type Reply,
} from './exchange.ts'
import { SocketReply } from './socket-reply.ts'

export interface IngressOptions {
  readonly headBytesMax: number
  readonly headTimeoutMs: number
  readonly bodyIdleTimeoutMs: number
  readonly keepAliveTimeoutMs: number
  /** While it is true, connections end with their answer. */
  readonly isDraining: () => boolean
}

/**
 * The public listener on Node's own HTTP server: turns messages into exchanges and hands them on.
 * Node refuses ambiguous framing by itself (strict llhttp); what it lets through and we do not is
 * refused by admitHead.
 */
export function makeIngress(options: IngressOptions, handle: (exchange: Exchange) => void): Server {
  const server = createServer({
    maxHeaderSize: options.headBytesMax,
    headersTimeout: options.headTimeoutMs,
    // The whole request may take as long as it flows: uploads are bounded by their idle time-out.
    requestTimeout: 0,
    keepAliveTimeout: options.keepAliveTimeoutMs,
    connectionsCheckingInterval: 1000,
    insecureHTTPParser: false,
    requireHostHeader: true,
  })
  // Node hides fields past this count, also a Content-Length (CVE-2026-58044): 0 shows all, and
  // cleanHeaders refuses too many.
  server.maxHeadersCount = 0
  const onRequest = (req: IncomingMessage, res: ServerResponse) => {
    handle(
      exchangeOf(req, bodyOf(req, res, options), new NodeReply(req, res, options.isDraining), null),
    )
  }
  server.on('request', onRequest)
  server.on('checkContinue', onRequest)
  server.on('checkExpectation', (req: IncomingMessage, res: ServerResponse) => {
    res.writeHead(417, { connection: 'close' }).end()
    req.resume()
  })
  server.on('upgrade', (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => {})
    const reply = new SocketReply(socket)
    handle(exchangeOf(req, null, reply, { socket, head }))
  })
  server.on('clientError', answerClientError)
  return server
}

function exchangeOf(
  req: IncomingMessage,
  body: BodySource | null,
  reply: Reply,
  upgrade: Exchange['upgrade'],
): Exchange {
  return {
    ...blankExchange(),
    method: req.method ?? '',
    rawTarget: req.url ?? '',
    rawHeaders: req.rawHeaders,
    client: clientOf(req.socket),
    body,
    reply,
    upgrade,
    startedAt: performance.now(),
  }
}

function clientOf(socket: Socket): Client {
  return { address: socket.remoteAddress ?? '', isTls: 'encrypted' in socket }
}

/** The request's body, or null where its head frames none (RFC 9112 section 6.3). */
function bodyOf(
  req: IncomingMessage,
  res: ServerResponse,
  { bodyIdleTimeoutMs }: IngressOptions,
): BodySource | null {
  const { 'content-length': declared, 'transfer-encoding': coding, expect } = req.headers
  if (coding === undefined && (declared === undefined || Number(declared) === 0)) return null
  return {
    length: coding === undefined ? Number(declared) : null,
    start(sink: BodySink) {
      if (expect?.toLowerCase() === '100-continue') res.writeContinue()
      let isOver = false
      const fail = (error: Error) => {
        if (isOver) return
        isOver = true
        sink.onBodyError(error)
      }
      // Idle, not total: bytes that go on flowing are no fault.
      req.setTimeout(bodyIdleTimeoutMs, () => {
        if (!isOver && !req.isPaused()) fail(new Error('the body stalled'))
      })
      req.on('data', (chunk: Buffer) => {
        if (!isOver) sink.onBodyBytes(chunk)
      })
      req.on('end', () => {
        if (isOver) return
        isOver = true
        sink.onBodyEnd()
      })
      req.on('error', fail)
      req.on('close', () => fail(new Error('the client left')))
    },
    pause() {
      req.pause()
    },
    resume() {
      req.resume()
    },
  }
}

/** Bytes of a body nobody asked for that are read, so that the client sees the answer. */
const DISCARD_BYTES_MAX = 1024 * 1024
const DISCARD_MS = 5000

class NodeReply implements Reply {
  readonly #isDraining: () => boolean
  readonly #req: IncomingMessage
  readonly #res: ServerResponse
  onGone: (() => void) | null = null
  onDrain: (() => void) | null = null

  constructor(req: IncomingMessage, res: ServerResponse, isDraining: () => boolean) {
    this.#isDraining = isDraining
    this.#req = req
    this.#res = res
    req.on('error', () => {})
    res.on('error', () => {})
    res.on('drain', () => this.onDrain?.())
    res.on('close', () => {
      const { onGone } = this
      this.onGone = null
      if (!res.writableFinished) onGone?.()
    })
  }

  get isHeadSent(): boolean {
    return this.#res.headersSent
  }

  get isDone(): boolean {
    return this.#res.writableEnded || this.#res.destroyed
  }

  send(status: number, headers: readonly string[], body: Buffer | string): void {
    const length = Buffer.byteLength(body)
    const fields = [...headers]
    if (status !== 204 && status !== 304) fields.push('content-length', String(length))
    if (!this.#req.complete) {
      fields.push('connection', 'close')
      this.#discardBody()
    }
    if (this.#isDraining()) this.#res.shouldKeepAlive = false
    this.#res.writeHead(status, fields).end(length === 0 ? undefined : body)
  }

  writeHead(
    status: number,
    headers: readonly string[],
    length: number | null,
    isBodyless: boolean,
  ): void {
    const fields = [...headers]
    if (length !== null && status !== 204) fields.push('content-length', String(length))
    else if (!isBodyless && this.#req.httpVersion === '1.0') fields.push('connection', 'close')
    if (this.#isDraining() || !this.#req.complete) this.#res.shouldKeepAlive = false
    this.#res.writeHead(status, fields)
    // Node holds the head back until the first byte: an event stream's client waits for it.
    this.#res.flushHeaders()
  }

  write(chunk: Buffer): boolean {
    return this.#res.write(chunk)
  }

  end(): void {
    this.#res.end()
    if (!this.#req.complete) this.#discardBody()
  }

  abort(): void {
    this.#req.socket.resetAndDestroy()
  }

  #discardBody(): void {
    const req = this.#req
    let left = DISCARD_BYTES_MAX
    req.on('data', (chunk: Buffer) => {
      left -= chunk.length
      if (left < 0) req.socket.destroy()
    })
    const timer = setTimeout(() => req.socket.destroy(), DISCARD_MS)
    req.on('close', () => clearTimeout(timer))
    req.resume()
  }
}

/** What Node's parser refuses never becomes an exchange: it is answered here, and the connection closed. */
function answerClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const fault =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new Fault('HEADERS_TOO_LARGE', 'head too large')
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? new Fault('REQUEST_TIMEOUT', 'head too slow')
        : new Fault('BAD_REQUEST', 'malformed')
  new SocketReply(socket).send(
    fault.status,
    ['content-type', 'application/json; charset=utf-8'],
    faultBody(fault, ''),
  )
}
