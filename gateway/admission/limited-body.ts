import { Fault } from '../../registry/lib/errors.ts'
import type { BodySink, BodySource } from '../exchange.ts'

/** A body without a declared length, cut off where it becomes longer than its tenant may send. */
export class LimitedBody implements BodySource, BodySink {
  readonly length = null
  readonly #source: BodySource
  readonly #bytesMax: number
  readonly #onRefused: () => void
  #sink: BodySink | null = null
  #bytes = 0

  /** @param onRefused it was longer */
  constructor(source: BodySource, bytesMax: number, onRefused: () => void) {
    this.#onRefused = onRefused
    this.#source = source
    this.#bytesMax = bytesMax
  }

  start(sink: BodySink): void {
    this.#sink = sink
    this.#source.start(this)
  }

  pause(): void {
    this.#source.pause()
  }

  resume(): void {
    this.#source.resume()
  }

  onBodyBytes(chunk: Buffer): void {
    const sink = this.#sink
    if (sink === null) return
    this.#bytes += chunk.length
    if (this.#bytes <= this.#bytesMax) return sink.onBodyBytes(chunk)
    this.#sink = null
    this.#onRefused()
    sink.onBodyError(bodyTooLarge(this.#bytesMax))
  }

  onBodyEnd(): void {
    this.#sink?.onBodyEnd()
  }

  onBodyError(error: Error): void {
    this.#sink?.onBodyError(error)
  }
}

export function bodyTooLarge(bytesMax: number): Fault {
  return new Fault('BODY_TOO_LARGE', `the tenant’s limit body_bytes: ${bytesMax}`)
}
