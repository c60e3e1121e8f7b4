/** Takes the pieces of a chunked body out of its framing. */
export type ChunkedResult = 'more' | 'end' | 'bad'

/** Size line with extensions, and the whole trailer section: both are dropped, so both are small. */
const SIZE_LINE_BYTES_MAX = 4096
const TRAILER_BYTES_MAX = 32 * 1024
/** 13 hex digits are below 2^52. */
const SIZE_DIGITS_MAX = 13

type State = 'size' | 'extension' | 'size-lf' | 'data' | 'data-cr' | 'data-lf' | Trailer
type Trailer = 'line' | 'field' | 'field-lf' | 'end-lf'

/**
 * A strict decoder (RFC 9112 section 7.1): CR LF only, digits only, nothing lenient. It works on bytes
 * split anywhere and allocates nothing.
 */
export class ChunkedDecoder {
  #state: State = 'size'
  #left = 0
  #digits = 0
  #lineBytes = 0
  /** After `end` and `bad`: how many bytes of the input belong to the body's framing. */
  consumed = 0

  reset(): void {
    this.#state = 'size'
    this.#left = 0
    this.#digits = 0
    this.#lineBytes = 0
  }

  /**
   * Decodes `bytes[start, end)` into `out`, which may be the same memory: output never overtakes input.
   *
   * @returns how the input ended; `written` says how many bytes went to `out`
   */
  decode(bytes: Uint8Array, start: number, end: number, out: Uint8Array): ChunkedResult {
    this.written = 0
    let at = start
    while (at < end) {
      if (this.#state === 'data') {
        const take = Math.min(this.#left, end - at)
        out.set(bytes.subarray(at, at + take), this.written)
        this.written += take
        this.#left -= take
        at += take
        if (this.#left === 0) this.#state = 'data-cr'
        continue
      }
      const result = this.#frame(bytes[at] as number)
      at++
      if (result !== 'more') {
        this.consumed = at - start
        return result
      }
    }
    return 'more'
  }

  /** Bytes that the last `decode` wrote. */
  written = 0

  #frame(byte: number): ChunkedResult {
    switch (this.#state) {
      case 'size':
        return this.#size(byte)
      case 'extension':
        if (byte === CR) this.#state = 'size-lf'
        else if (isControl(byte) || ++this.#lineBytes > SIZE_LINE_BYTES_MAX) return 'bad'
        return 'more'
      case 'size-lf':
        if (byte !== LF) return 'bad'
        this.#state = this.#left === 0 ? 'line' : 'data'
        this.#digits = 0
        this.#lineBytes = 0
        return 'more'
      case 'data-cr':
        this.#state = 'data-lf'
        return byte === CR ? 'more' : 'bad'
      case 'data-lf':
        this.#state = 'size'
        return byte === LF ? 'more' : 'bad'
      case 'line':
        if (byte === CR) this.#state = 'end-lf'
        else if (byte === SP || isControl(byte)) return 'bad'
        else this.#state = 'field'
        return ++this.#lineBytes > TRAILER_BYTES_MAX ? 'bad' : 'more'
      case 'field':
        if (byte === CR) this.#state = 'field-lf'
        else if (isControl(byte) && byte !== TAB) return 'bad'
        return ++this.#lineBytes > TRAILER_BYTES_MAX ? 'bad' : 'more'
      case 'field-lf':
        this.#state = 'line'
        return byte === LF ? 'more' : 'bad'
      default:
        return byte === LF ? 'end' : 'bad'
    }
  }

  #size(byte: number): ChunkedResult {
    const digit = hexDigit(byte)
    if (digit >= 0) {
      if (++this.#digits > SIZE_DIGITS_MAX) return 'bad'
      this.#left = this.#left * 16 + digit
      return 'more'
    }
    if (this.#digits === 0) return 'bad'
    if (byte === CR) this.#state = 'size-lf'
    else if (byte === SEMICOLON) this.#state = 'extension'
    else return 'bad'
    return 'more'
  }
}

const CR = 0x0d
const LF = 0x0a
const SP = 0x20
const TAB = 0x09
const SEMICOLON = 0x3b

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const lower = byte | 0x20
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1
}

function isControl(byte: number): boolean {
  return byte < 0x20 || byte === 0x7f
}
