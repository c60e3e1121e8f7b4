import { Needles } from './needles.ts'
import { spellingsOf } from './spellings.ts'

/**
 * Who may see a secret: nobody (keys, passwords of databases and buckets), or the client that it belongs to,
 * in the body of a good answer (its token in the answer to a login, its own file).
 */
export type Audience = 'nobody' | 'its client'

/** What was searched: all but the body of a good answer is read by others than the client. */
export type Place = 'output' | 'good body'

export interface Leak {
  readonly secret: string
  readonly spelling: string
  readonly where: string
  /** What stands before it; the secret itself is not shown again. */
  readonly before: string
}

/** Shorter ones would be found where they are not meant. */
const SECRET_CHARS_MIN = 12
const CHARS_MAX = 256 * 1024 * 1024
const BEFORE_CHARS = 80

/**
 * Collects the secrets of a test's world and all that its processes wrote and answered, and searches the
 * one in the other in every common spelling.
 */
export class LeakWatch {
  readonly #secrets = new Map<string, Secret>()
  readonly #texts: { where: string; text: string; place: Place }[] = []
  readonly #bodiesSeen = new Set<string>()
  #chars = 0

  /** @param value too short a text is left out; bytes are looked for in all spellings but their own */
  plant(name: string, value: string | Buffer | undefined, audience: Audience = 'nobody'): void {
    if (value === undefined || value.length < SECRET_CHARS_MIN) return
    const key = `${typeof value}:${Buffer.from(value as string).toString('latin1')}`
    // What nobody may see stays so, though a client sends it.
    if (this.#secrets.get(key)?.audience === 'nobody') return
    this.#secrets.set(key, { name, audience, bytes: Buffer.from(value as string) })
  }

  /** A token's signature stands for it: without it a token is worth nothing. */
  plantToken(name: string, token: unknown): void {
    if (typeof token !== 'string') return
    this.plant(name, token.slice(token.lastIndexOf('.') + 1), 'its client')
  }

  note(where: string, text: string, place: Place = 'output'): void {
    if (text === '') return
    if (place === 'good body') {
      if (this.#bodiesSeen.has(text)) return
      this.#bodiesSeen.add(text)
    }
    this.#chars += text.length
    if (this.#chars > CHARS_MAX) throw new Error('more output than a leak watch holds')
    this.#texts.push({ where, text, place })
  }

  get counts(): { readonly secrets: number; readonly texts: number; readonly chars: number } {
    return { secrets: this.#secrets.size, texts: this.#texts.length, chars: this.#chars }
  }

  /** One leak for each secret and place. */
  findLeaks(): Leak[] {
    return [
      ...findIn(this.#join('output'), [...this.#secrets.values()]),
      ...findIn(
        this.#join('good body'),
        [...this.#secrets.values()].filter(({ audience }) => audience === 'nobody'),
      ),
    ]
  }

  #join(place: Place): Haystack {
    const parts = this.#texts.filter(text => text.place === place)
    return { parts, text: parts.map(({ text }) => text).join('\n') }
  }
}

interface Secret {
  readonly name: string
  readonly audience: Audience
  readonly bytes: Buffer
}

interface Haystack {
  readonly parts: readonly { readonly where: string; readonly text: string }[]
  readonly text: string
}

function findIn({ parts, text }: Haystack, secrets: readonly Secret[]): Leak[] {
  const needles = secrets.flatMap(secret =>
    [...spellingsOf(secret.bytes)].map(([spelling, needle]) => {
      return [needle, { secret, spelling }] as const
    }),
  )
  if (needles.length === 0) return []
  const leaks = new Map<Secret, Leak>()
  for (const { at, value } of new Needles(needles).find(text)) {
    const { secret, spelling } = value
    if (leaks.has(secret)) continue
    let end = 0
    const part = parts.find(({ text: { length } }) => {
      end += length + 1
      return at < end
    })
    const before = text.slice(Math.max(0, at - BEFORE_CHARS), at)
    leaks.set(secret, { secret: secret.name, spelling, where: part?.where ?? '', before })
  }
  return [...leaks.values()]
}
