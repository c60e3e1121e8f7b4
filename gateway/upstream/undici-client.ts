import { Readable } from 'node:stream'
import { LRUCache } from 'lru-cache'
import { type Dispatcher, Pool } from 'undici'
import type { BodySource } from '../exchange.ts'
import type {
  UpstreamCall,
  UpstreamClient,
  UpstreamFault,
  UpstreamRequest,
  UpstreamSink,
} from './client.ts'
import { contentLength, isBodylessAnswer } from './response-head.ts'

export interface UndiciClientOptions {
  readonly connectTimeoutMs: number
  readonly headTimeoutMs: number
  readonly bodyIdleTimeoutMs: number
  readonly keepAliveTimeoutMs: number
  readonly connectionsMax: number
}

const ORIGINS_MAX = 1024

/** Upstream HTTP by undici's dispatch API: one pool for each origin. */
export class UndiciClient implements UpstreamClient {
  readonly #options: UndiciClientOptions
  /** Bounded: each dedicated tenant has an origin of its own. */
  readonly #pools = new LRUCache<string, Pool>({
    max: ORIGINS_MAX,
    dispose: pool => void pool.close().catch(() => pool.destroy()),
  })

  constructor(options: UndiciClientOptions) {
    this.#options = options
  }

  send(origin: string, request: UpstreamRequest, sink: UpstreamSink): UpstreamCall {
    const attempt = new Attempt(request, sink)
    const { body } = request
    const headers = [...request.headers]
    if (body !== null && !Buffer.isBuffer(body) && body.length !== null) {
      headers.push('content-length', String(body.length))
    }
    this.#poolOf(origin).dispatch(
      {
        method: request.method as Dispatcher.HttpMethod,
        path: request.target,
        headers,
        body: body === null || Buffer.isBuffer(body) ? body : attempt.readableOf(body),
      },
      attempt,
    )
    return attempt
  }

  async close(): Promise<void> {
    const pools = [...this.#pools.values()]
    await Promise.all(pools.map(pool => pool.destroy()))
    this.#pools.clear()
  }

  #poolOf(origin: string): Pool {
    const known = this.#pools.get(origin)
    if (known !== undefined) return known
    const pool = new Pool(origin, {
      connections: this.#options.connectionsMax,
      connect: { timeout: this.#options.connectTimeoutMs },
      headersTimeout: this.#options.headTimeoutMs,
      bodyTimeout: this.#options.bodyIdleTimeoutMs,
      keepAliveTimeout: this.#options.keepAliveTimeoutMs,
      keepAliveMaxTimeout: this.#options.keepAliveTimeoutMs,
      allowH2: false,
    })
    this.#pools.set(origin, pool)
    return pool
  }
}

/** One request on its way: undici's handler on one side, our sink on the other. */
class Attempt implements UpstreamCall, Dispatcher.DispatchHandler {
  readonly #request: UpstreamRequest
  readonly #sink: UpstreamSink
  #controller: Dispatcher.DispatchController | null = null
  #body: Readable | null = null
  #bodyError: Error | null = null
  #isOver = false
  #isPaused = false

  constructor(request: UpstreamRequest, sink: UpstreamSink) {
    this.#request = request
    this.#sink = sink
  }

  /** The client's body as the stream that undici reads; it is started when undici asks for bytes. */
  readableOf(source: BodySource): Readable {
    let isStarted = false
    const body = new Readable({
      read: () => {
        if (isStarted) return source.resume()
        isStarted = true
        source.start({
          onBodyBytes: chunk => {
            if (!body.destroyed && !body.push(chunk)) source.pause()
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
    if (this.#isOver) controller.abort(new Error('the client left'))
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200 || this.#isOver) return
    const raw = rawFields(controller.rawHeaders)
    const { method } = this.#request
    this.#sink.onHead(status, raw, contentLength(raw), isBodylessAnswer(method, status))
    if (this.#isPaused) controller.pause()
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#isOver) this.#sink.onBytes(chunk)
  }

  onResponseEnd(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#sink.onEnd()
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#sink.onFault(faultOf(error, this.#bodyError))
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
    if (this.#isOver) return
    this.#isOver = true
    this.#body?.destroy()
    this.#controller?.abort(new Error('the client left'))
  }
}

function rawFields(raw: Dispatcher.DispatchController['rawHeaders']): string[] {
  if (!Array.isArray(raw)) return []
  return raw.map(part => (typeof part === 'string' ? part : part.toString('latin1')))
}

const TIMEOUT_CODES = new Set(['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'])
const RESET_CODES = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'])

function faultOf(error: Error, bodyError: Error | null): UpstreamFault {
  const { code = '', syscall } = error as NodeJS.ErrnoException
  const base = { isUnsent: false, isReused: true, reason: `${code} ${error.message}`.trim() }
  if (bodyError !== null)
    return { ...base, kind: 'request-body', reason: bodyError.message, cause: bodyError }
  if (code === 'UND_ERR_CONNECT_TIMEOUT' || syscall === 'connect' || syscall === 'getaddrinfo') {
    return { ...base, kind: 'connect', isUnsent: true, isReused: false }
  }
  if (TIMEOUT_CODES.has(code)) return { ...base, kind: 'timeout' }
  if (RESET_CODES.has(code)) return { ...base, kind: 'reset' }
  return { ...base, kind: 'protocol' }
}
