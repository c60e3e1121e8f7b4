import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import type { BodySink, BodySource } from '../exchange.ts'
import type { UpstreamFault, UpstreamSink } from '../upstream/client.ts'

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

/** A client socket that keeps what it was sent. */
export class RawClient {
  readonly socket: Socket
  text = ''
  hasEnded = false
  error: NodeJS.ErrnoException | null = null
  readonly closed: Promise<void>

  constructor(port: number, options: { allowHalfOpen?: boolean; localAddress?: string } = {}) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true, ...options })
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
