import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Client } from 'pg'
import type { AddressPolicy } from '../registry/lib/address.ts'
import { closePg, connectPg, type PgTarget } from '../registry/lib/pg.ts'

/** Wait for a lock on a table that live traffic uses, before the migration gives way (DESIGN 5). */
export const LOCK_TIMEOUT_MS = 5_000
/** A single migration may run this long. */
export const STATEMENT_TIMEOUT_MS = 10 * 60_000
/** How long a runner waits for another one that works on the same database. */
const RUNNER_WAIT_MS = 60_000
/** Any constant will do; it keeps our lock apart from those of other tools. */
const RUNNER_LOCK = "hashtextextended('doorman_migrations', 0)"
const FILE_NAME = /^(\d{4})_([a-z0-9_]+)\.sql$/
const NO_TRANSACTION = /^--\s*no transaction\b/i

export interface MigrateOptions {
  readonly target: PgTarget
  /** Folder with `NNNN_name.sql` files. */
  readonly directory: string
  readonly connectTimeoutMs?: number
  readonly lockTimeoutMs?: number
  readonly statementTimeoutMs?: number
  readonly runnerWaitMs?: number
  /** Where the database may be; absent or null: anywhere. */
  readonly addressPolicy?: AddressPolicy | null
}

export interface MigrateResult {
  /** Version of the database before and after; null: never migrated. */
  readonly before: string | null
  readonly after: string | null
  readonly applied: readonly { readonly file: string; readonly durationMs: number }[]
  /** Warnings that the migrations raised. */
  readonly warnings: readonly string[]
  /** True where the database is at a version that this release does not know: a newer one was here. */
  readonly isAhead: boolean
}

/** What an operator can act on; the text names the file. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError'
}

/**
 * Brings one database to the newest version of `directory`. Each file runs in a transaction together
 * with its record in `doorman_migrations`, so that a killed run resumes where it stopped; two runners on
 * one database wait for each other by a session advisory lock (connect to PostgreSQL itself, or to a
 * session-pooling PgBouncer).
 *
 * A file whose first line is `-- no transaction` (for CREATE INDEX CONCURRENTLY) runs statement by
 * statement, each ended by a semicolon at the end of a line, without `$$`; it must be safe to run again.
 *
 * @throws MigrationError where an applied file was edited, files are out of order, or one fails
 */
export async function migrate(options: MigrateOptions): Promise<MigrateResult> {
  const files = await readMigrations(options.directory)
  const lockTimeoutMs = options.lockTimeoutMs ?? LOCK_TIMEOUT_MS
  const client = await connectPg(options.target, {
    connectTimeoutMs: options.connectTimeoutMs ?? 3000,
    statementTimeoutMs: options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS,
    lockTimeoutMs,
    applicationName: 'doorman-migrate',
    addressPolicy: options.addressPolicy ?? null,
  })
  const warnings: string[] = []
  client.on('notice', notice => {
    if (notice.severity === 'WARNING' && notice.message) warnings.push(notice.message)
  })
  try {
    await lockRunner(client, options.runnerWaitMs ?? RUNNER_WAIT_MS, lockTimeoutMs)
    const done = await readApplied(client)
    const pending = pendingOf(files, done)
    const applied = []
    for (const file of pending) {
      const startedAt = performance.now()
      await (file.isTransactional ? applyInTransaction : applyByStatement)(client, file)
      applied.push({ file: file.name, durationMs: Math.round(performance.now() - startedAt) })
    }
    const before = done.at(-1)?.version ?? null
    const newest = files.at(-1)?.version ?? null
    const isAhead = before !== null && (newest === null || before > newest)
    return { before, after: isAhead ? before : newest, applied, warnings, isAhead }
  } finally {
    // The session's end also gives the advisory lock back.
    await closePg(client)
  }
}

interface MigrationFile {
  readonly version: string
  readonly name: string
  readonly checksum: string
  readonly sql: string
  readonly isTransactional: boolean
}

/** The files of `directory` in order. Other files are left alone, a misnamed .sql is an error. */
export async function readMigrations(directory: string): Promise<readonly MigrationFile[]> {
  const names = (await readdir(directory)).filter(name => name.endsWith('.sql')).sort()
  const files = await Promise.all(
    names.map(async name => {
      const version = FILE_NAME.exec(name)?.[1]
      if (version === undefined) throw new MigrationError(`${name}: not named NNNN_name.sql`)
      // A checkout on another system may have changed the line ends; the migration is the same.
      const sql = (await readFile(join(directory, name), 'utf8')).replaceAll('\r\n', '\n')
      const checksum = createHash('sha256').update(sql).digest('hex')
      return { version, name, checksum, sql, isTransactional: !NO_TRANSACTION.test(sql) }
    }),
  )
  for (const [i, file] of files.entries()) {
    if (file.version === files[i - 1]?.version) {
      throw new MigrationError(`${file.name}: version ${file.version} is there twice`)
    }
  }
  return files
}

interface AppliedMigration {
  readonly version: string
  readonly name: string
  readonly checksum: string
}

function pendingOf(
  files: readonly MigrationFile[],
  done: readonly AppliedMigration[],
): readonly MigrationFile[] {
  const byVersion = new Map(done.map(record => [record.version, record]))
  const last = done.at(-1)?.version ?? ''
  return files.filter(file => {
    const record = byVersion.get(file.version)
    if (record === undefined && file.version < last) {
      throw new MigrationError(`${file.name}: older than ${last}, which was applied already`)
    }
    if (record !== undefined && record.checksum !== file.checksum) {
      throw new MigrationError(
        `${file.name}: edited after it was applied (as ${record.name}); write a new migration instead`,
      )
    }
    return record === undefined
  })
}

async function lockRunner(client: Client, waitMs: number, lockTimeoutMs: number): Promise<void> {
  try {
    await client.query(`SET lock_timeout = ${Math.max(1, Math.floor(waitMs))}`)
    await client.query(`SELECT pg_advisory_lock(${RUNNER_LOCK})`)
  } catch (error) {
    if ((error as { code?: string }).code !== '55P03') throw error
    throw new MigrationError(`another runner has held this database for ${waitMs} ms`)
  }
  await client.query(`SET lock_timeout = ${Math.max(1, Math.floor(lockTimeoutMs))}`)
}

async function readApplied(client: Client): Promise<readonly AppliedMigration[]> {
  // What was applied, by whom it is read: this runner alone.
  await client.query(`
    CREATE TABLE IF NOT EXISTS doorman_migrations (
      version text PRIMARY KEY,
      name text NOT NULL,
      checksum text NOT NULL,
      applied_at timestamptz NOT NULL DEFAULT now(),
      duration_ms integer NOT NULL
    )`)
  const { rows } = await client.query<AppliedMigration>(
    'SELECT version, name, checksum FROM doorman_migrations ORDER BY version COLLATE "C"',
  )
  return rows
}

async function applyInTransaction(client: Client, file: MigrationFile): Promise<void> {
  const startedAt = performance.now()
  try {
    await client.query('BEGIN')
    await client.query(file.sql)
    await record(client, file, startedAt)
    await client.query('COMMIT')
  } catch (error) {
    // Where the connection is gone, the server rolls back by itself.
    await client.query('ROLLBACK').catch(() => {})
    throw failed(file, error)
  }
}

async function applyByStatement(client: Client, file: MigrationFile): Promise<void> {
  if (file.sql.includes('$$')) throw failed(file, '$$ is not possible without a transaction')
  const startedAt = performance.now()
  const statements = file.sql.split(/;[ \t]*$/m).filter(sql => sql.replace(/--.*$/gm, '').trim())
  try {
    for (const sql of statements) await client.query(sql)
    await record(client, file, startedAt)
  } catch (error) {
    throw failed(file, error)
  }
}

async function record(client: Client, file: MigrationFile, startedAt: number): Promise<void> {
  await client.query(
    'INSERT INTO doorman_migrations (version, name, checksum, duration_ms) VALUES ($1, $2, $3, $4)',
    [file.version, file.name, file.checksum, Math.round(performance.now() - startedAt)],
  )
}

function failed(file: MigrationFile, error: unknown): MigrationError {
  const text = error instanceof Error ? error.message : String(error)
  return new MigrationError(`${file.name}: ${text}`, { cause: error })
}
