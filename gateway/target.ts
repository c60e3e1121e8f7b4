import { Fault } from '../registry/lib/errors.ts'

/** What a character of a path may do. */
const PLAIN = 1
const SLASH = 2
const PERCENT = 3

/**
 * RFC 3986 section 3.3: unreserved, sub-delims, ':' and '@'. Without ';', for which servers disagree
 * whether it ends a segment, and with '.' looked at when its segment is complete.
 */
const PATH_CHARS = (() => {
  const table = new Uint8Array(128)
  const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,=:@"
  for (const char of plain) table[char.charCodeAt(0)] = PLAIN
  table[0x2f] = SLASH
  table[0x25] = PERCENT
  return table
})()

const UNRESERVED = /[A-Za-z0-9\-._~]/
const HEX_PAIR = /^[0-9A-Fa-f]{2}$/

/**
 * The one form of a target that decides route, authentication and what is forwarded. Nothing is
 * rewritten: a target that is not canonical already is refused, so that the gateway and an app that
 * normalises differently can never see two different paths (HARDENING A.4).
 *
 * @param rawTarget origin-form, or absolute-form whose authority equals `host` (RFC 9112 section 3.2)
 * @returns the target in origin-form, query included
 * @throws Fault TARGET_INVALID
 */
export function canonicalTarget(rawTarget: string, host: string | null): string {
  const target = rawTarget.charCodeAt(0) === 0x2f ? rawTarget : fromAbsoluteForm(rawTarget, host)
  const length = target.length
  let segmentStart = 1
  let i = 1
  for (; i < length; i++) {
    const code = target.charCodeAt(i)
    if (code === 0x3f /* ? */) break
    const kind = code < 128 ? PATH_CHARS[code] : 0
    if (kind === PLAIN) continue
    if (kind === SLASH) {
      checkSegment(target, segmentStart, i, false)
      segmentStart = i + 1
    } else if (kind === PERCENT) {
      checkEncoded(target, i)
      i += 2
    } else throw invalid('a forbidden character in the path')
  }
  checkSegment(target, segmentStart, i, true)
  for (; i < length; i++) {
    const code = target.charCodeAt(i)
    if (code <= 0x20 || code >= 0x7f || code === 0x23 /* # */) {
      throw invalid('a forbidden character in the query')
    }
  }
  return target
}

/** `target` without its query. */
export function pathOf(target: string): string {
  const query = target.indexOf('?')
  return query === -1 ? target : target.slice(0, query)
}

function checkSegment(target: string, start: number, end: number, isLast: boolean): void {
  const length = end - start
  if (length === 0 && !isLast) throw invalid('an empty path segment')
  if (target.charCodeAt(start) !== 0x2e || length > 2) return
  if (length === 1 || (length === 2 && target.charCodeAt(start + 1) === 0x2e)) {
    throw invalid('a dot segment')
  }
}

function checkEncoded(target: string, at: number): void {
  const pair = target.slice(at + 1, at + 3)
  if (!HEX_PAIR.test(pair)) throw invalid('a malformed percent-encoding')
  const code = Number.parseInt(pair, 16)
  if (code < 0x20 || code === 0x7f) throw invalid('an encoded control character')
  const char = String.fromCharCode(code)
  // '/', '\' and ';' would change the path once decoded; an unreserved character must not be encoded
  // (RFC 3986 section 2.3), for '%61uth' and 'auth' would be two routes here and one behind us.
  if (char === '/' || char === '\\' || char === ';' || UNRESERVED.test(char)) {
    throw invalid('an encoding that is not canonical')
  }
  // A second decoding behind us would turn %252f into a slash.
  if (char === '%' && HEX_PAIR.test(target.slice(at + 3, at + 5))) throw invalid('double encoding')
}

function fromAbsoluteForm(rawTarget: string, host: string | null): string {
  const match = /^https?:\/\/([^/?#]+)(\/.*)?$/i.exec(rawTarget)
  if (match === null) throw invalid('neither origin-form nor absolute-form')
  if (host === null || (match[1] as string).toLowerCase() !== host.toLowerCase()) {
    throw invalid('the authority of the target differs from Host')
  }
  return match[2] ?? '/'
}

function invalid(reason: string): Fault {
  return new Fault('TARGET_INVALID', reason)
}
