/** The head of an answer, as far as a proxy needs it. */
export interface ResponseHead {
  readonly status: number
  /** Name, value, … without hop-by-hop, framing and Date fields, which our own server makes. */
  readonly headers: string[]
  /** From Content-Length. */
  readonly length: number | null
  readonly isChunked: boolean
  readonly isKeepAlive: boolean
}

export const RESPONSE_HEAD_BYTES_MAX = 32 * 1024
export const RESPONSE_FIELDS_MAX = 200
/** 1xx answers before the final one; more is an upstream gone mad. */
export const INTERIM_MAX = 16

/**
 * Looks for the end of a head. It works through the bytes once, however they are split, and refuses
 * what makes two readers see two different heads: NUL and other controls, bare CR, bare LF, folded
 * lines, empty lines before the status line (RFC 9112 sections 2.2, 5.2, 11.1).
 */
export class HeadScanner {
  /** Where to go on. */
  #at = 0
  #lineStart = 0

  reset(): void {
    this.#at = 0
    this.#lineStart = 0
  }

  /**
   * @param bytes the head from its first byte; earlier calls saw a prefix of it
   * @returns length of the head with its empty line, 0: more bytes needed, -1: not a head
   */
  scan(bytes: Uint8Array, end: number): number {
    let at = this.#at
    let lineStart = this.#lineStart
    while (at < end) {
      const byte = bytes[at] as number
      if (byte > 0x1f) {
        if (byte === 0x7f || (byte === 0x20 && at === lineStart)) return -1
        at++
        continue
      }
      if (byte === 0x09 && at !== lineStart) {
        at++
        continue
      }
      if (byte !== 0x0d) return -1
      if (at + 1 === end) break
      if (bytes[at + 1] !== 0x0a) return -1
      if (at === lineStart) return lineStart === 0 ? -1 : at + 2
      at += 2
      lineStart = at
    }
    this.#at = at
    this.#lineStart = lineStart
    return 0
  }
}

/**
 * Reads a head that HeadScanner found, or says why it is refused. Whatever could be framed in two
 * ways is refused, for bytes taken for the next answer would go to another tenant's client.
 *
 * @param text the head in latin1, with its empty line
 */
export function parseResponseHead(text: string): ResponseHead | string {
  if (!text.startsWith('HTTP/1.')) return 'not an HTTP/1 answer'
  const minor = text.charCodeAt(7)
  if ((minor !== 0x30 && minor !== 0x31) || text.charCodeAt(8) !== 0x20) return 'bad version'
  const status = threeDigits(text, 9)
  const afterStatus = text.charCodeAt(12)
  // RFC 9110 section 15: a code outside of the five classes is invalid, and to be taken for a 5xx.
  if (status < 100 || status > 599) return 'bad status'
  if (afterStatus !== 0x20 && afterStatus !== 0x0d) return 'bad status line'
  const isHttp11 = minor === 0x31

  const headers: string[] = []
  let length: number | null = null
  let isChunked = false
  let isKeepAlive = isHttp11
  let listed: string[] | null = null
  let count = 0
  let lineStart = text.indexOf('\r\n', 12) + 2
  for (;;) {
    const lineEnd = text.indexOf('\r\n', lineStart)
    if (lineEnd === lineStart) break
    if (++count > RESPONSE_FIELDS_MAX) return 'too many fields'
    const colon = text.indexOf(':', lineStart)
    if (colon < 0 || colon > lineEnd) return 'a field without a colon'
    const name = text.slice(lineStart, colon)
    if (!isToken(text, lineStart, colon)) return 'bad field name'
    const value = trimmed(text, colon + 1, lineEnd)
    lineStart = lineEnd + 2
    const kind = SPECIAL_LENGTHS.has(name.length) ? SPECIAL.get(name.toLowerCase()) : undefined
    if (kind === undefined) {
      headers.push(name, value)
    } else if (kind === 'length') {
      const read = parseLength(value)
      if (read === null) return 'bad Content-Length'
      if (length !== null && length !== read) return 'two different Content-Length fields'
      length = read
    } else if (kind === 'coding') {
      if (isChunked || value.toLowerCase() !== 'chunked') return 'bad Transfer-Encoding'
      isChunked = true
    } else if (kind === 'connection') {
      for (const part of value.toLowerCase().split(',')) {
        const option = part.trim()
        if (option === 'close') isKeepAlive = false
        else if (option !== '' && option !== 'keep-alive') {
          listed ??= []
          listed.push(option)
        }
      }
    }
  }
  if (isChunked && length !== null) return 'Content-Length beside Transfer-Encoding'
  if (isChunked && !isHttp11) return 'Transfer-Encoding in HTTP/1.0'
  return {
    status,
    headers: listed === null ? headers : without(headers, listed),
    length,
    isChunked,
    isKeepAlive,
  }
}

/** Digits only: no sign, no list, no blank, nothing that loses precision as a number. */
function parseLength(value: string): number | null {
  if (value === '' || value.length > 15) return null
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if (code < 0x30 || code > 0x39) return null
  }
  return Number(value)
}

function threeDigits(text: string, at: number): number {
  let number = 0
  for (let i = at; i < at + 3; i++) {
    const code = text.charCodeAt(i)
    if (!(code >= 0x30 && code <= 0x39)) return -1
    number = number * 10 + code - 0x30
  }
  return number
}

function isToken(text: string, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (TOKEN_BYTES[text.charCodeAt(i)] !== 1) return false
  return end > start
}

const TOKEN_BYTES = new Uint8Array(256)
for (const char of "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
  TOKEN_BYTES[char.charCodeAt(0)] = 1
}

function trimmed(text: string, start: number, end: number): string {
  while (start < end && isBlank(text.charCodeAt(start))) start++
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--
  return text.slice(start, end)
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

function without(headers: string[], names: readonly string[]): string[] {
  const kept: string[] = []
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string
    if (!names.includes(name.toLowerCase())) kept.push(name, headers[i + 1] as string)
  }
  return kept
}

type Kind = 'length' | 'coding' | 'connection' | 'drop'

const SPECIAL = new Map<string, Kind>([
  ['content-length', 'length'],
  ['transfer-encoding', 'coding'],
  ['connection', 'connection'],
  ['keep-alive', 'drop'],
  ['proxy-connection', 'drop'],
  ['te', 'drop'],
  ['trailer', 'drop'],
  ['upgrade', 'drop'],
  ['date', 'drop'],
])
const SPECIAL_LENGTHS = new Set([...SPECIAL.keys()].map(name => name.length))
