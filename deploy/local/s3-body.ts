import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { pipeline, type Readable, Transform, type TransformCallback } from 'node:stream'
import { crc32 } from 'node:zlib'

const LINE_BYTES_MAX = 4096
const CR_LF = '\r\n'

/**
 * The payload of a signed request: checked against the hash in the signature, or taken out of the
 * `aws-chunked` coding, as the SDK sends a stream whose hash it learns only at the end.
 * Null for a coding that is not known. The returned stream fails where the payload is not whole.
 */
export function openBody(req: IncomingMessage): Readable | null {
  const hash = String(req.headers['x-amz-content-sha256'] ?? '')
  if (hash === 'UNSIGNED-PAYLOAD') return req
  if (/^[0-9a-f]{64}$/.test(hash)) return through(req, new HashCheck(hash))
  if (hash !== 'STREAMING-UNSIGNED-PAYLOAD-TRAILER') return null
  return through(req, new AwsChunked(Number(req.headers['x-amz-decoded-content-length'])))
}

function through(req: IncomingMessage, transform: Transform): Readable {
  // An error reaches the reader of `transform`; nothing is left to do about it here.
  return pipeline(req, transform, () => {})
}

class HashCheck extends Transform {
  readonly #hash = createHash('sha256')
  readonly #expected: string

  constructor(expected: string) {
    super()
    this.#expected = expected
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#hash.update(chunk)
    done(null, chunk)
  }

  override _flush(done: TransformCallback): void {
    const isSame = this.#hash.digest('hex') === this.#expected
    done(isSame ? null : new Error('The payload does not match x-amz-content-sha256'))
  }
}

/**
 * Decodes `<hex size>\r\n<data>\r\n … 0\r\n<trailer>: <value>\r\n\r\n` and checks length and CRC32.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
 */
class AwsChunked extends Transform {
  readonly #length: number
  #state: 'size' | 'data' | 'after' | 'trailer' | 'end' = 'size'
  #line = ''
  #left = 0
  #seen = 0
  #crc = 0

  constructor(length: number) {
    super()
    this.#length = length
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    try {
      let at = 0
      while (at < chunk.length) {
        at = this.#state === 'data' ? this.#readData(chunk, at) : this.#readLine(chunk, at)
      }
      done()
    } catch (error) {
      done(error as Error)
    }
  }

  override _flush(done: TransformCallback): void {
    const isWhole = this.#state === 'end' && this.#seen === this.#length
    done(isWhole ? null : new Error('The aws-chunked payload is not whole'))
  }

  #readData(chunk: Buffer, at: number): number {
    const data = chunk.subarray(at, at + this.#left)
    this.#left -= data.length
    this.#seen += data.length
    this.#crc = crc32(data, this.#crc)
    this.push(data)
    if (this.#left === 0) this.#state = 'after'
    return at + data.length
  }

  #readLine(chunk: Buffer, at: number): number {
    const end = chunk.indexOf(0x0a, at)
    const stop = end === -1 ? chunk.length : end + 1
    this.#line += chunk.toString('latin1', at, stop)
    if (this.#line.length > LINE_BYTES_MAX) throw new Error('An aws-chunked line is too long')
    if (end !== -1) {
      if (!this.#line.endsWith(CR_LF)) throw new Error('An aws-chunked line does not end in CR LF')
      const line = this.#line.slice(0, -CR_LF.length)
      this.#line = ''
      this.#takeLine(line)
    }
    return stop
  }

  #takeLine(line: string): void {
    if (this.#state === 'after' && line === '') this.#state = 'size'
    else if (this.#state === 'size') {
      const [, size] = /^([0-9a-fA-F]{1,12})(?:;.*)?$/.exec(line) ?? []
      if (size === undefined) throw new Error('An aws-chunked size is not valid')
      this.#left = Number.parseInt(size, 16)
      this.#state = this.#left === 0 ? 'trailer' : 'data'
    } else if (this.#state === 'trailer') {
      if (line === '') this.#state = 'end'
      else this.#takeTrailer(line)
    } else throw new Error('The aws-chunked payload goes on after its end')
  }

  #takeTrailer(line: string): void {
    const [name = '', value = ''] = line.split(':', 2)
    if (name.toLowerCase() !== 'x-amz-checksum-crc32') return
    const have = Buffer.alloc(4)
    have.writeUInt32BE(this.#crc)
    if (have.toString('base64') !== value.trim()) throw new Error('The CRC32 does not match')
  }
}
