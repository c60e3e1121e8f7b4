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
const TRY_LOCK = `SELECT pg_try_advisory_lock(${RUNNER_LOCK}) AS held`
const READ_APPLIED =
  'SELECT version, name, checksum FROM doorman_migrations ORDER BY version COLLATE "C"'
const UNDEFINED_TABLE = '42P01'

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
  await untilHeld(waitMs, async () => {
    const { rows } = await client.query<{ held: boolean }>(TRY_LOCK)
    return rows[0]?.held === true ? true : null
  })
}

/**
 * What was applied, and the lock, in one round trip where no other runner is there. Where `isEnough` says of what was applied
 * that nothing is left to do, the lock of another is not waited for.
 *
 * @returns null where nothing was ever applied, not even the table of records is there; the lock is not held then
 * @throws MigrationError as `lockRunner`
 */
export async function lockAndPeek(
  client: Client,
  waitMs = RUNNER_WAIT_MS,
  isEnough: (applied: readonly AppliedMigration[]) => boolean,
): Promise<readonly AppliedMigration[] | null> {
  try {
    return await untilHeld(waitMs, async () => {
      // The second statement has a snapshot of its own: what the runner that had the lock before did is in it.
      const results = await client.query(`${TRY_LOCK};${READ_APPLIED}`)
      const [lock, records] = results as unknown as readonly [
        { readonly rows: readonly { readonly held: boolean }[] },
        { readonly rows: readonly AppliedMigration[] },
      ]
      return lock.rows[0]?.held === true || isEnough(records.rows) ? records.rows : null
    })
  } catch (error) {
    if ((error as { code?: string }).code === UNDEFINED_TABLE) return null
    throw error
  }
}

/** Asks again and again, until the answer is not null. */
async function untilHeld<T>(waitMs: number, ask: () => Promise<T | null>): Promise<T> {
  const deadline = performance.now() + waitMs
  for (;;) {
    const answer = await ask()
    if (answer !== null) return answer
    if (performance.now() >= deadline) {
      throw new MigrationError(`another runner has held this database for ${waitMs} ms`)
    }
    await delay(LOCK_POLL_MS)
  }
}

/** What was applied; null: nothing ever, not even the table of records. */
export async function peekApplied(client: Client): Promise<readonly AppliedMigration[] | null> {
  try {
    return (await client.query<AppliedMigration>(READ_APPLIED)).rows
  } catch (error) {
    if ((error as { code?: string }).code === UNDEFINED_TABLE) return null
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
