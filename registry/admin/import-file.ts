import { Fault } from '../lib/errors.ts'
import { readCsv } from './csv.ts'

/** One tenant of a fleet that is to be taken over, with the names of the columns of `tenants`. */
export interface ImportRow {
  /** Of the file, from 1; of a JSON array the place. */
  readonly line: number
  readonly values: Readonly<Record<string, unknown>>
}

/** A line that is no row, in words that quote none of it. */
export interface BadLine {
  readonly line: number
  readonly problem: string
}

export type FileLine = ImportRow | BadLine

/** Of one row, and so of what is kept in memory of a file that is no array. */
const RECORD_CHARS_MAX = 65_536
/** A JSON array is one value, and is read as one. */
const ARRAY_CHARS_MAX = 16_777_216

/**
 * The rows of a file of any size as they come: CSV with a head line, JSON lines, or a JSON array.
 *
 * @throws Fault VALIDATION_FAILED where nothing behind a place can be read; rows before it have come by then
 */
export async function* readImport(
  chunks: AsyncIterable<string>,
): AsyncGenerator<FileLine, void, undefined> {
  const text = new Chunks(chunks)
  const first = await text.peek()
  if (first === '[') yield* elements(await whole(text))
  else if (first === '{') {
    for await (const record of records(text, false)) yield* jsonLine(record)
  } else yield* csvRows(records(text, true))
}

/** Text whose begin can be looked at. */
class Chunks {
  readonly #iterator: AsyncIterator<string>
  #begin = ''

  constructor(chunks: AsyncIterable<string>) {
    this.#iterator = chunks[Symbol.asyncIterator]()
  }

  /** The first character that is no blank; null: there is none. A byte order mark, as of a spreadsheet, goes. */
  async peek(): Promise<string | null> {
    for (;;) {
      const first = this.#begin.trimStart()[0]
      if (first !== undefined) break
      const next = await this.#iterator.next()
      if (next.done) return null
      this.#begin += next.value
      requireLength(this.#begin, 1, RECORD_CHARS_MAX * 2)
    }
    // trimStart takes a byte order mark for a blank.
    if (this.#begin.startsWith('\uFEFF')) this.#begin = this.#begin.slice(1)
    return this.#begin.trimStart()[0] ?? null
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    try {
      yield this.#begin
      this.#begin = ''
      for (;;) {
        const next = await this.#iterator.next()
        if (next.done) return
        yield next.value
      }
    } finally {
      await this.#iterator.return?.()
    }
  }
}

interface TextRecord {
  readonly line: number
  readonly text: string
}

/** By line ends; with `isCsv` those within quotes are of the record. */
async function* records(
  chunks: AsyncIterable<string>,
  isCsv: boolean,
): AsyncGenerator<TextRecord, void, undefined> {
  let rest = ''
  let at = 0
  let line = 1
  let startsAt = 1
  let isQuoted = false
  for await (const chunk of chunks) {
    rest += chunk
    let begin = 0
    for (; at < rest.length; at++) {
      const character = rest.charCodeAt(at)
      if (isCsv && character === QUOTE) isQuoted = !isQuoted
      if (character !== LF && !(isCsv && character === CR)) continue
      // Whether it is half of a line end the next chunk tells.
      if (character === CR && at + 1 === rest.length) break
      const length = character === CR && rest.charCodeAt(at + 1) === LF ? 2 : 1
      line += 1
      if (!isQuoted) {
        const text = rest.slice(begin, at)
        requireLength(text, startsAt, RECORD_CHARS_MAX)
        yield { line: startsAt, text }
        begin = at + length
        startsAt = line
      }
      at += length - 1
    }
    rest = rest.slice(begin)
    at -= begin
    requireLength(rest, startsAt, RECORD_CHARS_MAX)
  }
  const text = isCsv && !isQuoted ? rest.replace(/\r$/, '') : rest
  if (text !== '') yield { line: startsAt, text }
}

const [QUOTE, LF, CR] = [0x22, 0x0a, 0x0d]

async function* csvRows(
  lines: AsyncIterable<TextRecord>,
): AsyncGenerator<FileLine, void, undefined> {
  let names: readonly string[] | null = null
  for await (const { line, text } of lines) {
    const [record] = readCsv(text, line)
    if (record === undefined) continue
    const { cells } = record
    if (names === null) names = headOf(cells, line)
    else if (cells.length !== names.length) {
      yield { line, problem: `${cells.length} fields where the head has ${names.length}` }
    } else yield { line, values: Object.fromEntries(names.map((name, i) => [name, cells[i]])) }
  }
  if (names === null) headOf([], 1)
}

function headOf(cells: readonly string[], line: number): readonly string[] {
  const names = cells.map(name => name.trim())
  if (!names.includes('tenant_key')) throw wrong(`line ${line}: no column tenant_key`)
  if (new Set(names).size < names.length) throw wrong(`line ${line}: a column is there twice`)
  return names
}

function* jsonLine({ line, text }: TextRecord): Generator<FileLine, void, undefined> {
  if (text.trim() === '') return
  const value = parse(text)
  yield value === undefined ? { line, problem: 'not JSON' } : rowOf(value, line)
}

function* elements(text: string): Generator<FileLine, void, undefined> {
  const list = parse(text)
  if (!Array.isArray(list)) throw wrong('the file is not JSON')
  for (const [i, value] of list.entries()) yield rowOf(value, i + 1)
}

function rowOf(value: unknown, line: number): FileLine {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    return { line, problem: 'not an object' }
  }
  return { line, values: value as ImportRow['values'] }
}

async function whole(chunks: AsyncIterable<string>): Promise<string> {
  const parts: string[] = []
  let length = 0
  for await (const chunk of chunks) {
    length += chunk.length
    if (length > ARRAY_CHARS_MAX) {
      throw wrong(`a JSON array of more than ${ARRAY_CHARS_MAX} bytes: write it as JSON lines`)
    }
    parts.push(chunk)
  }
  return parts.join('')
}

/** Undefined where it is none: the parser's message quotes the text, which holds secrets. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function requireLength(text: string, line: number, charsMax: number): void {
  if (text.length > charsMax) throw wrong(`line ${line}: more than ${charsMax} characters`)
}

function wrong(text: string): Fault {
  return new Fault('VALIDATION_FAILED', text)
}
