import type { Llhttp, MessageParser, ParseResult } from './server-llhttp.ts'
import { type HeadRefusal, type RequestHead, readRequestHead } from './server-request-head.ts'

const TOO_LARGE: HeadRefusal = { status: 431, reason: 'head too large' }
const BAD_VERSION: HeadRefusal = { status: 505, reason: 'malformed head' }
const MALFORMED: HeadRefusal = { status: 400, reason: 'malformed head' }

/**
 * Takes the messages of one connection apart, however they are split over reads. It has a parser from the
 * first byte of a message to the last that one is needed for: the end of its head, or of its chunks.
 */
export class MessageReader {
  readonly #llhttp: Llhttp
  readonly #headBytesMax: number
  #parser: MessageParser | null = null
  /** The head's bytes of earlier reads. */
  #buffer: Buffer | null = null
  /** Of the head under way. */
  headBytes = 0
  /** Where the last read of bytes ended. */
  at = 0

  constructor(llhttp: Llhttp, headBytesMax: number) {
    this.#llhttp = llhttp
    this.#headBytesMax = headBytesMax
  }

  /** null: more bytes are needed. */
  readHead(bytes: Buffer, start: number, end: number): RequestHead | HeadRefusal | null {
    this.#parser ??= this.#llhttp.borrow()
    const parser = this.#parser
    const room = this.#headBytesMax - this.headBytes
    const result = this.#llhttp.execute(parser, bytes, start, Math.min(end, start + room))
    const at = start + parser.consumed
    this.at = at
    if (result === 'head') {
      const text =
        this.#buffer === null
          ? bytes.toString('latin1', start, at)
          : this.#append(bytes, start, at).toString('latin1', 0, this.headBytes)
      this.#buffer = null
      this.headBytes = 0
      return readRequestHead(text, parser)
    }
    if (result === 'too-many-fields' || (result === 'more' && at - start === room)) return TOO_LARGE
    if (result !== 'more') return result === 'bad-version' ? BAD_VERSION : MALFORMED
    this.#append(bytes, start, at)
    return null
  }

  /** Reads of a chunked body, whose bytes are then in `takeChunk`. */
  readChunks(bytes: Buffer, start: number, end: number): ParseResult {
    const parser = this.#parser as MessageParser
    const result = this.#llhttp.execute(parser, bytes, start, end)
    this.at = start + parser.consumed
    return result
  }

  takeChunk(): Buffer | null {
    return (this.#parser as MessageParser).takeBody()
  }

  /** The message needs no parser any more. */
  giveBack(): void {
    if (this.#parser === null) return
    this.#llhttp.giveBack(this.#parser)
    this.#parser = null
  }

  /** Nothing more is read, in the midst of a message or not. */
  close(): void {
    this.giveBack()
    this.#buffer = null
    this.headBytes = 0
  }

  #append(bytes: Buffer, start: number, end: number): Buffer {
    const need = this.headBytes + end - start
    let buffer = this.#buffer
    if (buffer === null || buffer.length < need) {
      buffer = Buffer.allocUnsafe(Math.max(need, 1024, this.headBytes * 2))
      this.#buffer?.copy(buffer, 0, 0, this.headBytes)
      this.#buffer = buffer
    }
    bytes.copy(buffer, this.headBytes, start, end)
    this.headBytes = need
    return buffer
  }
}
