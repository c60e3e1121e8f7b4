import { Fault } from '../../registry/lib/errors.ts'
import type { BodySource } from '../exchange.ts'
import { formFields } from './form-fields.ts'
import { jsonFields } from './json-fields.ts'

/** Up to here a body is read whatever others hold: a login has some hundred bytes. */
export const SMALL_BODY_BYTES = 4096
/** What all bodies on their way may hold beyond that, together: senders can hold them back at the last byte. */
export const AWAITED_BYTES_MAX = 64 * 1024 * 1024

/** What is held of bodies on their way, each beyond its first `SMALL_BODY_BYTES`. */
export interface AwaitedBytes {
  bytes: number
}

/**
 * The whole of a small body.
 *
 * @throws Fault BODY_TOO_LARGE as soon as it is known, REQUEST_TIMEOUT past the deadline, OVERLOADED where
 * `awaited` is used up
 */
export function readBody(
  source: BodySource | null,
  bytesMax: number,
  deadlineMs: number,
  awaited: AwaitedBytes,
): Promise<Buffer> {
  if (source === null) return Promise.resolve(Buffer.alloc(0))
  if (source.length !== null && source.length > bytesMax) {
    return Promise.reject(new Fault('BODY_TOO_LARGE', `${source.length} bytes declared`))
  }
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    let isSettled = false
    let taken = 0
    const settle = (act: () => void) => {
      if (isSettled) return
      isSettled = true
      clearTimeout(timer)
      awaited.bytes -= taken
      act()
    }
    const timer = setTimeout(() => {
      settle(() => reject(new Fault('REQUEST_TIMEOUT', 'the body did not arrive in time')))
    }, deadlineMs)
    source.start({
      onBodyBytes(chunk) {
        if (isSettled) return
        bytes += chunk.length
        if (bytes > bytesMax) {
          return settle(() => reject(new Fault('BODY_TOO_LARGE', `over ${bytesMax} bytes`)))
        }
        const more = Math.max(0, bytes - SMALL_BODY_BYTES) - taken
        if (more > 0 && awaited.bytes + more > AWAITED_BYTES_MAX) {
          return settle(() => reject(new Fault('OVERLOADED', 'too many large bodies on their way')))
        }
        taken += more
        awaited.bytes += more
        chunks.push(Buffer.from(chunk))
      },
      onBodyEnd() {
        settle(() => resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)))
      },
      onBodyError(error) {
        settle(() => reject(new Fault('BAD_REQUEST', 'the body broke off', { cause: error })))
      },
    })
  })
}

/**
 * The named text fields of a JSON or urlencoded body; absent ones are missing from the result.
 *
 * @throws Fault BODY_TYPE_UNSUPPORTED, BODY_INVALID
 */
export function readFields(
  body: Buffer,
  contentType: string | null,
  contentEncoding: string | null,
  names: readonly string[],
): Map<string, unknown> {
  if (body.length === 0) return new Map()
  if (contentEncoding !== null && contentEncoding.toLowerCase() !== 'identity') {
    throw new Fault('BODY_TYPE_UNSUPPORTED', 'encoded body')
  }
  const [mediaType = '', ...parameters] = (contentType ?? '').split(';')
  // JSON is UTF-8 (RFC 8259 section 8.1); another charset would be read differently behind us, one by
  // charset*= (RFC 8187) included.
  if (
    parameters.some(p => /^\s*charset/i.test(p) && !/^\s*charset\s*=\s*"?utf-?8"?\s*$/i.test(p))
  ) {
    throw new Fault('BODY_TYPE_UNSUPPORTED', 'charset is not UTF-8')
  }
  switch (mediaType.trim().toLowerCase()) {
    case 'application/json':
      return jsonFields(decodeUtf8(body), names)
    case 'application/x-www-form-urlencoded':
      return formFields(decodeUtf8(body), names)
    default:
      throw new Fault('BODY_TYPE_UNSUPPORTED', 'neither JSON nor urlencoded')
  }
}

function decodeUtf8(body: Buffer): string {
  // Some parsers take it away and some do not (RFC 8259 section 8.1): no name begins with it.
  if (body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf) {
    throw new Fault('BODY_INVALID', 'a byte order mark')
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body)
  } catch {
    throw new Fault('BODY_INVALID', 'not UTF-8')
  }
}
