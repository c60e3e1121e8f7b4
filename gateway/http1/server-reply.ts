import type { Socket } from 'node:net'
import type { Reply, ReplyListener } from '../exchange.ts'
import type { ServerConnection } from './server-connection.ts'
import { type ReplyFraming, renderReplyHead } from './server-reply-head.ts'

/** Up to here a first piece of the body waits for the end of the tick: it may be all of it. */
const COMBINE_BYTES_MAX = 16 * 1024

/**
 * The answer to one request. The head waits for the first body bytes, at most until the end of the
 * tick, since a system call costs more than everything else that happens to an answer.
 */
export class ServerReply implements Reply {
  readonly #connection: ServerConnection
  readonly #socket: Socket
  readonly #isHttp11: boolean
  isHeadSent = false
  isDone = false
  listener: ReplyListener | null = null
  #framing: ReplyFraming = 'no-length'
  #isBodyless = false
  #sent = 0
  #heldHead: string | null = null
  #heldChunk: Buffer | null = null
  #isWaiting = false

  constructor(connection: ServerConnection, socket: Socket, isHttp11: boolean) {
    this.#connection = connection
    this.#socket = socket
    this.#isHttp11 = isHttp11
  }

  send(status: number, headers: readonly string[], body: Buffer | string): void {
    if (this.isDone || this.isHeadSent) return
    const isWithoutBody = status === 204 || status === 304 || this.#connection.isHeadRequest
    const bytes = typeof body === 'string' ? Buffer.byteLength(body) : body.length
    const isAscii = typeof body === 'string' && bytes === body.length
    // The length that a GET would have got is right for HEAD; 204 has none, and 304's is not ours to know.
    const framing = status === 204 || status === 304 ? 'no-length' : bytes
    const head = this.#render(status, headers, framing, true)
    if (head === null) return
    this.isHeadSent = true
    if (isWithoutBody || bytes === 0) this.#put(head, null, '')
    else if (isAscii) this.#put(head, null, body as string)
    else this.#put(head, typeof body === 'string' ? Buffer.from(body) : body, '')
    this.#finish()
  }

  writeHead(
    status: number,
    headers: readonly string[],
    length: number | null,
    isBodyless: boolean,
  ): void {
    if (this.isDone || this.isHeadSent) return
    this.#isBodyless =
      isBodyless || status === 204 || status === 304 || this.#connection.isHeadRequest
    if (status === 204) this.#framing = 'no-length'
    else if (length !== null) this.#framing = length
    else if (this.#isBodyless) this.#framing = 'no-length'
    else this.#framing = this.#isHttp11 ? 'chunked' : 'until-close'
    if (this.#framing === 'until-close') this.#connection.closeAfterReply()
    const head = this.#render(status, headers, this.#framing, false)
    if (head === null) return
    this.isHeadSent = true
    this.#heldHead = head
    process.nextTick(flushReply, this)
  }

  write(chunk: Buffer): boolean {
    if (this.isDone || !this.isHeadSent || this.#isBodyless || chunk.length === 0) return true
    this.#sent += chunk.length
    if (typeof this.#framing === 'number' && this.#sent > this.#framing) {
      this.abort()
      return true
    }
    if (this.#heldHead !== null && this.#heldChunk === null) {
      this.#heldChunk = chunk
      if (chunk.length <= COMBINE_BYTES_MAX) return true
      this.flush()
    } else {
      this.flush()
      this.#frame('', chunk, '')
    }
    return this.#hasRoom()
  }

  end(): void {
    if (this.isDone || !this.isHeadSent) return
    if (typeof this.#framing === 'number' && !this.#isBodyless && this.#sent !== this.#framing) {
      this.abort()
      return
    }
    const last = this.#framing === 'chunked' ? '0\r\n\r\n' : ''
    const head = this.#heldHead
    if (head !== null) {
      const chunk = this.#heldChunk
      this.#heldHead = null
      this.#heldChunk = null
      this.#frame(head, chunk, last)
    } else if (last !== '') {
      this.#socket.write(last, 'latin1')
    }
    this.#finish()
  }

  abort(): void {
    if (this.isDone) return
    this.isDone = true
    this.#connection.reset()
  }

  /** Writes what is held back. */
  flush(): void {
    const head = this.#heldHead
    if (head === null || this.isDone) return
    const chunk = this.#heldChunk
    this.#heldHead = null
    this.#heldChunk = null
    this.#frame(head, chunk, '')
  }

  /** The client leaves a full socket unread: WRITE_STALL_TIMEOUT_MS runs. */
  get isStalled(): boolean {
    return this.#isWaiting
  }

  /** The socket has room again. */
  drained(): void {
    if (!this.#isWaiting) return
    this.#isWaiting = false
    this.listener?.onReplyDrain()
  }

  /** The client left. */
  gone(): void {
    if (this.isDone) return
    this.isDone = true
    const { listener } = this
    this.listener = null
    listener?.onReplyGone()
  }

  #render(
    status: number,
    headers: readonly string[],
    framing: ReplyFraming,
    isWhole: boolean,
  ): string | null {
    const connection = this.#connection.connectionField(isWhole)
    const { standingFields } = this.#connection
    const date = this.#connection.date()
    const head = renderReplyHead(status, headers, framing, connection, date, standingFields)
    // A field that cannot be written is our own defect; the client sees an abort, nobody sees a split.
    if (head === null) this.#connection.defect('an answer field that may not be sent')
    return head
  }

  #frame(prefix: string, chunk: Buffer | null, suffix: string): void {
    if (chunk !== null && this.#framing === 'chunked') {
      this.#put(`${prefix}${chunk.length.toString(16)}\r\n`, chunk, `\r\n${suffix}`)
    } else {
      this.#put(prefix, chunk, suffix)
    }
  }

  #put(prefix: string, chunk: Buffer | null, suffix: string): void {
    const socket = this.#socket
    if (chunk === null) {
      socket.write(suffix === '' ? prefix : prefix + suffix, 'latin1')
    } else {
      this.#connection.writeCopy(prefix, chunk, suffix)
    }
  }

  #hasRoom(): boolean {
    const socket = this.#socket
    if (socket.writableLength < socket.writableHighWaterMark) {
      this.#connection.onWriteProgress()
      return true
    }
    this.#isWaiting = true
    this.#connection.onWriteStall()
    return false
  }

  #finish(): void {
    this.isDone = true
    this.listener = null
    this.#connection.onReplyDone()
  }
}

function flushReply(reply: ServerReply): void {
  reply.flush()
}
