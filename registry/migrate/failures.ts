import type { ClientBase } from 'pg'
import type { RegistryStore } from '../store.ts'
import { findRun } from './runs.ts'

/** What a run could not do. */
export interface MigrationFailure {
  readonly seq: string
  readonly tenantId: string
  /** null: the tenant is gone. */
  readonly tenantKey: string | null
  /** That the database had reached; null: not known. */
  readonly version: string | null
  readonly code: string
  readonly error: string
  readonly attempts: number
  readonly at: Date
}

/** Which tenants a retry is for: those that failed, or all that the run did not do. */
export type Leftover = 'failed' | 'unfinished'

/** Index migration_failures_seq. */
const LIST = `
  SELECT seq, f.tenant_id AS "tenantId", tenant_key AS "tenantKey", version, code, error, attempts, at
  FROM migration_failures f LEFT JOIN tenants ON id = f.tenant_id
  WHERE run_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`
/** Of a run that is gone: where its runner was. As many as ran at once. */
const LIST_CUT_OFF = `
  SELECT '0' AS seq, m.tenant_id AS "tenantId", tenant_key AS "tenantKey", m.version, 'INTERRUPTED' AS code,
    'the runner was gone before it ended' AS error, m.attempts, m.started_at AS at
  FROM tenant_migrations m LEFT JOIN tenants ON id = m.tenant_id
  WHERE m.run_id = $1 AND m.state = 'running' ORDER BY m.tenant_id LIMIT 1000`
const FAILED = `
  SELECT tenant_id FROM migration_failures WHERE run_id = $1
  UNION SELECT tenant_id FROM tenant_migrations WHERE run_id = $1 AND state = 'running'`
/** Where nothing was to do the note is of an earlier run: such a tenant is asked once more, and has nothing to do. */
const UNFINISHED = `
  SELECT unnest(selection) AS tenant_id FROM migration_runs WHERE id = $1
  EXCEPT SELECT tenant_id FROM tenant_migrations WHERE run_id = $1 AND state = 'ok'`
const HAS_SELECTION = 'SELECT selection IS NOT NULL AS has FROM migration_runs WHERE id = $1'

/** A page in the order of writing, after `seq`; those that a dead runner left begun stand before the first. */
export async function listFailures(
  store: RegistryStore,
  runId: string,
  after: string | null,
  limit: number,
): Promise<readonly MigrationFailure[]> {
  const found = await store.query(LIST, [runId, after ?? '0', limit])
  const failures = found as unknown as readonly MigrationFailure[]
  if (after !== null || (await findRun(store, runId))?.state !== 'interrupted') return failures
  const cutOff = await store.query(LIST_CUT_OFF, [runId])
  return [...(cutOff as unknown as readonly MigrationFailure[]), ...failures]
}

/** @returns ids; null: the run had chosen none yet, and all of it is left */
export async function leftoverOf(
  client: ClientBase,
  runId: string,
  which: Leftover,
): Promise<readonly string[] | null> {
  const { rows } = await client.query<{ has: boolean }>(HAS_SELECTION, [runId])
  if (rows[0]?.has !== true) return which === 'failed' ? [] : null
  const sql = which === 'failed' ? FAILED : UNFINISHED
  const left = await client.query<{ tenant_id: string }>(sql, [runId])
  return left.rows.map(row => row.tenant_id)
}
