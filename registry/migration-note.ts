import type { RegistryStore } from './store.ts'
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

type Store = Pick<RegistryStore, 'query'>

const LIST_PAGE = 500

/**
 * After tenant migrations. It moves config_version like any other change, for gateways act on the schema
 * version; where it is the same already nothing is written. $1 ids, $2 versions.
 */
const SET_SCHEMA_VERSIONS = `
  UPDATE tenants SET schema_version = new.version
  FROM unnest($1::uuid[], $2::text[]) AS new (id, version)
  WHERE tenants.id = new.id AND tenants.schema_version IS DISTINCT FROM new.version`

/**
 * The fleet runner's notes, some hundred at a time, and none of a tenant that is gone. A run that had nothing
 * to do leaves the note of the one that did. In the order of the key, so that two runners do not wait in a circle.
 */
const NOTE_MIGRATIONS = `
  INSERT INTO tenant_migrations AS present
    (tenant_id, version, state, error, attempts, applied, started_at, duration_ms, run_id)
  SELECT new.* FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[], $6::int[],
    $7::timestamptz[], $8::int[], $9::uuid[])
    AS new (tenant_id, version, state, error, attempts, applied, started_at, duration_ms, run_id)
  WHERE EXISTS (SELECT FROM tenants WHERE tenants.id = new.tenant_id)
  ORDER BY tenant_id
  ON CONFLICT (tenant_id) DO UPDATE SET state = excluded.state, error = excluded.error,
    version = CASE WHEN excluded.state = 'ok' THEN excluded.version
      ELSE coalesce(excluded.version, present.version) END,
    attempts = excluded.attempts, applied = excluded.applied, started_at = excluded.started_at,
    duration_ms = excluded.duration_ms, run_id = excluded.run_id, updated_at = now()
  WHERE excluded.applied > 0 OR excluded.state <> 'ok'
    OR (present.state, present.version) IS DISTINCT FROM (excluded.state, excluded.version)`

/** Of those notes what failed, kept for as long as its run is; a batch that is written again adds nothing. */
const ADD_MIGRATION_FAILURES = `
  INSERT INTO migration_failures (run_id, tenant_id, version, code, error, attempts)
  SELECT run_id, tenant_id, version, coalesce(code, 'UNKNOWN'), coalesce(error, ''), attempts
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[])
    AS new (run_id, tenant_id, version, state, code, error, attempts)
  WHERE state = 'failed' AND EXISTS (SELECT FROM migration_runs WHERE id = new.run_id)
  ORDER BY tenant_id
  ON CONFLICT (run_id, tenant_id) DO NOTHING`

/** Status of the fleet, one page. $1 after which key. */
const LIST_MIGRATIONS = `
  SELECT id, tenant_key, mode, status, schema_version, state, error, attempts, applied, started_at,
    duration_ms FROM tenants LEFT JOIN tenant_migrations ON tenant_id = id
  WHERE $1::text IS NULL OR tenant_key::text > $1
  ORDER BY tenant_key::text LIMIT $2`

/** At the begin of a run: notes of tenants that were deleted. */
const PRUNE_MIGRATIONS = `
  DELETE FROM tenant_migrations
  WHERE NOT EXISTS (SELECT FROM tenants WHERE tenants.id = tenant_migrations.tenant_id)`

/** Moves `schema_version` where it is another one; each that moves is told to the gateways. */
export async function setSchemaVersions(
  store: Store,
  versions: ReadonlyMap<string, string | null>,
): Promise<void> {
  await store.query(SET_SCHEMA_VERSIONS, [[...versions.keys()], [...versions.values()]])
}

/** Notes of the fleet runner. They move no version, and go unnoticed by gateways. */
export async function noteMigrations(store: Store, notes: readonly MigrationNote[]): Promise<void> {
  const column = <K extends keyof MigrationNote>(name: K) => notes.map(note => note[name])
  // First, so that no note tells of a failure that its run does not have.
  if (notes.some(({ state, runId }) => state === 'failed' && runId !== null)) {
    await store.query(ADD_MIGRATION_FAILURES, [
      ...[column('runId'), column('id'), column('version'), column('state'), column('code')],
      ...[column('error'), column('attempts')],
    ])
  }
  await store.query(NOTE_MIGRATIONS, [
    ...[column('id'), column('version'), column('state'), column('error')],
    ...[column('attempts'), column('applied'), column('startedAt'), column('durationMs')],
    column('runId'),
  ])
}

/** What is noted of each tenant, in order of their keys, page by page. */
export async function* migrationStates(
  store: Store,
): AsyncGenerator<MigrationState, void, undefined> {
  let after: string | null = null
  for (;;) {
    const rows: readonly TenantRow[] = await store.query(LIST_MIGRATIONS, [after, LIST_PAGE])
    for (const row of rows) yield readMigrationState(row)
    if (rows.length < LIST_PAGE) return
    after = String(rows.at(-1)?.tenant_key)
  }
}

/** Removes notes of tenants that are gone. */
export async function pruneMigrations(store: Store): Promise<void> {
  await store.query(PRUNE_MIGRATIONS, [])
}

function readMigrationState(row: TenantRow): MigrationState {
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
