/**
 * How `bytes` look where a program writes them: as text, in base64 at each of the three places where they
 * can begin in a longer value, in hex, percent-encoded, escaped as in JSON, and as Node shows a Buffer.
 */
export function spellingsOf(bytes: Buffer): ReadonlyMap<string, string> {
  const spellings = new Map<string, string>()
  const add = (name: string, text: string) => {
    if (![...spellings.values()].includes(text)) spellings.set(name, text)
  }
  const text = bytes.toString('utf8')
  const isText = Buffer.from(text).equals(bytes)
  if (isText) {
    add('plain', text)
    add('percent-encoded', encodeURIComponent(text))
    add('form-encoded', new URLSearchParams({ x: text }).toString().slice(2))
    add('as JSON', JSON.stringify(text).slice(1, -1))
    add('as JSON in JSON', JSON.stringify(JSON.stringify(text)).slice(3, -3))
  }
  for (const offset of [0, 1, 2]) {
    const core = base64Core(bytes, offset)
    add(`base64 from byte ${offset}`, core)
    add(`base64url from byte ${offset}`, core.replaceAll('+', '-').replaceAll('/', '_'))
  }
  const hex = bytes.toString('hex')
  const pairs = hex.match(/../g) ?? []
  add('hex', hex)
  add('hex in capitals', hex.toUpperCase())
  add('hex in pairs', pairs.join(' '))
  add('percent-encoded throughout', pairs.map(pair => `%${pair}`).join(''))
  add('percent-encoded in capitals', pairs.map(pair => `%${pair.toUpperCase()}`).join(''))
  add('numbers', [...bytes].join(','))
  return spellings
}

/** The characters that depend on `bytes` alone, where `offset` others stand before them in their group. */
function base64Core(bytes: Buffer, offset: number): string {
  const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64')
  const first = Math.ceil((offset * 8) / 6)
  const end = Math.floor(((offset + bytes.length) * 8) / 6)
  return text.slice(first, end)
}
