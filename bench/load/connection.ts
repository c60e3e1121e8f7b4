import { connect, type Socket } from 'node:net'
import { AnswerReader } from './answer.ts'

/** One read buffer for all connections: every read is used up before the next callback runs. */
const READ_BUFFER = Buffer.allocUnsafe(256 * 1024)
const CONNECT_DEADLINE_MS = 10_000

export interface ConnectionEvents {
  onAnswer(connection: Connection, status: number): void
  /** The connection broke; nothing more comes of it. `message` is null for a close between answers. */
  onEnd(connection: Connection, message: string | null): void
}

/** A client connection with at most one request on its way. */
export class Connection {
  /** `performance.now()` of the (intended) start of the request on its way. */
  startedAt = 0
  readonly #socket: Socket
  readonly #reader = new AnswerReader()
  readonly #events: ConnectionEvents
  #isBusy = false
  #hasEnded = false

  /** @param source local address; '' leaves it to the system */
  constructor(port: number, source: string, events: ConnectionEvents, onOpen: () => void) {
    this.#events = events
    this.#socket = connect({
      host: '127.0.0.1',
      port,
      noDelay: true,
      ...(source === '' ? {} : { localAddress: source }),
      onread: { buffer: READ_BUFFER, callback: (bytes, buffer) => this.#read(bytes, buffer) },
    })
    this.#socket.setTimeout(CONNECT_DEADLINE_MS, () => this.#end('connect timed out'))
    this.#socket.once('connect', () => {
      this.#socket.setTimeout(0)
      onOpen()
    })
    this.#socket.on('error', error => this.#end(error.message))
    this.#socket.on('close', () => this.#end(this.#isBusy ? 'closed before the answer' : null))
  }

  /** The other side said that it closes after this answer. */
  get isLast(): boolean {
    return this.#reader.isLast
  }

  send(request: Buffer, startedAt: number): void {
    this.startedAt = startedAt
    this.#isBusy = true
    this.#socket.write(request)
  }

  close(): void {
    this.#hasEnded = true
    this.#socket.destroy()
  }

  #read(bytes: number, buffer: Uint8Array): boolean {
    try {
      if (!this.#isBusy) throw new Error('bytes without a request')
      if (this.#reader.push(buffer as Buffer, bytes)) {
        this.#isBusy = false
        this.#events.onAnswer(this, this.#reader.status)
      }
    } catch (error) {
      this.#end(error instanceof Error ? error.message : String(error))
    }
    return true
  }

  #end(message: string | null): void {
    if (this.#hasEnded) return
    this.close()
    this.#events.onEnd(this, message)
  }
}
