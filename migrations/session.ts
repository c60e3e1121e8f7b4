import { setTimeout as delay } from 'node:timers/promises'
import type { Client } from 'pg'
import type { AddressPolicy } from '../registry/lib/address.ts'
import { closePg, connectPg, type PgTarget } from '../registry/lib/pg.ts'
import { MigrationError } from './files.ts'

/** Wait for a lock on a table that live traffic uses, before the migration gives way (DESIGN 5). */
export const LOCK_TIMEOUT_MS = 5_000
/** A single statement of a migration may run this long. */
export const STATEMENT_TIMEOUT_MS = 10 * 60_000
/** How long a runner waits for another one that works on the same database. */
const RUNNER_WAIT_MS = 60_000
const LOCK_POLL_MS = 100
const CONNECT_TIMEOUT_MS = 3_000
/** Any constant will do; it keeps our lock apart from those of other tools. */
const RUNNER_LOCK = "hashtextextended('doorman_migrations', 0)"

export interface SessionOptions {
  readonly target: PgTarget
  readonly connectTimeoutMs?: number
  readonly lockTimeoutMs?: number
  readonly statementTimeoutMs?: number
  readonly runnerWaitMs?: number
  /** Where the database may be; absent or null: anywhere. */
  readonly addressPolicy?: AddressPolicy | null
}

export interface AppliedMigration {
  readonly version: string
  readonly name: string
  readonly checksum: string
}

/** A connection of the runner for the time of `work`, closed on every path. */
export async function withSession<T>(
  options: SessionOptions,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const client = await connectPg(options.target, {
    connectTimeoutMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    statementTimeoutMs: options.statementTimeoutMs ?? STATEMENT_TIMEOUT_MS,
    lockTimeoutMs: options.lockTimeoutMs ?? LOCK_TIMEOUT_MS,
    applicationName: 'doorman-migrate',
    addressPolicy: options.addressPolicy ?? null,
  })
  try {
    return await work(client)
  } finally {
    // The session's end also gives the advisory lock back.
    await closePg(client)
  }
}

/**
 * Takes the database for this session alone. Asked for again and again and not waited for in the server: a
 * statement that waits holds a snapshot, and CREATE INDEX CONCURRENTLY of the other runner would wait for it.
 *
 * @throws MigrationError where another runner still has it after `waitMs`
 */
export async function lockRunner(client: Client, waitMs = RUNNER_WAIT_MS): Promise<void> {
  const deadline = performance.now() + waitMs
  for (;;) {
    const { rows } = await client.query<{ held: boolean }>(
      `SELECT pg_try_advisory_lock(${RUNNER_LOCK}) AS held`,
    )
    if (rows[0]?.held === true) return
    if (performance.now() >= deadline) {
      throw new MigrationError(`another runner has held this database for ${waitMs} ms`)
    }
    await delay(LOCK_POLL_MS)
  }
}

const READ_APPLIED =
  'SELECT version, name, checksum FROM doorman_migrations ORDER BY version COLLATE "C"'

/** What was applied; null: nothing ever, not even the table of records. */
export async function peekApplied(client: Client): Promise<readonly AppliedMigration[] | null> {
  try {
    return (await client.query<AppliedMigration>(READ_APPLIED)).rows
  } catch (error) {
    if ((error as { code?: string }).code === '42P01') return null
    throw error
  }
}

/** The same under the lock, the table being made where it is missing. */
export async function readApplied(client: Client): Promise<readonly AppliedMigration[]> {
  // One round trip; several statements give several results, which the types do not know.
  const results = (await client.query(`
    CREATE TABLE IF NOT EXISTS doorman_migrations (
      version text PRIMARY KEY,
      name text NOT NULL,
      checksum text NOT NULL,
      applied_at timestamptz NOT NULL DEFAULT now(),
      duration_ms integer NOT NULL
    );
    ${READ_APPLIED}`)) as unknown as readonly { rows: AppliedMigration[] }[]
  return results.at(-1)?.rows ?? []
}
