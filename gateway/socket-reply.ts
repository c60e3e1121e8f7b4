import { STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Reply, ReplyListener } from './exchange.ts'

/** After the answer the peer has this long to close, then it is cut. */
const LINGER_MS = 1000

/** A whole answer written straight to a socket, which is closed after it: refused handshakes and heads. */
export class SocketReply implements Reply {
  readonly #socket: Duplex
  readonly #standingFields: string
  listener: ReplyListener | null = null
  #isSent = false

  /** @param standingFields rendered lines that the connection adds */
  constructor(socket: Duplex, standingFields = '') {
    this.#socket = socket
    this.#standingFields = standingFields
    socket.on('close', () => {
      const { listener } = this
      this.listener = null
      if (!this.#isSent) listener?.onReplyGone()
    })
  }

  get isHeadSent(): boolean {
    return this.#isSent
  }

  get isDone(): boolean {
    return this.#isSent || this.#socket.destroyed
  }

  send(status: number, headers: readonly string[], body: Buffer | string): void {
    if (this.isDone) return
    this.#isSent = true
    const bytes = Buffer.from(body)
    const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`]
    for (let i = 0; i < headers.length; i += 2) lines.push(`${headers[i]}: ${headers[i + 1]}`)
    lines.push(`date: ${new Date().toUTCString()}`)
    // RFC 9110 section 8.6.
    if (status !== 204) lines.push(`content-length: ${bytes.length}`)
    lines.push('connection: close')
    const fields = `${lines.join('\r\n')}\r\n${this.#standingFields}`
    const head = Buffer.from(`${fields}\r\n`, 'latin1')
    this.#socket.end(Buffer.concat([head, bytes]))
    const timer = setTimeout(() => this.#socket.destroy(), LINGER_MS)
    timer.unref()
    this.#socket.once('close', () => clearTimeout(timer))
  }

  writeHead(): void {
    throw new Error('a refusal has no streamed answer')
  }

  write(): boolean {
    throw new Error('a refusal has no streamed answer')
  }

  end(): void {
    this.#socket.end()
  }

  abort(): void {
    this.#socket.destroy()
  }
}
