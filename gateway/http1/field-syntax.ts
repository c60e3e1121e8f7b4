/**
 * The grammar of what goes into a message head. Heads are rendered as one latin1 string, so a code
 * unit above 0xFF would be cut to its low byte (U+010A becomes LF): such a head is refused as a whole.
 */

/** RFC 9110 section 5.6.2. */
export const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/** A code unit that latin1 would cut to its low byte. */
const WIDE = /[\u0100-\uffff]/

/** Names come in few spellings: a look-up is cheaper than the pattern. */
const TOKENS_MAX = 4096
const TOKEN_CHARS_MAX = 64
const tokens = new Set<string>()

export function isToken(name: string): boolean {
  if (tokens.has(name)) return true
  if (!TOKEN.test(name)) return false
  if (tokens.size < TOKENS_MAX && name.length <= TOKEN_CHARS_MAX) tokens.add(name)
  return true
}

/**
 * True where a value would leave its line (RFC 9110 section 5.5: CR, LF, NUL). Three searches for one
 * byte cost a quarter of a pattern that looks at each byte of a context of a kilobyte.
 */
export function breaksLine(value: string): boolean {
  return value.indexOf('\n') !== -1 || value.indexOf('\r') !== -1 || value.indexOf('\0') !== -1
}

/** True where a rendered head cannot be written as latin1. */
export function isWide(head: string): boolean {
  return WIDE.test(head)
}

/** A byte that no request target may hold on the wire. */
export const NOT_TARGET = /[^\x21-\x7e]/
