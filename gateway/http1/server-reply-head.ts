import { STATUS_CODES } from 'node:http'
import { breaksLine, isToken, isWide } from './field-syntax.ts'

/** How the bytes after the head are framed. `no-length`: no framing field at all (204, 1xx). */
export type ReplyFraming = number | 'chunked' | 'until-close' | 'no-length'

/**
 * The head of an answer as one latin1 string, or null where a field would break out of its line.
 *
 * @param connection value of the Connection field; null: none
 * @param date value of the Date field
 * @param standing rendered lines that the connection adds; a field of theirs wins over one in `headers`
 */
export function renderReplyHead(
  status: number,
  headers: readonly string[],
  framing: ReplyFraming,
  connection: 'close' | 'keep-alive' | null,
  date: string,
  standing = '',
): string | null {
  let head = STATUS_LINES.get(status) ?? statusLine(status)
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string
    const value = headers[i + 1] as string
    if (!isToken(name) || breaksLine(value)) return null
    if (standing !== '' && isSaidBy(standing, name)) continue
    head += `${name}: ${value}\r\n`
  }
  head += `date: ${date}\r\n`
  if (framing === 'chunked') head += 'transfer-encoding: chunked\r\n'
  else if (typeof framing === 'number') head += `content-length: ${framing}\r\n`
  head += standing
  head += connection === null ? '\r\n' : `connection: ${connection}\r\n\r\n`
  return isWide(head) ? null : head
}

/** `standing` begins with the field's name and holds no other. */
function isSaidBy(standing: string, name: string): boolean {
  return standing[name.length] === ':' && standing.startsWith(name.toLowerCase())
}

/** Strict-Transport-Security (RFC 6797) as a line, or nothing where `maxAgeS` is 0. */
export function transportSecurity(maxAgeS: number): string {
  return maxAgeS === 0 ? '' : `strict-transport-security: max-age=${maxAgeS}\r\n`
}

const STATUS_LINES = new Map(
  Object.keys(STATUS_CODES).map(status => [Number(status), statusLine(Number(status))]),
)

function statusLine(status: number): string {
  return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`
}

/** The Date of all answers within one second. */
export class DateClock {
  #second = 0
  #text = ''

  now(): string {
    const nowMs = Date.now()
    const second = Math.floor(nowMs / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#text = new Date(nowMs).toUTCString()
    }
    return this.#text
  }
}
