import { Fault } from '../../registry/lib/errors.ts'

const MEMBERS_MAX = 1000

/**
 * The named fields of an urlencoded form; absent ones are missing from the result.
 *
 * Parsers agree on little here, so what any of them could read as one of `names` beside the plain name
 * is refused: a second one, brackets and dots (`tenant_key[]`, `[tenant_key]`: qs, Rack), blanks and dots
 * that become underscores (`tenant.key`: PHP), and a semicolon that separates (CVE-2021-23336).
 *
 * @throws Fault BODY_INVALID
 */
export function formFields(text: string, names: readonly string[]): Map<string, unknown> {
  const fields = new Map<string, unknown>()
  for (const [name, value] of pairsOf(text)) {
    const plain = names.find(wanted => isRead(name, wanted))
    if (plain === undefined) continue
    if (plain !== name || fields.has(name)) throw new Fault('BODY_INVALID', `two of ${plain}`)
    fields.set(name, value)
  }
  if (text.includes(';')) refuseHidden(text, names, fields.size)
  return fields
}

function pairsOf(text: string): URLSearchParams {
  // Counted before they are read: each costs an entry.
  let members = 1
  for (let at = text.indexOf('&'); at !== -1; at = text.indexOf('&', at + 1)) {
    if (++members > MEMBERS_MAX) throw new Fault('BODY_INVALID', 'too many members')
  }
  return new URLSearchParams(text)
}

/** Whether some parser reads `name` as `wanted`. */
function isRead(name: string, wanted: string): boolean {
  if (name === wanted) return true
  // A NUL ends a name to parsers in C.
  const bare = name.trim().split('\0', 1)[0] as string
  const outer = bare.split(/[[\].]/).find(part => part !== '')
  return outer === wanted || bare.replace(/[ .[]/g, '_') === wanted
}

function refuseHidden(text: string, names: readonly string[], found: number): void {
  let read = 0
  for (const [name] of pairsOf(text.replaceAll(';', '&'))) {
    if (names.some(wanted => isRead(name, wanted))) read++
  }
  if (read > found) throw new Fault('BODY_INVALID', 'a field behind a semicolon')
}
