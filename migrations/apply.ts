import type { Client } from 'pg'
import { messageForLog } from '../registry/lib/log-error.ts'
import { MigrationError, type MigrationFile, type Script } from './files.ts'
import { dropInvalidIndexes, requireValidIndexes, statementsOf } from './no-transaction.ts'

export interface ApplyLimits {
  readonly lockTimeoutMs: number
  readonly statementTimeoutMs: number
}

/** For the client's own deadline: a file may have this many statements that each take as long as they may. */
const STATEMENTS_COUNTED_MAX = 100

/** @throws MigrationError naming the file; what it did is undone, unless it runs without a transaction */
export async function applyUp(client: Client, file: MigrationFile, limits: ApplyLimits) {
  await apply(client, file, recordOf(file), limits)
}

/** As `applyUp`, with the file's down script, and its record goes. */
export async function applyDown(client: Client, file: MigrationFile, limits: ApplyLimits) {
  if (file.down === null) throw new MigrationError(`${file.name}: it has no .down.sql`)
  const forget = `DELETE FROM doorman_migrations WHERE version = '${file.version}'`
  await apply(client, file.down, forget, limits)
}

/** Version and name are of FILE_NAME's alphabet, the checksum is hexadecimal: nothing needs quoting. */
function recordOf({ version, name, checksum }: MigrationFile): string {
  const duration = '(extract(epoch FROM clock_timestamp() - now()) * 1000)::integer'
  return `INSERT INTO doorman_migrations (version, name, checksum, duration_ms)
    VALUES ('${version}', '${name}', '${checksum}', ${duration})`
}

async function apply(client: Client, script: Script, record: string, standard: ApplyLimits) {
  const limits = {
    lockTimeoutMs: script.lockTimeoutMs ?? standard.lockTimeoutMs,
    statementTimeoutMs: script.statementTimeoutMs ?? standard.statementTimeoutMs,
  }
  try {
    await (script.isTransactional ? inTransaction : byStatement)(client, script, record, limits)
  } catch (error) {
    const text = error instanceof MigrationError ? error.message : messageForLog(error)
    throw new MigrationError(`${script.name}: ${text}`, { cause: error })
  }
}

async function inTransaction(client: Client, { sql }: Script, record: string, limits: ApplyLimits) {
  const count = Math.min(STATEMENTS_COUNTED_MAX, sql.split(';').length)
  try {
    // One message, and so one round trip. Settings of the file's own (as pg_dump writes them) must not
    // hide the table of records, nor reach the next file.
    await client.query({
      text: `BEGIN;${settings(limits, 'LOCAL ')}\n${sql}\n;RESET ROLE;RESET search_path;${record};COMMIT;RESET ALL`,
      query_timeout: limits.statementTimeoutMs * count + 1000,
    } as { text: string })
  } catch (error) {
    // Where the connection is gone, the server rolls back by itself.
    await client.query('ROLLBACK').catch(() => {})
    throw error
  }
}

async function byStatement(client: Client, script: Script, record: string, limits: ApplyLimits) {
  const { sql } = script
  if (sql.includes('$$')) throw new MigrationError('$$ is not possible without a transaction')
  const send = (text: string) =>
    client.query({ text, query_timeout: limits.statementTimeoutMs + 1000 } as { text: string })
  await client.query(settings(limits))
  try {
    await dropInvalidIndexes(client, sql)
    for (const text of statementsOf(sql)) await send(text)
    await requireValidIndexes(client, sql)
    await client.query(`RESET ROLE;RESET search_path;${record}`)
  } finally {
    await client.query('RESET ALL').catch(() => {})
  }
}

function settings({ lockTimeoutMs, statementTimeoutMs }: ApplyLimits, scope = ''): string {
  const whole = (ms: number) => Math.max(1, Math.floor(ms))
  return (
    `SET ${scope}lock_timeout = ${whole(lockTimeoutMs)};` +
    `SET ${scope}statement_timeout = ${whole(statementTimeoutMs)};`
  )
}
