import { setImmediate as breathe } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import {
  USAGE_COLUMNS,
  type UsageColumn,
  type UsageCounter,
  type UsageDayCounts,
  type UsageParts,
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

/** Lines that are read before others of this process have their turn. */
const LINES_AT_ONCE = 2000

/** What a file holds; null: not even its head can be read. */
export function readJournal(text: string): JournalFile | null {
  const reading = linesOf(text)
  for (;;) {
    const { done, value } = reading.next()
    if (done) return value
  }
}

/** The same of a file that may be long: whoever reads it serves requests too. */
export async function readLongJournal(text: string): Promise<JournalFile | null> {
  const reading = linesOf(text)
  for (;;) {
    const { done, value } = reading.next()
    if (done) return value
    await breathe()
  }
}

/** Yields now and then. */
function* linesOf(text: string): Generator<void, JournalFile | null> {
  let end = text.indexOf('\n')
  const head = end === -1 ? null : readHead(payloadOf(text.slice(0, end)))
  if (head === null) return null
  const reader = new Reader()
  let damaged = 0
  for (let count = 1; ; count++) {
    const start = end + 1
    end = text.indexOf('\n', start)
    // What follows the last line end was cut short, whatever it says.
    if (end === -1) {
      if (start < text.length) damaged++
      return { head, parts: reader.parts(), damaged }
    }
    if (end === start) continue
    const payload = payloadOf(text.slice(start, end))
    if (payload === null || !reader.take(payload)) damaged++
    if (count % LINES_AT_ONCE === 0) yield
  }
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
