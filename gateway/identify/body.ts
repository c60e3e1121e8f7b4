import { Fault } from '../../registry/lib/errors.ts'
import type { BodySource } from '../exchange.ts'

/**
 * The whole of a small body.
 *
 * @throws Fault BODY_TOO_LARGE as soon as it is known, REQUEST_TIMEOUT past the deadline
 */
export function readBody(
  source: BodySource | null,
  bytesMax: number,
  deadlineMs: number,
): Promise<Buffer> {
  if (source === null) return Promise.resolve(Buffer.alloc(0))
  if (source.length !== null && source.length > bytesMax) {
    return Promise.reject(new Fault('BODY_TOO_LARGE', `${source.length} bytes declared`))
  }
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    let isSettled = false
    const settle = (act: () => void) => {
      if (isSettled) return
      isSettled = true
      clearTimeout(timer)
      act()
    }
    const timer = setTimeout(() => {
      settle(() => reject(new Fault('REQUEST_TIMEOUT', 'the body did not arrive in time')))
    }, deadlineMs)
    source.start({
      onBodyBytes(chunk) {
        if (isSettled) return
        bytes += chunk.length
        if (bytes <= bytesMax) chunks.push(Buffer.from(chunk))
        else settle(() => reject(new Fault('BODY_TOO_LARGE', `over ${bytesMax} bytes`)))
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

const DEPTH_MAX = 32
/** All members of all objects together (CVE-2026-21717: integer-like keys can flood a hash table). */
const MEMBERS_MAX = 1000

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
  // JSON is UTF-8 (RFC 8259 section 8.1); another charset would be read differently behind us.
  if (parameters.some(p => /^\s*charset\s*=/i.test(p) && !/=\s*"?utf-?8"?\s*$/i.test(p))) {
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

function jsonFields(text: string, names: readonly string[]): Map<string, unknown> {
  refuseHostileJson(text, names)
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    throw new Fault('BODY_INVALID', 'not JSON')
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new Fault('BODY_INVALID', 'not a JSON object')
  }
  const fields = new Map<string, unknown>()
  for (const name of names) {
    if (Object.hasOwn(parsed, name)) fields.set(name, (parsed as Record<string, unknown>)[name])
  }
  return fields
}

/**
 * Walks the text once before JSON.parse: bounds its depth and members, and refuses a second member of
 * a name that decides the tenant, for parsers disagree which one counts (RFC 8259 section 4).
 */
function refuseHostileJson(text: string, names: readonly string[]): void {
  const seen = new Set<string>()
  let depth = 0
  let members = 0
  for (let i = 0; i < text.length; i++) {
    const char = text[i]
    if (char === '{' || char === '[') {
      if (++depth > DEPTH_MAX) throw new Fault('BODY_INVALID', 'nested too deep')
    } else if (char === '}' || char === ']') depth--
    else if (char === ':') {
      if (++members > MEMBERS_MAX) throw new Fault('BODY_INVALID', 'too many members')
    } else if (char === '"') {
      const end = endOfString(text, i)
      if (depth === 1 && isMemberName(text, end)) {
        const name = memberName(text.slice(i, end + 1))
        if (names.includes(name) && seen.has(name)) {
          throw new Fault('BODY_INVALID', `duplicate member ${name}`)
        }
        seen.add(name)
      }
      i = end
    }
  }
}

function endOfString(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === '\\') i++
    else if (text[i] === '"') return i
  }
  throw new Fault('BODY_INVALID', 'not JSON')
}

function isMemberName(text: string, endOfName: number): boolean {
  for (let i = endOfName + 1; i < text.length; i++) {
    const char = text[i]
    if (char === ':') return true
    if (char !== ' ' && char !== '\t' && char !== '\n' && char !== '\r') return false
  }
  return false
}

/** Decodes escapes, so that `"tenant\u005fkey"` is seen as what it is. */
function memberName(quoted: string): string {
  try {
    return JSON.parse(quoted) as string
  } catch {
    throw new Fault('BODY_INVALID', 'not JSON')
  }
}

function formFields(text: string, names: readonly string[]): Map<string, unknown> {
  const fields = new Map<string, unknown>()
  let members = 0
  for (const [name, value] of new URLSearchParams(text)) {
    if (++members > MEMBERS_MAX) throw new Fault('BODY_INVALID', 'too many members')
    // Bracket forms (`tenant_key[]`) become the same field in common parsers.
    const base = name.split('[', 1)[0] as string
    if (!names.includes(base)) continue
    if (base !== name || fields.has(name)) throw new Fault('BODY_INVALID', `duplicate ${base}`)
    fields.set(name, value)
  }
  return fields
}

function decodeUtf8(body: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body)
  } catch {
    throw new Fault('BODY_INVALID', 'not UTF-8')
  }
}
