import { createRequire } from 'node:module'

/** What went on while one piece of input was worked off. */
export type ParseResult = 'more' | 'head' | 'end' | 'too-many-fields' | 'bad-version' | 'bad'

/** Offsets kept per field: name start and end, value start and end. */
const MARKS = 4
const INPUT_BYTES = 64 * 1024

/** Framing (size lines, extensions, trailers) between two pieces of a chunked body; Node allows 16 KiB too. */
const CHUNK_FRAMING_BYTES_MAX = 16 * 1024

// Codes of llhttp (its constants.js).
const TYPE_REQUEST = 1
const ERROR_INVALID_VERSION = 9
const ERROR_PAUSED = 21
const ERROR_H2_PREFACE = 23
const ERROR_USER = 24
/** Well-formed, and none that llhttp knows. */
const UNKNOWN_VERSION = 'Invalid HTTP version'

type Callbacks = Record<string, (parser: number, at: number, bytes: number) => number>

/** The part of the WebAssembly interface used here; lib.dom has it, which a server does not load. */
interface WebAssemblyApi {
  readonly Module: new (bytes: Uint8Array) => object
  readonly Instance: new (module: object, imports: { env: Callbacks }) => { exports: object }
  validate(bytes: Uint8Array): boolean
}
const { WebAssembly } = globalThis as unknown as { WebAssembly: WebAssemblyApi }

interface LlhttpExports {
  readonly memory: { readonly buffer: ArrayBuffer }
  _initialize(): void
  malloc(bytes: number): number
  llhttp_alloc(type: number): number
  llhttp_reset(parser: number): void
  llhttp_resume(parser: number): void
  llhttp_execute(parser: number, data: number, bytes: number): number
  llhttp_get_error_pos(parser: number): number
  llhttp_get_error_reason(parser: number): number
}

/**
 * llhttp, the parser of Node itself, in the WebAssembly build that undici ships, with every leniency
 * off. One instance serves all connections; a connection borrows a parser only while a head or a
 * chunked body is under way, so idle connections hold none and a busy server runs on a warm one.
 *
 * The callbacks only note offsets: nothing of ours runs inside the parser, so it is never re-entered.
 */
export class Llhttp {
  readonly #wasm: LlhttpExports
  readonly #input: number
  #memory: Uint8Array
  readonly #free: MessageParser[] = []
  readonly #fieldsMax: number
  #current: MessageParser | null = null

  constructor(fieldsMax: number) {
    this.#fieldsMax = fieldsMax
    const instance = new WebAssembly.Instance(new WebAssembly.Module(wasmBytes()), {
      env: this.#callbacks(),
    })
    this.#wasm = instance.exports as unknown as LlhttpExports
    this.#wasm._initialize()
    this.#input = this.#wasm.malloc(INPUT_BYTES)
    this.#memory = new Uint8Array(this.#wasm.memory.buffer)
  }

  /** A parser at the start of a message. Give it back when the message is over, come what may. */
  borrow(): MessageParser {
    const parser =
      this.#free.pop() ??
      new MessageParser(this.#wasm.llhttp_alloc(TYPE_REQUEST), this.#fieldsMax * MARKS)
    this.#wasm.llhttp_reset(parser.pointer)
    parser.reset()
    return parser
  }

  giveBack(parser: MessageParser): void {
    parser.source = null
    this.#free.push(parser)
  }

  /**
   * Works off `bytes[start, end)`, at most 64 KiB. `parser.consumed` says how many were taken: all,
   * unless the head or the message ended. Body bytes stand in `parser.takeBody()` afterwards.
   */
  execute(parser: MessageParser, bytes: Buffer, start: number, end: number): ParseResult {
    const wasm = this.#wasm
    const length = Math.min(end - start, INPUT_BYTES)
    // Memory that grew (a new parser) leaves the old view detached.
    if (this.#memory.buffer !== wasm.memory.buffer)
      this.#memory = new Uint8Array(wasm.memory.buffer)
    this.#memory.set(bytes.subarray(start, start + length), this.#input)
    this.#current = parser
    parser.source = bytes
    parser.sourceStart = start
    parser.sourceEnd = start + length
    parser.bodyEnd = 0
    const code = wasm.llhttp_execute(parser.pointer, this.#input, length)
    this.#current = null
    parser.source = null
    if (code === 0) {
      parser.consumed = length
      parser.seen += length
      parser.framingBytes += length - parser.bodyEnd
      return parser.framingBytes > CHUNK_FRAMING_BYTES_MAX && parser.isHeadDone ? 'bad' : 'more'
    }
    if (code !== ERROR_PAUSED) {
      if (parser.hasTooManyFields) return 'too-many-fields'
      if (code === ERROR_H2_PREFACE) return 'bad-version'
      const isUnknownVersion =
        code === ERROR_INVALID_VERSION && this.#reason(parser) === UNKNOWN_VERSION
      return isUnknownVersion ? 'bad-version' : 'bad'
    }
    parser.consumed = wasm.llhttp_get_error_pos(parser.pointer) - this.#input
    parser.seen += parser.consumed
    wasm.llhttp_resume(parser.pointer)
    if (parser.isMessageDone) {
      const framing = parser.framingBytes + parser.consumed - parser.bodyEnd
      return framing > CHUNK_FRAMING_BYTES_MAX ? 'bad' : 'end'
    }
    parser.framingBytes = 0
    return 'head'
  }

  /** Why it failed: its codes call a line end that is not CR LF and "HTTP/01.01" an invalid version too. */
  #reason({ pointer }: MessageParser): string {
    const start = this.#wasm.llhttp_get_error_reason(pointer)
    const bytes = Buffer.from(this.#wasm.memory.buffer)
    return bytes.toString('latin1', start, bytes.indexOf(0, start))
  }

  #callbacks(): Callbacks {
    return {
      wasm_on_message_begin: () => 0,
      wasm_on_status: () => 0,
      wasm_on_url: (_, at, bytes) => {
        const parser = this.#current as MessageParser
        const start = parser.seen + at - this.#input
        if (parser.targetEnd === 0) parser.targetStart = start
        parser.targetEnd = start + bytes
        return 0
      },
      wasm_on_header_field: (_, at, bytes) => {
        const parser = this.#current as MessageParser
        if (parser.isHeadDone) return 0
        const start = parser.seen + at - this.#input
        if (!parser.isInName) {
          if (parser.fieldCount === this.#fieldsMax) {
            parser.hasTooManyFields = true
            return ERROR_USER
          }
          parser.isInName = true
          parser.marks[parser.fieldCount++ * MARKS] = start
        }
        parser.marks[parser.fieldCount * MARKS - 3] = start + bytes
        return 0
      },
      wasm_on_header_value: (_, at, bytes) => {
        const parser = this.#current as MessageParser
        if (parser.isHeadDone) return 0
        const start = parser.seen + at - this.#input
        if (parser.isInName) {
          parser.isInName = false
          parser.marks[parser.fieldCount * MARKS - 2] = start
        }
        parser.marks[parser.fieldCount * MARKS - 1] = start + bytes
        return 0
      },
      wasm_on_headers_complete: (_, _status, upgrade) => {
        const parser = this.#current as MessageParser
        parser.isHeadDone = true
        parser.isUpgrade = upgrade === 1
        return ERROR_PAUSED
      },
      wasm_on_body: (_, at, bytes) => {
        const parser = this.#current as MessageParser
        return parser.addBody(at - this.#input, bytes) ? 0 : ERROR_USER
      },
      wasm_on_message_complete: () => {
        ;(this.#current as MessageParser).isMessageDone = true
        return ERROR_PAUSED
      },
    }
  }
}

/** The state of one message under way. Fields are written by Llhttp alone. */
export class MessageParser {
  readonly pointer: number
  /** Offsets into the message, MARKS per field. */
  readonly marks: Uint32Array
  fieldCount = 0
  targetStart = 0
  targetEnd = 0
  isUpgrade = false
  isInName = false
  isHeadDone = false
  isMessageDone = false
  hasTooManyFields = false
  /** Bytes of the message taken by earlier calls. */
  seen = 0
  /** Bytes that the last call took. */
  consumed = 0
  /** Bytes since the last piece of the body. */
  framingBytes = 0
  source: Buffer | null = null
  sourceStart = 0
  sourceEnd = 0
  /** Where, within the input, the last piece of the body ended. */
  bodyEnd = 0
  #body: Buffer | null = null
  #bodyBytes = 0

  constructor(pointer: number, marks: number) {
    this.pointer = pointer
    this.marks = new Uint32Array(marks)
  }

  reset(): void {
    this.fieldCount = 0
    this.targetStart = 0
    this.targetEnd = 0
    this.isUpgrade = false
    this.isInName = false
    this.isHeadDone = false
    this.isMessageDone = false
    this.hasTooManyFields = false
    this.seen = 0
    this.consumed = 0
    this.framingBytes = 0
    this.#body = null
    this.#bodyBytes = 0
  }

  /** All pieces of one read are gathered in one buffer, however small the client's chunks are. */
  addBody(at: number, bytes: number): boolean {
    this.framingBytes += at - this.bodyEnd
    if (this.framingBytes > CHUNK_FRAMING_BYTES_MAX) return false
    this.framingBytes = 0
    this.bodyEnd = at + bytes
    const source = this.source as Buffer
    const start = this.sourceStart + at
    this.#body ??= Buffer.allocUnsafe(this.sourceEnd - start)
    source.copy(this.#body, this.#bodyBytes, start, start + bytes)
    this.#bodyBytes += bytes
    return true
  }

  /** The body bytes of the last call, owned by the caller, or null. */
  takeBody(): Buffer | null {
    const body = this.#body
    if (body === null) return null
    this.#body = null
    const bytes = this.#bodyBytes
    this.#bodyBytes = 0
    return body.subarray(0, bytes)
  }
}

function wasmBytes(): Uint8Array {
  // Not part of undici's documented interface: package.json pins its exact version, the tests cover
  // every export used, and a build without SIMD stands in where the processor has none.
  const require = createRequire(import.meta.url)
  const simd = require('undici/lib/llhttp/llhttp_simd-wasm.js')
  return WebAssembly.validate(simd) ? simd : require('undici/lib/llhttp/llhttp-wasm.js')
}
