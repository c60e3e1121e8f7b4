import type { TenantRow } from './tenant-row.ts'

export type MigrationWord = 'running' | 'ok' | 'failed'

/** What the fleet runner writes of one attempt at a tenant's database. */
export interface MigrationNote {
  /** The tenant's. */
  readonly id: string
  /** Of the database, by its own record; null: none, or where it failed not known. */
  readonly version: string | null
  readonly state: MigrationWord
  readonly error: string | null
  readonly attempts: number
  /** Files applied. */
  readonly applied: number
  readonly startedAt: Date
  readonly durationMs: number | null
  /** Of the row in migration_runs; null: none. */
  readonly runId: string | null
  /** Of the error: SQLSTATE, errno, or a word of the runner. */
  readonly code: string | null
}

/** A tenant as the fleet's status shows it. */
export interface MigrationState {
  readonly id: string
  readonly key: string
  readonly mode: string
  readonly status: string
  readonly schemaVersion: string | null
  /** null: no runner was here yet. */
  readonly state: MigrationWord | null
  readonly error: string | null
  readonly attempts: number
  readonly applied: number
  readonly startedAt: Date | null
  readonly durationMs: number | null
}

export function readMigrationState(row: TenantRow): MigrationState {
  return {
    id: String(row.id),
    key: String(row.tenant_key),
    mode: String(row.mode),
    status: String(row.status),
    schemaVersion: row.schema_version === null ? null : String(row.schema_version),
    state: row.state as MigrationWord | null,
    error: row.error === null ? null : String(row.error),
    attempts: Number(row.attempts ?? 0),
    applied: Number(row.applied ?? 0),
    startedAt: row.started_at instanceof Date ? row.started_at : null,
    durationMs: row.duration_ms === null ? null : Number(row.duration_ms),
  }
}
