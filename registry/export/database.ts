import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import pg, { type Client } from 'pg'
import type { AdminDeps } from '../admin/deps.ts'
import { databaseProblem, tenantTarget } from '../admin/probe-database.ts'
import type { DbConnection } from '../connection.ts'
import { Fault } from '../lib/errors.ts'
import { closePg, connectPg } from '../lib/pg.ts'
import { copyOut } from './copy-out.ts'
import { type FileDigest, writeHashedFile } from './hashed-file.ts'

export interface ExportedTable extends FileDigest {
  readonly schema: string
  readonly table: string
  /** Order of the fields in the file; columns that the database computes are not in it. */
  readonly columns: readonly string[]
  readonly rows: number
  /** Relative to the folder of the export. */
  readonly file: string
}

export interface ExportedDatabase {
  /** Of PostgreSQL. */
  readonly server_version: string
  /** Of the tenant's own schema; null: it was never migrated. */
  readonly schema_version: string | null
  readonly tables: readonly ExportedTable[]
  readonly sequences: readonly { readonly name: string; readonly last_value: string | null }[]
  /** Kept outside of tables, and so not in the export. */
  readonly large_objects: number
}

const CONNECT_TIMEOUT_MS = 5000
const CATALOG_TIMEOUT_MS = 30_000
/** A migration that holds a table makes the export fail rather than wait behind it. */
const LOCK_TIMEOUT_MS = 10_000
const TABLES_MAX = 10_000

/** One moment for all tables; and a table with policies is an error instead of a part of its rows. */
const BEGIN = `
  SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET row_security = off;
  SET search_path = pg_catalog; SET datestyle = 'ISO'; SET intervalstyle = 'postgres';
  SET client_encoding = 'UTF8'; SET extra_float_digits = 1;
  BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`

/** Tables with rows of their own (of a partitioned one its parts), those of extensions left out. */
const TABLES = `
  SELECT n.nspname AS schema, c.relname AS "table",
    ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
      AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum) AS columns
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relpersistence <> 't'
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d
      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  ORDER BY 1, 2 LIMIT ${TABLES_MAX + 1}`
const SEQUENCES = `
  SELECT format('%I.%I', schemaname, sequencename) AS name, last_value::text FROM pg_sequences ORDER BY 1`
const ABOUT = `SELECT current_setting('server_version') AS server_version,
  (SELECT count(*)::int FROM pg_largeobject_metadata) AS large_objects,
  to_regclass('public.doorman_migrations') IS NOT NULL AS is_migrated`
const VERSION = 'SELECT max(version COLLATE "C") AS version FROM public.doorman_migrations'

/**
 * Every table of a tenant's database as it was at one moment, in the text format of COPY.
 *
 * @param folder exists; `tables/` is made in it
 * @throws Fault TENANT_DATABASE_UNAVAILABLE, or an Error of a file
 */
export async function exportDatabase(
  db: DbConnection,
  deps: AdminDeps,
  folder: string,
  onProgress: (text: string) => void,
): Promise<ExportedDatabase> {
  const client = await connect(db, deps)
  try {
    await client.query(BEGIN)
    const about = (await ask<AboutRow>(client, ABOUT))[0] as AboutRow
    const [version] = about.is_migrated ? await ask<{ version: string }>(client, VERSION) : []
    const found = await ask<TableRow>(client, TABLES)
    if (found.length > TABLES_MAX) throw unavailable(`more than ${TABLES_MAX} tables`)
    const sequences = await ask<ExportedDatabase['sequences'][number]>(client, SEQUENCES)
    await mkdir(join(folder, 'tables'), { mode: 0o700 })
    const tables: ExportedTable[] = []
    for (const [i, table] of found.entries()) {
      const exported = await exportTable(client, table, i, folder)
      tables.push(exported)
      const name = `${exported.schema}.${exported.table}`
      onProgress(`${name}: ${exported.rows} rows, ${exported.bytes} bytes`)
    }
    await client.query('COMMIT')
    return {
      server_version: about.server_version,
      schema_version: version?.version ?? null,
      tables,
      sequences,
      large_objects: about.large_objects,
    }
  } finally {
    await closePg(client)
  }
}

interface AboutRow {
  readonly server_version: string
  readonly large_objects: number
  readonly is_migrated: boolean
}

type TableRow = Pick<ExportedTable, 'schema' | 'table' | 'columns'>

async function exportTable(
  client: Client,
  { schema, table, columns }: TableRow,
  index: number,
  folder: string,
): Promise<ExportedTable> {
  // Numbered: two names that differ in case alone are one file on some systems.
  const plain = `${schema}.${table}`.replace(/[^A-Za-z0-9._-]/g, '_').slice(0, 150)
  const file = `tables/${String(index + 1).padStart(4, '0')}-${plain}.copy`
  const name = `${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(table)}`
  const fields = columns.length === 0 ? '' : `(${columns.map(pg.escapeIdentifier).join(', ')})`
  const { digest, result: rows } = await writeHashedFile(join(folder, file), input =>
    copyOut(client, `COPY ${name} ${fields} TO STDOUT`, input).catch(error => {
      const isServers = typeof (error as { code?: unknown }).code === 'string'
      throw isServers ? unavailable(`${schema}.${table}: ${(error as Error).message}`) : error
    }),
  )
  return { schema, table, columns, rows, file, ...digest }
}

async function ask<T extends pg.QueryResultRow>(client: Client, text: string): Promise<T[]> {
  const config = { text, query_timeout: CATALOG_TIMEOUT_MS }
  return (await client.query<T>(config)).rows
}

async function connect(db: DbConnection, deps: AdminDeps): Promise<Client> {
  try {
    return await connectPg(tenantTarget(db, deps), {
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      // A table may take hours; copyOut has its own watch.
      statementTimeoutMs: 0,
      lockTimeoutMs: LOCK_TIMEOUT_MS,
      addressPolicy: deps.addressPolicy,
      applicationName: 'doorman-export',
    })
  } catch (error) {
    throw unavailable(databaseProblem(error)[1])
  }
}

function unavailable(reason: string): Fault {
  return new Fault('TENANT_DATABASE_UNAVAILABLE', `database: ${reason}`)
}
