import { TOKEN } from './field-syntax.ts'
import type { MessageParser } from './server-llhttp.ts'

/** A request head as the connection needs it. */
export interface RequestHead {
  readonly method: string
  readonly target: string
  /** Name, value, … as received. */
  readonly rawHeaders: string[]
  readonly isHttp11: boolean
  readonly isKeepAlive: boolean
  /** Content-Length; 0 where there is no body. null: chunked. */
  readonly length: number | null
  readonly expectsContinue: boolean
  readonly isUpgrade: boolean
}

/** Why a head is not served. */
export interface HeadRefusal {
  readonly status: number
  readonly reason: string
}

/**
 * Reads the head that llhttp has accepted and marked, and refuses what strict peers and lax ones could
 * still see differently (RFC 9112 sections 3.2 and 6.3). The parser is a second opinion, not the only one:
 * the request line is compared with its canonical form, so that "GET / RTSP/1.0", which llhttp takes,
 * and blanks that it skips do not pass.
 *
 * @param text the message from its first byte to the end of the head, latin1
 */
export function readRequestHead(text: string, parser: MessageParser): RequestHead | HeadRefusal {
  // RFC 9112 section 2.2: one empty line before a request is forgiven.
  const lineStart = text.startsWith('\r\n') ? 2 : 0
  const { targetStart, targetEnd, marks, fieldCount } = parser
  const method = text.slice(lineStart, targetStart - 1)
  if (!TOKEN.test(method) || text[targetStart - 1] !== ' ') return bad('request line')
  const target = text.slice(targetStart, targetEnd)
  const isHttp11 = text.startsWith(' HTTP/1.1\r\n', targetEnd)
  if (!isHttp11 && !text.startsWith(' HTTP/1.0\r\n', targetEnd)) {
    return text.startsWith(' HTTP/', targetEnd)
      ? { status: 505, reason: 'HTTP version' }
      : bad('request line')
  }
  if (method === 'CONNECT') return bad('CONNECT')

  const rawHeaders: string[] = []
  let host: string | null = null
  let length: number | null = null
  let isChunked = false
  let hasAuthorization = false
  let expect: string | null = null
  let isKeepAlive = isHttp11
  for (let i = 0, mark = 0; i < fieldCount; i++, mark += 4) {
    const name = text.slice(marks[mark], marks[mark + 1])
    const value = trimEnd(text, marks[mark + 2] as number, marks[mark + 3] as number)
    rawHeaders.push(name, value)
    // The length tells all other names apart from these without lowering them.
    switch (name.length) {
      case 4:
        if (name.toLowerCase() === 'host') {
          // RFC 9112 section 3.2.
          if (host !== null) return bad('two Host fields')
          host = value
        }
        break
      case 6:
        if (name.toLowerCase() === 'expect')
          expect = expect === null ? value : `${expect}, ${value}`
        break
      case 10:
        if (name.toLowerCase() === 'connection') {
          const options = value.toLowerCase()
          if (hasOption(options, 'close')) isKeepAlive = false
          else if (!isHttp11 && hasOption(options, 'keep-alive')) isKeepAlive = true
        }
        break
      case 13:
        if (name.toLowerCase() === 'authorization') {
          // Not a list (RFC 9110 section 11.6.2): which one counts is each peer's choice.
          if (hasAuthorization) return bad('two Authorization fields')
          hasAuthorization = true
        }
        break
      case 14:
        if (name.toLowerCase() === 'content-length') {
          // RFC 9112 section 6.3: no second one, equal or not, and no list.
          if (length !== null || !LENGTH.test(value)) return bad('Content-Length')
          length = Number(value)
        }
        break
      case 17:
        if (name.toLowerCase() === 'transfer-encoding') {
          // RFC 9112 section 6.1. Nothing but chunked: what we cannot decode we cannot frame.
          if (isChunked || value.toLowerCase() !== 'chunked') return bad('Transfer-Encoding')
          isChunked = true
        }
        break
    }
  }
  // CL.TE and TE.CL (RFC 9112 section 6.1), and codings that HTTP/1.0 does not know.
  if (isChunked && (length !== null || !isHttp11)) return bad('Transfer-Encoding')
  if (host === null ? isHttp11 : !HOST.test(host)) return bad('Host')
  // HTTP/1.0 knows no expectations (RFC 9110 section 10.1.1).
  const expectsContinue = isHttp11 && expect !== null
  if (expectsContinue && !CONTINUES.test(expect as string)) {
    return { status: 417, reason: 'Expect' }
  }
  const hasBody = isChunked || (length ?? 0) > 0
  // Where it ends and the other protocol begins is read in two ways (RFC 9110 section 7.8).
  if (parser.isUpgrade && hasBody) return bad('an upgrade with a body')
  return {
    method,
    target,
    rawHeaders,
    isHttp11,
    isKeepAlive,
    length: isChunked ? null : (length ?? 0),
    expectsContinue: expectsContinue && hasBody,
    isUpgrade: parser.isUpgrade && isHttp11,
  }
}

export function isRefusal(head: RequestHead | HeadRefusal): head is HeadRefusal {
  return 'status' in head
}

/**
 * RFC 9110 section 8.6 allows zeros in front; a peer that takes 0200 for octal would see 128 bytes.
 * 15 digits are below 2^53.
 */
const LENGTH = /^(?:0|[1-9][0-9]{0,14})$/

/** Expect is a list (RFC 9110 section 10.1.1), and this its only member that exists. */
const CONTINUES = /^100-continue(?:[ \t]*,[ \t]*100-continue)*$/i

/**
 * uri-host [":" port] of RFC 9110 section 7.2: never empty (section 4.2.1), without user information
 * (section 4.2.4) and, stricter than RFC 3986 section 3.2.2, made of what names on a network are made
 * of: a comma would be a list to some, and quotes or '$' reach pages that print X-Forwarded-Host.
 */
const HOST = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~]+)(?::[0-9]{0,5})?$/

function bad(reason: string): HeadRefusal {
  return { status: 400, reason }
}

/** llhttp leaves blanks at the end of a value. */
function trimEnd(text: string, start: number, end: number): string {
  while (end > start) {
    const code = text.charCodeAt(end - 1)
    if (code !== 0x20 && code !== 0x09) break
    end--
  }
  return text.slice(start, end)
}

function hasOption(list: string, option: string): boolean {
  return list === option || list.split(',').some(part => part.trim() === option)
}
