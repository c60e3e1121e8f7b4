import { isIP } from 'node:net'
import { Readable } from 'node:stream'
import { LRUCache } from 'lru-cache'
import { buildConnector, type Dispatcher, Pool } from 'undici'
import type { AddressPolicy } from '../../registry/lib/address.ts'
import { Fault } from '../../registry/lib/errors.ts'
import { guardedLookup, requireAllowedLiteral } from '../../registry/lib/guarded-socket.ts'
import type { BodySource } from '../exchange.ts'
import { Alarm, TimerWheel } from '../http1/timer-wheel.ts'
import { INTERIM_MAX, RESPONSE_FIELDS_MAX } from '../http1/upstream-response-head.ts'
import type {
  UpstreamCall,
  UpstreamClient,
  UpstreamFault,
  UpstreamRequest,
  UpstreamSink,
} from './client.ts'
import { type Entrant, OriginGate } from './origin-gate.ts'
import { contentLength, isBodylessAnswer } from './response-head.ts'

export interface UndiciClientOptions {
  readonly connectTimeoutMs: number
  readonly headTimeoutMs: number
  readonly bodyIdleTimeoutMs: number
  readonly keepAliveTimeoutMs: number
  readonly connectionsMax: number
  /** PEM of the CA that certificates must come from; absent: those that Node trusts. */
  readonly ca?: string | undefined
  /** Calls that wait for a connection of one origin. Standard: 1,024. */
  readonly queueMax?: number
  /** How long a call waits until it is sent. Standard: 2,000. */
  readonly queueMs?: number
  /** Which addresses may be connected to; absent: all. */
  readonly addresses?: AddressPolicy | null
}

const ORIGINS_MAX = 1024
const QUEUE_MAX = 1024
const QUEUE_MS = 2000

interface Origin {
  readonly pool: Pool
  readonly gate: OriginGate
  /** Who must be on the other side of TLS. */
  readonly serverName: string
}

/** Upstream HTTP by undici's dispatch API: one pool for each origin, its certificate verified. */
export class UndiciClient implements UpstreamClient {
  readonly #options: UndiciClientOptions
  /** Bounded: each dedicated tenant has an origin of its own. */
  readonly #origins = new LRUCache<string, Origin>({
    max: ORIGINS_MAX,
    // Calls that wait at the gate then fail as they enter, one after the other.
    dispose: ({ pool }) => void pool.close().catch(() => pool.destroy()),
  })
  readonly #wheel = new TimerWheel()
  /** Errors from before a connection stood, so that nothing can have been sent on it. */
  readonly #connectErrors = new WeakSet<Error>()

  constructor(options: UndiciClientOptions) {
    this.#options = options
  }

  send(origin: string, request: UpstreamRequest, sink: UpstreamSink): UpstreamCall {
    const { pool, gate, serverName } = this.#originOf(origin)
    const { addresses, queueMs = QUEUE_MS } = this.#options
    const place = { pool, gate, serverName, connectErrors: this.#connectErrors }
    const attempt = new Attempt(request, sink, place, this.#wheel)
    if (addresses) {
      try {
        requireAllowedLiteral(addresses, serverName)
      } catch (error) {
        process.nextTick(refuse, attempt, error)
        return attempt
      }
    }
    this.#wheel.arm(attempt.alarm, queueMs)
    if (!gate.enter(attempt)) process.nextTick(failQueue, attempt, 'connection queue full')
    return attempt
  }

  /** Calls that wait for a connection to `origin`. */
  queueLength(origin: string): number {
    return this.#origins.peek(origin)?.gate.waitingCount ?? 0
  }

  /** Calls to `origin` that hold a connection or are being connected. */
  activeCount(origin: string): number {
    return this.#origins.peek(origin)?.gate.insideCount ?? 0
  }

  connectionCount(origin: string): number {
    return this.#origins.peek(origin)?.pool.stats.connected ?? 0
  }

  closeIdle(origin: string): void {
    const known = this.#origins.peek(origin)
    // Its pool closes when its calls have ended; one that waits at the gate would find it closed.
    if (known !== undefined && known.gate.waitingCount === 0) this.#origins.delete(origin)
  }

  async close(): Promise<void> {
    const origins = [...this.#origins.values()]
    await Promise.all(origins.map(({ pool }) => pool.destroy()))
    this.#origins.clear()
  }

  #originOf(origin: string): Origin {
    const known = this.#origins.get(origin)
    if (known !== undefined) return known
    const serverName = new URL(origin).hostname
    const pool = new Pool(origin, {
      connections: this.#options.connectionsMax,
      connect: this.#makeConnect(serverName),
      headersTimeout: this.#options.headTimeoutMs,
      bodyTimeout: this.#options.bodyIdleTimeoutMs,
      keepAliveTimeout: this.#options.keepAliveTimeoutMs,
      keepAliveMaxTimeout: this.#options.keepAliveTimeoutMs,
      allowH2: false,
    })
    const { connectionsMax, queueMax } = this.#options
    const made = { pool, gate: new OriginGate(connectionsMax, queueMax ?? QUEUE_MAX), serverName }
    this.#origins.set(origin, made)
    return made
  }

  /**
   * undici takes the name that a certificate must hold from the Host field, which is the client's to choose
   * here. It is the origin's, whatever a request says.
   */
  #makeConnect(serverName: string): buildConnector.connector {
    const { addresses, ca, connectTimeoutMs } = this.#options
    const connect = buildConnector({
      timeout: connectTimeoutMs,
      allowH2: false,
      ...(ca === undefined ? {} : { ca }),
      ...(addresses ? guard(addresses) : {}),
    })
    const isAddress = isIP(serverName.replace(/^\[|\]$/g, '')) !== 0
    return (options, done) => {
      // An address is checked as such, and is never sent as a name (RFC 6066 section 3).
      connect({ ...options, servername: isAddress ? '' : serverName }, (...result) => {
        const [error] = result
        if (error !== null) this.#connectErrors.add(error)
        done(...result)
      })
    }
  }
}

interface Place extends Origin {
  readonly connectErrors: WeakSet<Error>
}

/** One request on its way: undici's handler on one side, our sink on the other. */
class Attempt implements UpstreamCall, Entrant, Dispatcher.DispatchHandler {
  /** Rings where the request has not been sent in time. */
  readonly alarm: Alarm
  readonly #request: UpstreamRequest
  readonly #sink: UpstreamSink
  readonly #place: Place
  readonly #gate: OriginGate
  readonly #wheel: TimerWheel
  #controller: Dispatcher.DispatchController | null = null
  #body: Readable | null = null
  #bodyError: Error | null = null
  #isOver = false
  #isPaused = false
  #interims = 0
  sentAt = 0

  constructor(request: UpstreamRequest, sink: UpstreamSink, place: Place, wheel: TimerWheel) {
    this.#request = request
    this.#sink = sink
    this.#place = place
    this.#gate = place.gate
    this.#wheel = wheel
    this.alarm = new Alarm(() => this.failQueue('queue-timeout', 'no free connection in time'))
  }

  onEntered(): void {
    const { body, method, target } = this.#request
    const headers = [...this.#request.headers]
    if (body !== null && !Buffer.isBuffer(body) && body.length !== null) {
      headers.push('content-length', String(body.length))
    }
    const { pool, serverName } = this.#place
    const options: Dispatcher.DispatchOptions & { readonly servername: string } = {
      method: method as Dispatcher.HttpMethod,
      path: target,
      headers,
      body: body === null || Buffer.isBuffer(body) ? body : this.#readableOf(body),
      // Else undici gives its connection up where a request has another Host than the one before.
      servername: serverName,
    }
    pool.dispatch(options, this)
  }

  /** It was never sent, and will not be. */
  failQueue(kind: 'queue' | 'queue-timeout', reason: string): void {
    if (this.#isOver) return
    this.#giveUp()
    this.#sink.onFault({ kind, isUnsent: true, isReused: false, reason })
  }

  /** Its address may not be connected to. */
  refuse(cause: Error): void {
    if (this.#isOver) return
    this.#giveUp()
    this.#sink.onFault(refusedFault(cause))
  }

  /** The client's body as the stream that undici reads; it is started when undici asks for bytes. */
  #readableOf(source: BodySource): Readable {
    let isStarted = false
    const body = new Readable({
      read: () => {
        if (isStarted) return source.resume()
        isStarted = true
        source.start({
          onBodyBytes: chunk => {
            if (!body.destroyed && !body.push(Buffer.from(chunk))) source.pause()
          },
          onBodyEnd: () => {
            if (!body.destroyed) body.push(null)
          },
          onBodyError: error => {
            this.#bodyError = error
            body.destroy(error)
          },
        })
      },
    })
    // undici reports it by onResponseError as well; a stream without a listener would throw.
    body.on('error', () => {})
    this.#body = body
    return body
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    this.sentAt = performance.now()
    this.#wheel.disarm(this.alarm)
    if (this.#isOver) controller.abort(new Error('the client left'))
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (this.#isOver) return
    if (status < 200) {
      if (++this.#interims > INTERIM_MAX) this.#distrust('too many interim answers')
      return
    }
    const raw = rawFields(controller.rawHeaders)
    // undici bounds neither; see upstream-response-head.ts.
    if (status > 599) return this.#distrust('bad status')
    if (raw.length > 2 * RESPONSE_FIELDS_MAX) return this.#distrust('too many fields')
    const { method } = this.#request
    this.#sink.onHead(status, raw, contentLength(raw), isBodylessAnswer(method, status))
    if (this.#isPaused) controller.pause()
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#isOver) this.#sink.onBytes(chunk)
  }

  onResponseEnd(): void {
    this.#gate.leave(this)
    if (this.#isOver) return
    this.#isOver = true
    this.#sink.onEnd()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#wheel.disarm(this.alarm)
    this.#gate.leave(this)
    if (this.#isOver) return
    this.#isOver = true
    const isConnect = this.#place.connectErrors.has(error)
    this.#sink.onFault(faultOf(error, this.#bodyError, isConnect))
  }

  pause(): void {
    this.#isPaused = true
    this.#controller?.pause()
  }

  resume(): void {
    this.#isPaused = false
    this.#controller?.resume()
  }

  abort(): void {
    if (!this.#isOver) this.#giveUp()
  }

  /** The answer is in doubt: nothing of it is passed on, and its connection ends. */
  #distrust(reason: string): void {
    this.#giveUp()
    this.#sink.onFault({ kind: 'protocol', isUnsent: false, isReused: false, reason })
  }

  #giveUp(): void {
    this.#isOver = true
    this.#wheel.disarm(this.alarm)
    // With undici already: its place is free once undici has let go of it.
    if (this.#gate.isWaiting(this)) this.#gate.leave(this)
    this.#body?.destroy()
    this.#controller?.abort(new Error('the client left'))
  }
}

function failQueue(attempt: Attempt, reason: string): void {
  attempt.failQueue('queue', reason)
}

function refuse(attempt: Attempt, cause: Error): void {
  attempt.refuse(cause)
}

/** undici hands what it does not know on to net.connect and tls.connect. */
function guard(addresses: AddressPolicy): object {
  return { lookup: guardedLookup(addresses) }
}

function refusedFault(cause: Error): UpstreamFault {
  return { kind: 'refused', isUnsent: true, isReused: false, reason: cause.message, cause }
}

function rawFields(raw: Dispatcher.DispatchController['rawHeaders']): string[] {
  if (!Array.isArray(raw)) return []
  return raw.map(part => (typeof part === 'string' ? part : part.toString('latin1')))
}

const TIMEOUT_CODES = new Set(['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'])
const RESET_CODES = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'])

function faultOf(error: Error, bodyError: Error | null, isConnect: boolean): UpstreamFault {
  if (error instanceof Fault && bodyError === null) return refusedFault(error)
  const { code = '' } = error as NodeJS.ErrnoException
  const base = { isUnsent: false, isReused: true, reason: `${code} ${error.message}`.trim() }
  if (bodyError !== null)
    return { ...base, kind: 'request-body', reason: bodyError.message, cause: bodyError }
  // TCP, DNS or TLS, a certificate that is refused included.
  if (isConnect) {
    return { ...base, kind: 'connect', isUnsent: true, isReused: false }
  }
  if (TIMEOUT_CODES.has(code)) return { ...base, kind: 'timeout' }
  if (RESET_CODES.has(code)) return { ...base, kind: 'reset' }
  return { ...base, kind: 'protocol' }
}
