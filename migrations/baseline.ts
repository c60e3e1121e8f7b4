import type { Client } from 'pg'
import { MigrationError, type MigrationFile, readMigrations, upTo } from './files.ts'
import type { MigrateOptions, MigrateResult } from './runner.ts'
import { lockRunner, peekApplied, readApplied, withSession } from './session.ts'

export interface BaselineOptions extends MigrateOptions {
  /** The newest version whose work the older tool has done already. */
  readonly to: string
  /** Name that must be in the older tool's record: a database that it left behind is no baseline. */
  readonly expect: string | null
}

/**
 * Notes the migrations up to `to` as applied, without running them, in a database that the older tool migrated
 * (its record is the table `SequelizeMeta`, which is left as it is). One that has a record of ours stays as it is.
 *
 * @throws MigrationError where the older tool left no record, or `expect` is not in it
 */
export async function baseline(options: BaselineOptions): Promise<MigrateResult> {
  const all = options.files ?? (await readMigrations(options.directory))
  const files = upTo(all, options.to)
  return withSession(options, async client => {
    const present = await peekApplied(client)
    if (present !== null && present.length > 0) return unchanged(present.at(-1)?.version ?? null)
    await lockRunner(client, options.runnerWaitMs)
    const own = await readApplied(client)
    if (own.length > 0) return unchanged(own.at(-1)?.version ?? null)
    await requireOlderRecord(client, options.expect)
    await client.query(
      `INSERT INTO doorman_migrations (version, name, checksum, duration_ms)
       SELECT *, 0 FROM unnest($1::text[], $2::text[], $3::text[])`,
      [column(files, 'version'), column(files, 'name'), column(files, 'checksum')],
    )
    const applied = files.map(({ name }) => ({ file: name, durationMs: 0 }))
    return { before: null, after: options.to, applied, warnings: [], isAhead: false }
  })
}

async function requireOlderRecord(client: Client, expect: string | null): Promise<void> {
  const older = await client
    .query<{ name: string }>('SELECT name FROM "SequelizeMeta" ORDER BY name')
    .catch((error: { code?: string }) => {
      if (error.code !== '42P01') throw error
      throw new MigrationError('no SequelizeMeta: the older tool has not migrated this database')
    })
  const names = older.rows.map(({ name }) => name)
  if (names.length === 0) throw new MigrationError('SequelizeMeta is empty')
  if (expect !== null && !names.includes(expect)) {
    throw new MigrationError(`${expect} is not in SequelizeMeta, the last one is ${names.at(-1)}`)
  }
}

function unchanged(version: string | null): MigrateResult {
  const warnings = ['has a record of its own already']
  return { before: version, after: version, applied: [], warnings, isAhead: false }
}

function column(files: readonly MigrationFile[], name: 'version' | 'name' | 'checksum') {
  return files.map(file => file[name])
}
