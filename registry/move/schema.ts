import type { Client } from 'pg'
import * as sql from './schema-sql.ts'

export interface Table {
  /** Quoted and with its schema. */
  readonly name: string
  /** Quoted, in order; generated ones too. */
  readonly columns: string
  /** Those that COPY may write. */
  readonly storedColumns: string
  readonly dataBytes: number
}

/** A tenant database but for its rows. */
export interface Schema {
  readonly tables: readonly Table[]
  /** Quoted, those of identity columns included. */
  readonly sequences: readonly string[]
  readonly extensions: readonly string[]
  /** Statements that make it, before the rows and after them. */
  readonly before: readonly string[]
  readonly after: readonly string[]
  /** Statements that take it away again. */
  readonly drops: readonly string[]
  /** Rows, indexes and all. */
  readonly bytes: number
  /** What is there and cannot be copied. */
  readonly refused: readonly string[]
  /** What is not copied, and is no reason to refuse. */
  readonly leftOut: readonly string[]
  /** Tables that the role that asks does not own. */
  readonly foreignTables: readonly string[]
}

/** So that every value has one text, and every name is whole, on both servers. */
export const SESSION = `
  SET search_path = ''; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
  SET extra_float_digits = 3; SET bytea_output = 'hex'; SET client_encoding = 'UTF8'; SET check_function_bodies = off;
  SET row_security = off; SET client_min_messages = 'error'`

type Row = Readonly<Record<string, string | boolean | null>>

/** @param client in a session as `SESSION` makes it */
export async function readSchema(client: Client): Promise<Schema> {
  const read = async (text: string) => (await client.query<Row>(text)).rows
  const schemas = await read(sql.SCHEMAS)
  const extensions = await read(sql.EXTENSIONS)
  const enums = await read(sql.ENUMS)
  const sequences = await read(sql.SEQUENCES)
  const functions = await read(sql.FUNCTIONS)
  const tables = await read(sql.TABLES)
  const onTables = await read(sql.ON_TABLES)
  const refused = await read(sql.REFUSED)
  const leftOut = await read(sql.LEFT_OUT)
  const loose = sequences.filter(({ is_identity }) => !is_identity)
  return {
    tables: tables.map(row => ({
      name: String(row.name),
      columns: String(row.columns),
      storedColumns: String(row.stored_columns),
      dataBytes: Number(row.data_bytes),
    })),
    sequences: sequences.map(row => String(row.name)),
    extensions: extensions.map(row => String(row.name)),
    before: [...schemas, ...extensions, ...enums, ...loose, ...functions, ...tables].map(makeOf),
    after: [...onTables.map(makeOf), ...loose.flatMap(({ own }) => (own ? [String(own)] : []))],
    drops: [...tables, ...loose, ...functions, ...enums, ...schemas].map(row => String(row.drop)),
    bytes: tables.reduce((sum, { bytes }) => sum + Number(bytes), 0),
    refused: refused.map(({ what }) => String(what)),
    leftOut: leftOut.map(({ what }) => String(what)),
    foreignTables: tables.flatMap(({ is_ours, name }) => (is_ours ? [] : [String(name)])),
  }
}

/** True where two schemas are made by the same statements. */
export function isSameSchema(a: Schema, b: Schema): boolean {
  const text = ({ before, after, sequences }: Schema) => JSON.stringify([before, after, sequences])
  return text(a) === text(b)
}

function makeOf({ make }: Row): string {
  return String(make)
}
