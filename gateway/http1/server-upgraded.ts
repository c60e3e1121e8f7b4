import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { resetSocket } from '../../registry/lib/reset-socket.ts'

/**
 * What an upgraded connection looks like to those who read streams (http-proxy). The raw socket reads
 * into the engine's buffer and emits no data events, so its bytes are passed on by `feed`.
 */
export class UpgradedSocket extends Duplex {
  readonly #socket: Socket

  constructor(socket: Socket) {
    super({ allowHalfOpen: true })
    this.#socket = socket
    // Without a listener a reset would end the process; those who need to know listen for 'close'.
    this.on('error', () => {})
  }

  get remoteAddress(): string | undefined {
    return this.#socket.remoteAddress
  }

  get remotePort(): number | undefined {
    return this.#socket.remotePort
  }

  get bytesRead(): number {
    return this.#socket.bytesRead
  }

  get bytesWritten(): number {
    return this.#socket.bytesWritten
  }

  setTimeout(ms: number): this {
    this.#socket.setTimeout(ms)
    return this
  }

  setNoDelay(on?: boolean): this {
    this.#socket.setNoDelay(on)
    return this
  }

  setKeepAlive(on?: boolean, delayMs?: number): this {
    this.#socket.setKeepAlive(on, delayMs)
    return this
  }

  ref(): this {
    this.#socket.ref()
    return this
  }

  unref(): this {
    this.#socket.unref()
    return this
  }

  destroySoon(): void {
    this.end(() => this.destroy())
  }

  resetAndDestroy(): void {
    resetSocket(this.#socket)
    this.destroy()
  }

  /** Bytes from the peer, copied: the read buffer is used again. */
  feed(bytes: Buffer): void {
    if (!this.push(Buffer.from(bytes))) this.#socket.pause()
  }

  override _read(): void {
    this.#socket.resume()
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done)
  }

  override _writev(
    chunks: { chunk: Buffer; encoding: BufferEncoding }[],
    done: (error?: Error | null) => void,
  ): void {
    const last = chunks.length - 1
    this.#socket.cork()
    chunks.forEach(({ chunk }, i) => {
      if (i === last) this.#socket.write(chunk, done)
      else this.#socket.write(chunk)
    })
    this.#socket.uncork()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(done)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy()
    done(error)
  }
}
