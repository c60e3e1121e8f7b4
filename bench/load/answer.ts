const HEAD_BYTES_MAX = 16_384
const LAST_CHUNK = Buffer.from('0\r\n\r\n', 'latin1')

/**
 * Reads one answer at a time with as little work as that takes: the status and where the answer ends.
 * Good for the bench's own upstream behind a proxy, whose bodies never hold a last chunk; no parser
 * for the open Internet.
 */
export class AnswerReader {
  status = 0
  /** The proxy said that it will close. */
  isLast = false
  #head = ''
  /** Bytes of the body still to come; -1: in the head; -2: chunked. */
  #remaining = -1
  readonly #tail = Buffer.alloc(LAST_CHUNK.length)

  /** @returns whether the answer is complete. @throws where bytes follow it, or the head is no head */
  push(buffer: Buffer, length: number): boolean {
    if (this.#remaining === -1) return this.#readHead(buffer, length)
    if (this.#remaining === -2) return this.#readChunked(buffer, 0, length)
    return this.#count(length)
  }

  #readHead(buffer: Buffer, length: number): boolean {
    const before = this.#head.length
    this.#head += buffer.toString('latin1', 0, Math.min(length, HEAD_BYTES_MAX))
    const end = this.#head.indexOf('\r\n\r\n')
    if (end === -1) {
      if (this.#head.length >= HEAD_BYTES_MAX) throw new Error('no end of the answer head')
      return false
    }
    const head = this.#head.slice(0, end + 2)
    this.#head = ''
    this.status = Number(head.slice(9, 12))
    this.isLast = /\r\nconnection: *close\r\n/i.test(head)
    const bodyAt = end + 4 - before
    const declared = /\r\ncontent-length: *(\d+)\r\n/i.exec(head)
    if (declared !== null) {
      this.#remaining = Number(declared[1])
      return this.#count(length - bodyAt)
    }
    if (!/\r\ntransfer-encoding: *chunked\r\n/i.test(head))
      throw new Error('answer without framing')
    this.#remaining = -2
    this.#tail.fill(0)
    return this.#readChunked(buffer, bodyAt, length)
  }

  #count(bytes: number): boolean {
    this.#remaining -= bytes
    if (this.#remaining > 0) return false
    if (this.#remaining < 0) throw new Error('bytes after the answer')
    this.#remaining = -1
    return true
  }

  #readChunked(buffer: Buffer, from: number, to: number): boolean {
    const bytes = Math.min(to - from, this.#tail.length)
    this.#tail.copyWithin(0, bytes)
    buffer.copy(this.#tail, this.#tail.length - bytes, to - bytes, to)
    if (!this.#tail.equals(LAST_CHUNK)) return false
    this.#remaining = -1
    return true
  }
}
