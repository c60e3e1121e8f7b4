import { crc32 } from 'node:zlib'
import {
  USAGE_COLUMNS,
  type UsageBatch,
  type UsageColumn,
  type UsageCounter,
  type UsageDayCounts,
} from '../../registry/usage-batch.ts'

/**
 * A journal's file is text: a line each, `checksum payload`, the checksum being the CRC-32 of the payload in hex.
 * The first line is its head. Then, by the number that a tenant and day got in this file:
 *
 *     t 0 TENANT DATE        tenant and day number 0
 *     + 0 1=1 8=120          column 1 grew by 1, column 8 by 120 (`USAGE_COLUMNS`)
 *     u 0 4711 "user"        a user that is named, with its mark
 *     s 0 4711               a mark of the sketch
 *     c 0 emails 3           a counter of the app's
 *
 * A line that was cut short, or whose checksum is wrong, counts nothing; those after it do.
 */
export interface JournalHead {
  readonly version: 1
  readonly instance: string
  readonly sequence: number
  readonly host: string
  readonly pid: number
  /** Where that number means something, see `pidSpace`; null: on the whole host. */
  readonly pidSpace: string | null
  readonly openedAtMs: number
  /** It begins with what batch `restOf` left out. While the file of that one is there and not final, this is void. */
  readonly restOf: number | null
  /** True: it holds its batch and nothing that the next file holds too. */
  readonly isFinal: boolean
}

export type UsageParts = Pick<UsageBatch, 'days' | 'users' | 'sketches' | 'counters'>

const CHECKSUM_CHARS = 8

/** A line with its checksum and line end. `payload` holds no line end. */
export function journalLine(payload: string): string {
  return `${crc32(payload).toString(16).padStart(CHECKSUM_CHARS, '0')} ${payload}\n`
}

/** A whole file. */
export function journalText(head: JournalHead, parts: UsageParts): string {
  const lines = [journalLine(JSON.stringify(head))]
  const numbers = new Map<string, number>()
  const numberOf = ({ tenant_id, date }: { tenant_id: string; date: string }) => {
    const key = `${tenant_id} ${date}`
    const known = numbers.get(key)
    if (known !== undefined) return known
    const number = numbers.size
    numbers.set(key, number)
    lines.push(journalLine(`t ${number} ${key}`))
    return number
  }
  for (const day of parts.days) {
    const grown = USAGE_COLUMNS.flatMap((name, i) => (day[name] ? [` ${i}=${day[name]}`] : []))
    const number = numberOf(day)
    if (grown.length > 0) lines.push(journalLine(`+ ${number}${grown.join('')}`))
  }
  for (const user of parts.users) {
    lines.push(journalLine(`u ${numberOf(user)} ${user.user_mark} ${JSON.stringify(user.user_id)}`))
  }
  for (const sketch of parts.sketches) {
    for (const mark of sketch.marks) lines.push(journalLine(`s ${numberOf(sketch)} ${mark}`))
  }
  for (const counter of parts.counters) {
    lines.push(journalLine(`c ${numberOf(counter)} ${counter.name} ${counter.value}`))
  }
  return lines.join('')
}

export interface JournalFile {
  readonly head: JournalHead
  readonly parts: UsageParts
  /** Lines that were torn or damaged. */
  readonly damaged: number
}

/** What a file holds; null: not even its head can be read. */
export function readJournal(text: string): JournalFile | null {
  const [first = '', ...lines] = text.split('\n')
  // What follows the last line end was cut short, whatever it says.
  const torn = lines.pop() ?? ''
  const head = readHead(payloadOf(first))
  if (head === null) return null
  const reader = new Reader()
  let damaged = torn === '' ? 0 : 1
  for (const line of lines) {
    if (line === '') continue
    const payload = payloadOf(line)
    if (payload === null || !reader.take(payload)) damaged++
  }
  return { head, parts: reader.parts(), damaged }
}

function payloadOf(line: string): string | null {
  const payload = line.slice(CHECKSUM_CHARS + 1)
  return journalLine(payload) === `${line}\n` ? payload : null
}

function readHead(payload: string | null): JournalHead | null {
  if (payload === null) return null
  try {
    const head = JSON.parse(payload) as JournalHead
    return head.version === 1 ? head : null
  } catch {
    return null
  }
}

interface Day {
  readonly of: { readonly tenant_id: string; readonly date: string }
  readonly counts: number[]
  readonly users: Map<string, number>
  readonly marks: Set<number>
  readonly counters: Map<string, number>
}

class Reader {
  /** By tenant and day: a file may give the same one several numbers, and a number again. */
  readonly #days = new Map<string, Day>()
  readonly #numbers = new Map<string, Day>()

  /** @returns false: it makes no sense */
  take(payload: string): boolean {
    const [kind, number = '', ...rest] = payload.split(' ')
    if (kind === 't') {
      this.#numbers.set(number, this.#dayOf(rest))
      return true
    }
    const day = this.#numbers.get(number)
    if (day === undefined) return false
    if (kind === '+') {
      for (const grown of rest) {
        const [column, amount] = grown.split('=').map(Number)
        day.counts[column as number] = (day.counts[column as number] ?? 0) + (amount as number)
      }
    } else if (kind === 'u') {
      const [mark, ...id] = rest
      day.users.set(JSON.parse(id.join(' ')) as string, Number(mark))
    } else if (kind === 's') {
      day.marks.add(Number(rest[0]))
    } else if (kind === 'c') {
      const [name = '', value] = rest
      day.counters.set(name, (day.counters.get(name) ?? 0) + Number(value))
    } else return false
    return true
  }

  #dayOf([tenant_id = '', date = '']: readonly string[]): Day {
    const key = `${tenant_id} ${date}`
    const known = this.#days.get(key)
    if (known !== undefined) return known
    const sets = { users: new Map(), marks: new Set<number>(), counters: new Map() }
    const day: Day = { of: { tenant_id, date }, counts: [], ...sets }
    this.#days.set(key, day)
    return day
  }

  parts(): UsageParts {
    const all = [...this.#days.values()]
    return {
      days: all.map(({ of, counts }) => {
        const row: UsageDayCounts = { ...of }
        for (const [i, count] of counts.entries()) {
          const name: UsageColumn | undefined = USAGE_COLUMNS[i]
          if (name !== undefined && count) row[name] = count
        }
        return row
      }),
      users: all.flatMap(({ of, users }) =>
        [...users].map(([user_id, user_mark]) => ({ ...of, user_id, user_mark })),
      ),
      sketches: all.flatMap(({ of, marks }) =>
        marks.size === 0 ? [] : [{ ...of, marks: [...marks] }],
      ),
      counters: all.flatMap(({ of, counters }) =>
        [...counters].map(([name, value]): UsageCounter => ({ ...of, name, value })),
      ),
    }
  }
}
