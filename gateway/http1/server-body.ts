import type { BodySink, BodySource, Exchange } from '../exchange.ts'
import { BodyRate } from './server-body-rate.ts'
import type { ServerConnection } from './server-connection.ts'
import type { MessageReader } from './server-message-reader.ts'

/** A request body on its way from the connection to its one consumer. */
export class RequestBody implements BodySource {
  readonly length: number | null
  /** Set once its head has become an exchange; counts `bytesIn`. */
  exchange: Exchange | null = null
  readonly #connection: ServerConnection
  #sink: BodySink | null = null
  #isPaused = false
  /** Bytes to come; unknown (Infinity) for a chunked body. */
  left: number
  readonly rate = new BodyRate()
  /** Its last byte has been taken. */
  isEnded = false
  isComplete = false
  /** The consumer is gone or never came: what still arrives is dropped. */
  isDropped = false
  /** Its framing is lost or it stalled: nothing behind it can be read. */
  isBroken = false

  constructor(connection: ServerConnection, length: number | null) {
    this.#connection = connection
    this.length = length
    this.left = length ?? Number.POSITIVE_INFINITY
  }

  get isStarted(): boolean {
    return this.#sink !== null
  }

  /** Whether bytes may come now. */
  get isFlowing(): boolean {
    return this.isDropped || (this.#sink !== null && !this.#isPaused)
  }

  start(sink: BodySink): void {
    if (this.#sink !== null) throw new Error('a request body has one consumer')
    this.#sink = sink
    if (!this.isDropped) this.#connection.onBodyFlow(this, true)
  }

  pause(): void {
    if (this.#isPaused) return
    this.#isPaused = true
    if (!this.isDropped) this.#connection.onBodyPause(this)
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    if (!this.isDropped && this.#sink !== null) this.#connection.onBodyFlow(this, false)
  }

  /**
   * Takes what is its own of `bytes` and delivers it.
   *
   * @returns where the rest begins; negative: the framing is broken
   */
  take(bytes: Buffer, start: number, end: number, reader: MessageReader): number {
    if (this.length !== null) {
      const at = Math.min(end, start + this.left)
      this.left -= at - start
      this.isEnded = this.left === 0
      if (!this.isDropped) this.#deliver(bytes.subarray(start, at))
      return at
    }
    const result = reader.readChunks(bytes, start, end)
    const { at } = reader
    const chunk = reader.takeChunk()
    this.isEnded = result === 'end'
    if (chunk !== null && !this.isDropped) this.#deliver(chunk)
    return result === 'end' || result === 'more' ? at : -1
  }

  #deliver(chunk: Buffer): void {
    if (this.exchange !== null) this.exchange.bytesIn += chunk.length
    this.#sink?.onBodyBytes(chunk)
  }

  complete(): void {
    this.isComplete = true
    if (!this.isDropped) this.#sink?.onBodyEnd()
  }

  /** It will never be complete. */
  fail(error: Error): void {
    if (this.isComplete || this.isDropped) return
    this.isDropped = true
    this.isBroken = true
    this.#sink?.onBodyError(error)
  }
}
