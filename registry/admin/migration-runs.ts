import { Fault, publicFault } from '../lib/errors.ts'
import { type Leftover, leftoverOf, listFailures } from '../migrate/failures.ts'
import type { RunLauncher } from '../migrate/launcher.ts'
import { releaseVersions } from '../migrate/release.ts'
import {
  addOnlyRun,
  cancelRun,
  findLiveRun,
  findRun,
  listRuns,
  type MigrationRun,
  type RunOptions,
  type RunState,
} from '../migrate/runs.ts'
import type { Actor } from './actor.ts'
import { addAudit } from './audit.ts'
import type { AdminDeps } from './deps.ts'
import { wrongField } from './fields.ts'

/** A run as the API shows it. */
export interface RunItem {
  readonly id: string
  readonly state: RunState
  readonly started_by: string
  readonly retry_of: string | null
  readonly options: RunOptions
  readonly target: string | null
  readonly wave: string | null
  /** null: not chosen yet. */
  readonly tenants: number | null
  readonly ok: number
  readonly failed: number
  readonly skipped: number
  /** null: not chosen yet. */
  readonly left: number | null
  /** Tenants a second since it began; null: none is done. */
  readonly rate_per_s: number | null
  /** Seconds until the end at that speed; null: it is not under way, or nobody can say. */
  readonly eta_s: number | null
  readonly runner: string | null
  readonly problem: string | null
  readonly cancelled_by: string | null
  readonly started_at: string
  readonly began_at: string | null
  readonly heartbeat_at: string
  readonly ended_at: string | null
}

export interface FailureItem {
  readonly tenant_id: string
  readonly tenant_key: string | null
  readonly version: string | null
  readonly code: string
  readonly error: string
  readonly attempts: number
  readonly at: string
}

export interface FailurePage {
  readonly items: readonly FailureItem[]
  readonly limit: number
  readonly next_cursor: string | null
}

type Deps = Pick<AdminDeps, 'store' | 'migrations'>

/**
 * Tenants that the body names, by id or key: which of them is there. Two joins, for with one by either of the two every name
 * is compared with every tenant.
 */
const FIND_TENANTS = `
  SELECT asked, coalesce(by_id.id, by_key.id) AS id FROM unnest($1::text[]) AS asked
  LEFT JOIN tenants AS by_id ON by_id.id::text = lower(asked)
  LEFT JOIN tenants AS by_key ON by_key.tenant_key::text = asked`

/**
 * Notes a run and starts its process; the answer does not wait for it.
 *
 * @throws Fault CONFLICT where a run of the fleet is under way, VALIDATION_FAILED, SHUTTING_DOWN
 */
export async function startMigrationRun(
  deps: Deps,
  actor: Actor,
  options: RunOptions,
): Promise<RunItem> {
  const { launcher } = migrationsOf(deps)
  launcher.requireOpen()
  if (options.to !== null && !(await releaseVersions()).includes(options.to)) {
    throw wrongField('to', 'must be a migration of this release')
  }
  const selection = options.tenants === null ? null : await tenantIds(deps, options.tenants)
  const id = await deps.store.transaction(async client => {
    const run = { startedBy: actor.name, isFleet: true, options, selection }
    const made = await addOnlyRun(client, run)
    await addAudit(client, { actor, action: 'migration.start', details: { run: made, ...options } })
    return made
  })
  return begun(deps, launcher, id)
}

/**
 * A new run, with the same options, for what a run left: what failed, and where it died all that it did not do.
 *
 * @throws Fault NOT_FOUND, CONFLICT where one is under way or nothing is left, SHUTTING_DOWN
 */
export async function retryMigrationRun(
  deps: Deps,
  actor: Actor,
  id: string,
  which: Leftover | null,
): Promise<RunItem> {
  const { launcher } = migrationsOf(deps)
  launcher.requireOpen()
  const old = await requireRun(deps, id)
  const retried = which ?? (old.state === 'interrupted' ? 'unfinished' : 'failed')
  const made = await deps.store.transaction(async client => {
    const selection = await leftoverOf(client, id, retried)
    if (selection?.length === 0) throw publicFault('CONFLICT', `run ${id} left nothing ${retried}`)
    const { options } = old
    const run = { startedBy: actor.name, isFleet: true, options, retryOf: id, selection }
    const next = await addOnlyRun(client, run)
    const details = { run: next, retry_of: id, what: retried, tenants: selection?.length ?? null }
    await addAudit(client, { actor, action: 'migration.retry', details })
    return next
  })
  return begun(deps, launcher, made)
}

/**
 * What runs is finished, and nothing more begun. Also a run of the command line; again it changes nothing.
 *
 * @throws Fault NOT_FOUND, CONFLICT where it is not under way
 */
export async function cancelMigrationRun(deps: Deps, actor: Actor, id: string): Promise<RunItem> {
  const run = await requireRun(deps, id)
  if (run.state === 'cancelling') return runItem(run)
  await deps.store.transaction(async client => {
    if (!(await cancelRun(client, id, actor.name))) {
      throw publicFault('CONFLICT', `run ${id} is ${run.state}: there is nothing to cancel`)
    }
    await addAudit(client, { actor, action: 'migration.cancel', details: { run: id } })
  })
  return runItem(await requireRun(deps, id))
}

/** @throws Fault NOT_FOUND */
export async function getMigrationRun(deps: Deps, id: string): Promise<RunItem> {
  return runItem(await requireRun(deps, id))
}

/** The newest first. */
export async function listMigrationRuns(
  { store }: Deps,
  limit: number,
): Promise<readonly RunItem[]> {
  return (await listRuns(store, limit)).map(runItem)
}

/** The one of the fleet that is under way. */
export async function liveMigrationRun({ store }: Deps): Promise<RunItem | null> {
  const live = await findLiveRun(store)
  return live && runItem(live)
}

/** @throws Fault NOT_FOUND, VALIDATION_FAILED on a strange cursor */
export async function migrationFailures(
  deps: Deps,
  id: string,
  { limit, cursor }: { readonly limit: number; readonly cursor?: string | undefined },
): Promise<FailurePage> {
  if (cursor !== undefined && !/^\d{1,18}$/.test(cursor)) {
    throw wrongField('cursor', 'must be next_cursor of a page')
  }
  await requireRun(deps, id)
  const found = await listFailures(deps.store, id, cursor ?? null, limit + 1)
  const items = found.slice(0, limit)
  const next = found.length > limit ? (items.at(-1)?.seq ?? null) : null
  return { items: items.map(failureItem), limit, next_cursor: next }
}

export function failureItem(
  failure: Awaited<ReturnType<typeof listFailures>>[number],
): FailureItem {
  const { tenantId, tenantKey, version, code, error, attempts, at } = failure
  return {
    ...{ tenant_id: tenantId, tenant_key: tenantKey, version, code, error, attempts },
    at: at.toISOString(),
  }
}

export function runItem(run: MigrationRun): RunItem {
  const { ok, failed, skipped, tenants, beganAt, heartbeatAt, endedAt } = run
  const done = ok + failed + skipped
  const left = tenants === null ? null : Math.max(0, tenants - done)
  const seconds = beganAt === null ? 0 : (heartbeatAt.getTime() - beganAt.getTime()) / 1000
  const rate = done > 0 && seconds > 0 ? done / seconds : null
  const isLive = run.state === 'running'
  return {
    ...{ id: run.id, state: run.state, started_by: run.startedBy, retry_of: run.retryOf },
    ...{ options: run.options, target: run.target, wave: run.wave },
    ...{ tenants, ok, failed, skipped, left },
    rate_per_s: rate === null ? null : Math.round(rate * 100) / 100,
    eta_s: isLive && rate !== null && left !== null ? Math.ceil(left / rate) : null,
    ...{ runner: run.runner, problem: run.problem, cancelled_by: run.cancelledBy },
    started_at: run.startedAt.toISOString(),
    began_at: beganAt?.toISOString() ?? null,
    heartbeat_at: heartbeatAt.toISOString(),
    ended_at: endedAt?.toISOString() ?? null,
  }
}

/** @throws Fault NOT_FOUND */
export async function requireRun({ store }: Deps, id: string): Promise<MigrationRun> {
  const run = await findRun(store, id)
  if (run === null) throw new Fault('NOT_FOUND', `no run ${id}`)
  return run
}

/** @throws Fault INTERNAL in a process that starts none, as the command line */
export function migrationsOf({ migrations }: Deps): NonNullable<AdminDeps['migrations']> {
  if (migrations === undefined) throw new Fault('INTERNAL', 'no launcher of runs')
  return migrations
}

async function begun(deps: Deps, launcher: RunLauncher, id: string): Promise<RunItem> {
  await launcher.launch(id)
  return runItem(await requireRun(deps, id))
}

/** @throws Fault VALIDATION_FAILED naming one that is not there */
export async function tenantIds(
  { store }: Pick<AdminDeps, 'store'>,
  names: readonly string[],
): Promise<readonly string[]> {
  const rows = await store.query(FIND_TENANTS, [names])
  const unknown = rows.find(({ id }) => id === null)
  if (unknown !== undefined) throw wrongField('tenants', `there is no ${unknown.asked}`)
  return [...new Set(rows.map(({ id }) => String(id)))]
}
