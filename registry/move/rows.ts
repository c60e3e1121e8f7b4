import type { Client } from 'pg'
import { copyTable } from './copy-table.ts'
import type { Schema, Table } from './schema.ts'

/** Tables up to this size are compared by the content of every row, larger ones by their number of rows. */
const CHECKSUM_BYTES_MAX = 64 * 1024 * 1024

/** Rows of each table, from the one server to the other. */
export async function copyRows(source: Client, target: Client, { tables }: Schema): Promise<void> {
  for (const { name, storedColumns } of tables) {
    if (storedColumns === '') continue
    const columns = `${name} (${storedColumns})`
    await copyTable(source, `COPY ${columns} TO STDOUT`, target, `COPY ${columns} FROM STDIN`)
  }
}

export async function copySequences(
  source: Client,
  target: Client,
  { sequences }: Schema,
): Promise<void> {
  for (const name of sequences) {
    const { rows } = await source.query(`SELECT last_value, is_called FROM ${name}`)
    const { last_value, is_called } = rows[0] as { last_value: string; is_called: boolean }
    await target.query('SELECT setval($1::regclass, $2, $3)', [name, last_value, is_called])
  }
}

/** Of a table or a sequence. */
export interface Figure {
  readonly text: string
  /** 0 for a sequence. */
  readonly rows: number
}

/** What is equal in two databases that are equal: the rows of each table, and where each sequence stands. */
export async function figuresOf(
  client: Client,
  { tables, sequences }: Schema,
): Promise<ReadonlyMap<string, Figure>> {
  const figures = new Map<string, Figure>()
  for (const table of tables) {
    const { rows } = await client.query<{ rows: string; sum: string }>(FIGURES_OF(table))
    const text = `${rows[0]?.rows} rows, sum ${rows[0]?.sum}`
    figures.set(table.name, { text, rows: Number(rows[0]?.rows) })
  }
  for (const name of sequences) {
    const { rows } = await client.query(`SELECT last_value, is_called FROM ${name}`)
    figures.set(name, { text: JSON.stringify(rows[0]), rows: 0 })
  }
  return figures
}

/** @returns the names that differ, with both figures */
export function differences(
  a: ReadonlyMap<string, Figure>,
  b: ReadonlyMap<string, Figure>,
): readonly string[] {
  return [...a].flatMap(([name, { text }]) => {
    const other = b.get(name)?.text ?? 'nothing'
    return other === text ? [] : [`${name}: ${text} and ${other}`]
  })
}

/** The sum does not ask for an order of the rows, and 60 bits of MD5 are the same on every server. */
const FIGURES_OF = ({ name, columns, dataBytes }: Table) => `
  SELECT count(*)::text AS rows, ${
    dataBytes > CHECKSUM_BYTES_MAX
      ? "'-'"
      : `coalesce(sum(('x' || substr(md5(ROW(${columns})::text), 1, 15))::bit(60)::bigint), 0)::text`
  } AS sum
  FROM ${name}`
