import type { Client } from 'pg'
import { MigrationError } from './files.ts'

const CONCURRENT_INDEX =
  /\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?((?:"[^"]+"|\w+))\s+ON\b/gi

/** Statements of a file without a transaction: each ends by a semicolon at the end of a line. */
export function statementsOf(sql: string): readonly string[] {
  return sql.split(/;[ \t]*$/m).filter(text => text.replace(/--.*$/gm, '').trim())
}

/**
 * CREATE INDEX CONCURRENTLY that was cut off leaves an index that is written and never read, and with IF NOT
 * EXISTS the next run would take it for done. Those that this file makes are removed first.
 */
export async function dropInvalidIndexes(client: Client, sql: string): Promise<void> {
  for (const index of await invalidIndexes(client, sql)) {
    await client.query(`DROP INDEX CONCURRENTLY IF EXISTS ${index}`)
  }
}

/** @throws MigrationError where an index of this file is there and cannot be used */
export async function requireValidIndexes(client: Client, sql: string): Promise<void> {
  const [index] = await invalidIndexes(client, sql)
  if (index !== undefined) throw new MigrationError(`index ${index} is not valid`)
}

/** As SQL names them, quoted where they must be. */
async function invalidIndexes(client: Client, sql: string): Promise<readonly string[]> {
  const names = [...sql.matchAll(CONCURRENT_INDEX)].map(([, name = '']) =>
    name.startsWith('"') ? name.slice(1, -1) : name.toLowerCase(),
  )
  if (names.length === 0) return []
  const { rows } = await client.query<{ name: string }>(
    `SELECT indexrelid::regclass::text AS name FROM pg_index
     JOIN pg_class ON pg_class.oid = indexrelid
     WHERE NOT indisvalid AND relname = ANY($1) AND pg_table_is_visible(indexrelid)`,
    [names],
  )
  return rows.map(({ name }) => name)
}
