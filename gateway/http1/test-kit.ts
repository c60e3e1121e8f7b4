import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { connect as connectTls, createSecureContext } from 'node:tls'
import { makeCertificateAuthority } from '../../deploy/local/certificates.ts'
import type { BodySink, BodySource } from '../exchange.ts'
import type { UpstreamFault, UpstreamSink } from '../upstream/client.ts'
import type { TlsContexts } from './secure-socket.ts'

/** A TCP server whose connections are played by `script`; raw bytes, no HTTP. */
export class RawServer {
  readonly server: Server
  readonly sockets = new Set<Socket>()
  accepted = 0

  constructor(script: (socket: Socket, nth: number) => void) {
    this.server = createServer({ noDelay: true }, socket => {
      this.sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => this.sockets.delete(socket))
      script(socket, this.accepted++)
    })
  }

  async listen(): Promise<string> {
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy()
    this.server.close()
  }
}

/** What servers and clients of a test file speak: plain TCP, unless `useTls` was called before. */
export interface Transport {
  /** For the server. */
  readonly tls: TlsContexts | null
  connect(port: number, options: ClientOptions): Socket
}

export interface ClientOptions {
  allowHalfOpen?: boolean
  localAddress?: string
}

let transport: Transport = {
  tls: null,
  connect: (port, options) => connect({ port, host: '127.0.0.1', noDelay: true, ...options }),
}

export function currentTransport(): Transport {
  return transport
}

/** From now on everything goes over TLS. */
export function useTls(): void {
  const ca = makeCertificateAuthority()
  const tls = {
    standard: createSecureContext(ca.issue({ names: ['127.0.0.1'] })),
    contextFor: () => null,
  }
  transport = {
    tls,
    connect(port, options) {
      const raw = connect({ port, host: '127.0.0.1', noDelay: true, ...options })
      const socket = connectTls({ socket: raw, host: '127.0.0.1', ca: ca.cert, ...options })
      raw.on('error', error => socket.destroy(error))
      socket.resetAndDestroy = () => {
        raw.resetAndDestroy()
        return socket.destroy()
      }
      return socket
    },
  }
}

/** A client socket that keeps what it was sent. */
export class RawClient {
  readonly socket: Socket
  text = ''
  hasEnded = false
  error: NodeJS.ErrnoException | null = null
  readonly closed: Promise<void>

  constructor(port: number, options: ClientOptions = {}) {
    this.socket = transport.connect(port, options)
    this.socket.setEncoding('latin1')
    this.socket.on('data', (text: string) => {
      this.text += text
    })
    this.socket.on('end', () => {
      this.hasEnded = true
    })
    this.socket.on('error', error => {
      this.error = error
    })
    this.closed = new Promise(resolve => this.socket.on('close', () => resolve()))
  }

  write(text: string): this {
    this.socket.write(text, 'latin1')
    return this
  }

  /** Resolves with the text so far once `pattern` is in it. */
  async see(pattern: string | RegExp, withinMs = 5000): Promise<string> {
    await until(
      () => (typeof pattern === 'string' ? this.text.includes(pattern) : pattern.test(this.text)),
      withinMs,
      () => `${pattern} in ${JSON.stringify(this.text.slice(0, 500))}`,
    )
    return this.text
  }

  /** Everything that came until the server closed. */
  async all(): Promise<string> {
    await this.closed
    return this.text
  }
}

/** Everything that one upstream attempt told its sink. */
export class Recorder implements UpstreamSink {
  status = 0
  headers: string[] = []
  length: number | null = null
  isBodyless = false
  heads = 0
  readonly chunks: Buffer[] = []
  ends = 0
  fault: UpstreamFault | null = null
  faults = 0
  readonly done: Promise<void>
  readonly #finish: () => void

  constructor() {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.done = promise
    this.#finish = resolve
  }

  get body(): string {
    return Buffer.concat(this.chunks).toString('latin1')
  }

  onHead(status: number, headers: string[], length: number | null, isBodyless: boolean): void {
    this.heads++
    this.status = status
    this.headers = headers
    this.length = length
    this.isBodyless = isBodyless
  }

  onBytes(chunk: Buffer): void {
    this.chunks.push(Buffer.from(chunk))
  }

  onEnd(): void {
    this.ends++
    this.#finish()
  }

  onFault(fault: UpstreamFault): void {
    this.faults++
    this.fault = fault
    this.#finish()
  }
}

/** A request body that a test pushes by hand. */
export class HandSource implements BodySource {
  readonly length: number | null
  sink: BodySink | null = null
  isPaused = false
  pauses = 0
  onResume: (() => void) | null = null
  readonly started: Promise<BodySink>
  readonly #start: (sink: BodySink) => void

  constructor(length: number | null) {
    this.length = length
    const { promise, resolve } = Promise.withResolvers<BodySink>()
    this.started = promise
    this.#start = resolve
  }

  start(sink: BodySink): void {
    this.sink = sink
    this.#start(sink)
  }

  pause(): void {
    this.isPaused = true
    this.pauses++
  }

  resume(): void {
    this.isPaused = false
    this.onResume?.()
  }
}

/** Polls until `condition` holds; fails loudly after `withinMs`. */
export async function until(
  condition: () => boolean,
  withinMs = 5000,
  what: () => string = () => condition.toString(),
): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what()}`)
    await new Promise(resolve => setTimeout(resolve, 2))
  }
}

/** Reads a whole request body of an exchange. */
export function readBody(source: BodySource): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    source.start({
      onBodyBytes: chunk => void chunks.push(Buffer.from(chunk)),
      onBodyEnd: () => resolve(Buffer.concat(chunks)),
      onBodyError: reject,
    })
  })
}

/** What a socket has received, taken message part by message part; null once it has closed. */
export class Inbox {
  isClosed = false
  #bytes: Buffer = Buffer.alloc(0)
  #wake = () => {}

  constructor(socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk])
      this.#wake()
    })
    socket.on('close', () => {
      this.isClosed = true
      this.#wake()
    })
  }

  async takeHead(): Promise<string | null> {
    const head = await this.#take(() => {
      const at = this.#bytes.indexOf('\r\n\r\n')
      return at < 0 ? null : { end: at + 4, value: this.#bytes.toString('latin1', 0, at) }
    })
    // Interim answers are nobody's answer.
    return head !== null && /^HTTP\/1\.1 1\d\d /.test(head) ? this.takeHead() : head
  }

  takeBody(fields: Map<string, string>): Promise<Buffer | null> {
    if (fields.get('transfer-encoding') === 'chunked') return this.#take(() => dechunk(this.#bytes))
    const length = Number(fields.get('content-length') ?? 0)
    return this.#take(() =>
      this.#bytes.length < length
        ? null
        : { end: length, value: Buffer.from(this.#bytes.subarray(0, length)) },
    )
  }

  async #take<T>(find: () => { end: number; value: T } | null): Promise<T | null> {
    for (;;) {
      const found = find()
      if (found !== null) {
        this.#bytes = this.#bytes.subarray(found.end)
        return found.value
      }
      if (this.isClosed) return null
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
  }
}

/** The body at the start of `bytes` and where its framing ends; null: more must come. Throws if it is none of ours. */
export function dechunk(bytes: Buffer): { end: number; value: Buffer } | null {
  const parts: Buffer[] = []
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at)
    if (lineEnd < 0) return null
    const line = bytes.toString('latin1', at, lineEnd)
    if (!/^[0-9a-f]+$/.test(line)) throw new Error(`no chunk size: ${line.slice(0, 100)}`)
    const size = Number.parseInt(line, 16)
    if (bytes.length < lineEnd + 2 + size + 2) return null
    if (size === 0) return { end: lineEnd + 4, value: Buffer.concat(parts) }
    parts.push(bytes.subarray(lineEnd + 2, lineEnd + 2 + size))
    at = lineEnd + 2 + size + 2
  }
}

/** Numbers from 0 to below 1, the same for the same seed (Mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
