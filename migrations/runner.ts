import type { Client } from 'pg'
import { applyDown, applyUp } from './apply.ts'
import { MigrationError, type MigrationFile, readMigrations, upTo } from './files.ts'
import {
  type AppliedMigration,
  LOCK_TIMEOUT_MS,
  lockAndPeek,
  lockRunner,
  peekApplied,
  readApplied,
  type SessionOptions,
  STATEMENT_TIMEOUT_MS,
  withSession,
} from './session.ts'

export interface MigrateOptions extends SessionOptions {
  /** Folder with `NNNN_name.sql` files. */
  readonly directory: string
  /** Its files where they are read already, as for a fleet. */
  readonly files?: readonly MigrationFile[]
  /** No further than this version; absent or null: all files. */
  readonly to?: string | null
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
  /** Where the time went; absent: not measured. */
  readonly phases?: Phases
}

/** Of one database. */
export interface Phases {
  /** TCP, TLS, login. */
  readonly connectMs: number
  /** The lock, and what was applied. */
  readonly lockMs: number
  /** The files. */
  readonly applyMs: number
  readonly closeMs: number
}

export interface Plan {
  readonly version: string | null
  readonly pending: readonly MigrationFile[]
}

/**
 * Brings one database to the newest version of `directory`, or to `to`. Each file runs in a transaction together
 * with its record in `doorman_migrations`, so that a killed run resumes where it stopped; two runners never work
 * on one database at a time, by a session advisory lock (connect to PostgreSQL itself, or to a session-pooling
 * PgBouncer). A database that has nothing to do waits for no lock.
 *
 * The comment that a file begins with may say `-- no transaction` (for CREATE INDEX CONCURRENTLY): it then runs
 * statement by statement, each ended by a semicolon at the end of a line, without `$$`; it must be safe to run
 * again. `-- lock_timeout: 2s` and `-- statement_timeout: 30min` change the limits for that file.
 *
 * @throws MigrationError where an applied file was edited, files are out of order, or one fails
 */
export async function migrate(options: MigrateOptions): Promise<MigrateResult> {
  const all = options.files ?? (await readMigrations(options.directory))
  const files = upTo(all, options.to ?? null)
  const clock = [performance.now()]
  const mark = () => void clock.push(performance.now())
  const result = await withSession(options, async client => {
    mark()
    const warnings: string[] = []
    client.on('notice', notice => {
      if (notice.severity === 'WARNING' && notice.message) warnings.push(notice.message)
    })
    const done = await lockUnlessDone(client, files, options.runnerWaitMs)
    mark()
    const before = done.at(-1)?.version ?? null
    const newest = all.at(-1)?.version ?? null
    let reached = before
    const applied = []
    for (const file of pendingOf(files, done)) {
      const startedAt = performance.now()
      try {
        await applyUp(client, file, limitsOf(options))
      } catch (error) {
        if (error instanceof MigrationError) error.reached = reached
        throw error
      }
      reached = file.version
      applied.push({ file: file.name, durationMs: Math.round(performance.now() - startedAt) })
    }
    const isAhead = before !== null && (newest === null || before > newest)
    mark()
    return { before, after: reached, applied, warnings, isAhead }
  })
  mark()
  const [connectMs = 0, lockMs = 0, applyMs = 0, closeMs = 0] = clock
    .slice(1)
    .map((ms, i) => ms - (clock[i] as number))
  return { ...result, phases: { connectMs, lockMs, applyMs, closeMs } }
}

/** What `migrate` would run; changes nothing and waits for nobody. */
export async function planOf(options: MigrateOptions): Promise<Plan> {
  const files = upTo(options.files ?? (await readMigrations(options.directory)), options.to ?? null)
  return withSession(options, async client => {
    const done = (await peekApplied(client)) ?? []
    return { version: done.at(-1)?.version ?? null, pending: pendingOf(files, done) }
  })
}

/**
 * Takes back what is above `to` (`0000`: everything), newest first, by the files' down scripts. All of them must
 * be there before the first one runs.
 */
export async function migrateDown(
  options: MigrateOptions & { readonly to: string },
): Promise<MigrateResult> {
  const files = options.files ?? (await readMigrations(options.directory))
  if (options.to !== '0000') upTo(files, options.to)
  return withSession(options, async client => {
    await lockRunner(client, options.runnerWaitMs)
    const done = await readApplied(client)
    pendingOf(files, done)
    const before = done.at(-1)?.version ?? null
    const back = done.filter(({ version }) => version > options.to).reverse()
    const known = back.map(record => {
      const file = files.find(({ version }) => version === record.version)
      if (file?.down == null) throw new MigrationError(`${record.name}: it has no .down.sql`)
      return file
    })
    const applied = []
    for (const file of known) {
      const startedAt = performance.now()
      await applyDown(client, file, limitsOf(options))
      const durationMs = Math.round(performance.now() - startedAt)
      applied.push({ file: file.down?.name ?? file.name, durationMs })
    }
    const left = done.filter(({ version }) => version <= options.to)
    const after = left.at(-1)?.version ?? null
    return { before, after, applied, warnings: [], isAhead: false }
  })
}

/** What was applied; under the lock, where something is left to do. */
async function lockUnlessDone(
  client: Client,
  files: readonly MigrationFile[],
  runnerWaitMs: number | undefined,
): Promise<readonly AppliedMigration[]> {
  const isEnough = (done: readonly AppliedMigration[]) => pendingOf(files, done).length === 0
  const seen = await lockAndPeek(client, runnerWaitMs, isEnough)
  if (seen !== null) return seen
  await lockRunner(client, runnerWaitMs)
  return readApplied(client)
}

/** @throws MigrationError where an applied file was edited, or a new one is older than what was applied */
export function pendingOf(
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

function limitsOf({ lockTimeoutMs, statementTimeoutMs }: MigrateOptions) {
  return {
    lockTimeoutMs: lockTimeoutMs ?? LOCK_TIMEOUT_MS,
    statementTimeoutMs: statementTimeoutMs ?? STATEMENT_TIMEOUT_MS,
  }
}
