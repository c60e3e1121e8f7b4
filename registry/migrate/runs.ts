import { randomUUID } from 'node:crypto'
import type { ClientBase } from 'pg'
import { publicFault } from '../lib/errors.ts'
import type { RegistryStore } from '../store.ts'
import type { TenantRow } from '../tenant-row.ts'

/** What a run was asked for, as the admin API takes it and the Registry keeps it. */
export interface RunOptions {
  /** Keys or ids; null: the fleet. */
  readonly tenants: readonly string[] | null
  readonly to: string | null
  readonly concurrency: number
  readonly per_host: number
  readonly canary: number
  /** A count or a share such as 2%; null: none stops it. */
  readonly max_failures: string | null
  readonly include_suspended: boolean
  readonly include_dedicated: boolean
  readonly laggards: boolean
  readonly rate_per_minute: number | null
  readonly retries: number
}

/** Of the row; `cancelling` is a run that was told to stop and finishes what it has begun. */
// biome-ignore format: one line
export const RUN_STATES = ['starting', 'running', 'cancelling', 'done', 'stopped', 'cancelled', 'interrupted'] as const
export type RunState = (typeof RUN_STATES)[number]

/** A run as it is shown. Times are of the Registry's clock. */
export interface MigrationRun {
  readonly id: string
  readonly state: RunState
  readonly startedBy: string
  readonly isFleet: boolean
  readonly options: RunOptions
  readonly retryOf: string | null
  readonly target: string | null
  readonly wave: string | null
  /** null: not chosen yet. */
  readonly tenants: number | null
  readonly ok: number
  readonly failed: number
  readonly skipped: number
  readonly revision: string
  readonly runner: string | null
  readonly problem: string | null
  readonly cancelledBy: string | null
  readonly startedAt: Date
  readonly beganAt: Date | null
  readonly heartbeatAt: Date
  readonly endedAt: Date | null
}

export interface NewRun {
  readonly id?: string
  readonly startedBy: string
  readonly isFleet: boolean
  readonly options: RunOptions
  readonly retryOf?: string | null
  /** Ids, where they are known already. */
  readonly selection?: readonly string[] | null
}

/** Of fleet runs, and as many of the others. */
export const RUNS_KEPT = 50
/** Without a heartbeat for so long a run is taken for dead: some of the runner's, which are a second apart. */
export const HEARTBEAT_STALE_S = 15
/** A process that starts on a busy machine. */
export const START_STALE_S = 60

const IS_DEAD = `(state = 'running' AND heartbeat_at < now() - interval '${HEARTBEAT_STALE_S} s'
  OR state = 'starting' AND heartbeat_at < now() - interval '${START_STALE_S} s')`
const IS_LIVE = `(state IN ('starting', 'running') AND NOT ${IS_DEAD})`

/** All but the selection, which may be of ten thousands. */
const COLUMNS = `id, CASE WHEN ${IS_DEAD} THEN 'interrupted'
    WHEN state = 'running' AND cancelled_by IS NOT NULL THEN 'cancelling' ELSE state END AS state,
  started_by AS "startedBy", is_fleet AS "isFleet", options, retry_of AS "retryOf", target, wave,
  cardinality(selection) AS tenants, ok, failed, skipped, revision, runner, problem, cancelled_by AS "cancelledBy",
  started_at AS "startedAt", began_at AS "beganAt", heartbeat_at AS "heartbeatAt", ended_at AS "endedAt"`

/** One at a time decides whether a run may begin. */
const LOCK_RUNS = `SELECT pg_advisory_xact_lock(hashtextextended('doorman migration runs', 0))`
const FIND_LIVE = `SELECT ${COLUMNS} FROM migration_runs WHERE is_fleet AND ${IS_LIVE} ORDER BY started_at LIMIT 1`
/** So that a runner that was only stunned hears of it at its next heartbeat, and stops. */
const GIVE_UP_DEAD = `
  UPDATE migration_runs SET state = 'interrupted', ended_at = now(), revision = revision + 1,
    problem = coalesce(problem, 'no heartbeat of its runner')
  WHERE is_fleet AND ${IS_DEAD}`
const ADD = `
  INSERT INTO migration_runs (id, state, started_by, is_fleet, options, retry_of, selection)
  VALUES ($1, 'starting', $2, $3, $4, $5, $6)`
/** At the begin of each run. What is under way stays; its row is what stops it. */
const PRUNE = `
  DELETE FROM migration_runs WHERE NOT ${IS_LIVE} AND id IN (
    SELECT id FROM (
      SELECT id, row_number() OVER (PARTITION BY is_fleet ORDER BY started_at DESC) AS place
      FROM migration_runs) AS placed
    WHERE place > ${RUNS_KEPT})`
const FIND = `SELECT ${COLUMNS} FROM migration_runs WHERE id = $1`
const LIST = `SELECT ${COLUMNS} FROM migration_runs ORDER BY started_at DESC LIMIT $1`
/** By the runner's process, once: a second one with the same id finds it taken. */
const CLAIM = `
  UPDATE migration_runs SET state = 'running', runner = $2, began_at = now(), heartbeat_at = now(),
    revision = revision + 1
  WHERE id = $1 AND state = 'starting' RETURNING options, selection`
/** By whoever started a process that ended without a word. */
const GIVE_UP = `
  UPDATE migration_runs SET state = 'interrupted', ended_at = now(), problem = $2, revision = revision + 1
  WHERE id = $1 AND state IN ('starting', 'running')`
/** The first who cancels is told. */
const CANCEL = `
  UPDATE migration_runs SET cancelled_by = coalesce(cancelled_by, $2), revision = revision + 1
  WHERE id = $1 AND ${IS_LIVE} RETURNING id`

/** Where the admin API shows a run. */
export function runPath(id: string): string {
  return `/api/admin/migrations/runs/${id}`
}

/** The run of the fleet that is under way, whoever started it. */
export async function findLiveRun(store: RegistryStore): Promise<MigrationRun | null> {
  const [row] = await store.query(FIND_LIVE, [])
  return row === undefined ? null : runOf(row)
}

export async function findRun(store: RegistryStore, id: string): Promise<MigrationRun | null> {
  const [row] = await store.query(FIND, [id])
  return row === undefined ? null : runOf(row)
}

/** The newest first. */
export async function listRuns(
  store: RegistryStore,
  limit: number,
): Promise<readonly MigrationRun[]> {
  return (await store.query(LIST, [limit])).map(runOf)
}

/** Notes a run that a runner begins beside whatever is under way. @returns its id */
export async function addRun(store: RegistryStore, run: NewRun): Promise<string> {
  return store.transaction(client => insertRun(client, run))
}

/**
 * In a transaction: notes a run of the fleet that is to begin, unless one is under way.
 *
 * @returns its id
 * @throws Fault CONFLICT that names the one under way
 */
export async function addOnlyRun(client: ClientBase, run: NewRun): Promise<string> {
  await client.query(LOCK_RUNS)
  const { rows } = await client.query<TenantRow>(FIND_LIVE)
  if (rows[0] !== undefined) {
    const live = runOf(rows[0])
    const text = `run ${live.id} is under way, started by ${live.startedBy}`
    const fields = ['location', runPath(live.id)]
    throw publicFault('CONFLICT', text, { fields })
  }
  await client.query(GIVE_UP_DEAD)
  return insertRun(client, run)
}

async function insertRun(client: ClientBase, run: NewRun): Promise<string> {
  const { id = randomUUID(), startedBy, isFleet, options, retryOf = null, selection = null } = run
  await client.query(ADD, [id, startedBy, isFleet, JSON.stringify(options), retryOf, selection])
  await client.query(PRUNE)
  return id
}

export interface ClaimedRun {
  readonly options: RunOptions
  readonly selection: readonly string[] | null
}

/** @returns null where it is not there, another process has it, or it was given up */
export async function claimRun(
  store: RegistryStore,
  id: string,
  runner: string,
): Promise<ClaimedRun | null> {
  const [row] = await store.query(CLAIM, [id, runner])
  return row === undefined ? null : (row as unknown as ClaimedRun)
}

export async function giveUpRun(store: RegistryStore, id: string, problem: string): Promise<void> {
  await store.query(GIVE_UP, [id, problem])
}

/** In a transaction. @returns false where it is not under way */
export async function cancelRun(client: ClientBase, id: string, by: string): Promise<boolean> {
  return (await client.query(CANCEL, [id, by])).rowCount === 1
}

function runOf(row: TenantRow): MigrationRun {
  return row as unknown as MigrationRun
}
