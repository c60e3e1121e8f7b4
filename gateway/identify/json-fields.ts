import { Fault } from '../../registry/lib/errors.ts'

const DEPTH_MAX = 32
/** All members of all objects together (CVE-2026-21717: integer-like keys can flood a hash table). */
const MEMBERS_MAX = 1000

/**
 * The named members of a JSON object; absent ones are missing from the result.
 *
 * @throws Fault BODY_INVALID
 */
export function jsonFields(text: string, names: readonly string[]): Map<string, unknown> {
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
 * a name that decides the tenant, for parsers disagree which one counts (RFC 8259 section 4). Another
 * spelling of it is a second one too: Go's encoding/json folds case, the Kelvin sign and long s included.
 */
function refuseHostileJson(text: string, names: readonly string[]): void {
  const wanted = new Map(names.map(name => [folded(name), name]))
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
        const plain = wanted.get(folded(name))
        if (plain !== undefined) {
          if (plain !== name || seen.has(name)) throw new Fault('BODY_INVALID', `two of ${plain}`)
          seen.add(name)
        }
      }
      i = end
    }
  }
}

function folded(name: string): string {
  return name.toUpperCase().toLowerCase()
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
