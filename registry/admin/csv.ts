import { Fault } from '../lib/errors.ts'

export interface CsvRecord {
  /** Where it begins, from 1. */
  readonly line: number
  readonly cells: readonly string[]
}

/**
 * Records of a CSV text (RFC 4180): fields in quotes may hold commas, line ends and doubled quotes.
 *
 * @param firstLine the number of the first line of `text` in its file
 * @throws Fault VALIDATION_FAILED on a quote that is never closed, or in the middle of a field; no text is quoted
 */
export function readCsv(text: string, firstLine = 1): readonly CsvRecord[] {
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n|\n|\r|$)/y
  const records: CsvRecord[] = []
  let cells: string[] = []
  let line = firstLine
  let startsAt = firstLine
  while (field.lastIndex < text.length || cells.length > 0) {
    const found = field.exec(text)
    if (found === null) {
      throw new Fault('VALIDATION_FAILED', `line ${line}: a quote is not where it may be`)
    }
    const [, quoted, plain = '', end] = found
    cells.push(quoted === undefined ? plain : quoted.replaceAll('""', '"'))
    line += (quoted?.match(/\r\n|\n|\r/g) ?? []).length
    if (end === ',') continue
    if (cells.length > 1 || cells[0] !== '') records.push({ line: startsAt, cells })
    cells = []
    line += 1
    startsAt = line
  }
  return records
}
