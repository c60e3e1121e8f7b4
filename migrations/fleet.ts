import {
  type MigrationWord,
  noteMigrations,
  setSchemaVersions,
} from '../registry/migration-note.ts'
import type { RegistryStore } from '../registry/store.ts'
import type { Tenant } from '../registry/tenant.ts'
import type { ListedTenant } from '../registry/tenant-list.ts'
import { MigrationError, type MigrationFile, readMigrations } from './files.ts'
import { overFleet, PACE, type Pace } from './over-fleet.ts'
import { Recorder } from './recorder.ts'
import { RETRIES, type Retries, withRetries } from './retry.ts'
import { type MigrateOptions, type MigrateResult, migrate, type Phases } from './runner.ts'
import { codeOf, type DatabaseAccess, reasonOf, sessionOf } from './tenant-database.ts'
import { type FailureLimit, isOver, planWaves, type Wave } from './waves.ts'

export interface FleetOptions extends DatabaseAccess {
  readonly store: Pick<RegistryStore, 'query'>
  readonly tenants: readonly ListedTenant[]
  /** Folder of the tenant migrations. */
  readonly directory: string
  /** What is done with each: `migrate` where absent, or another that brings a database to a version. */
  readonly run?: (options: MigrateOptions) => Promise<MigrateResult>
  readonly to?: string | null
  readonly pace?: Pace
  readonly retries?: Retries
  readonly runnerWaitMs?: number
  readonly lockTimeoutMs?: number
  /** Tenants that go first, alone; 0: none. */
  readonly canaries?: number
  /** More failures stop the run; null: none do. */
  readonly maxFailures?: FailureLimit | null
  /** Row of this run in the Registry; absent: it has none. */
  readonly runId?: string
  readonly onWave?: (wave: Wave) => void
  readonly onDone: (outcome: TenantOutcome) => void
}

export interface TenantOutcome {
  readonly tenant: ListedTenant
  readonly result: 'ok' | 'failed' | 'skipped'
  readonly before: string | null
  readonly after: string | null
  /** Files applied. */
  readonly applied: number
  readonly attempts: number
  readonly durationMs: number
  /** Of the attempt that went well; null: none did. */
  readonly phases: Phases | null
  /** Why it failed or was skipped, or what the migration warned of. */
  readonly note: string | null
}

export interface FleetResult {
  readonly ok: number
  readonly failed: number
  readonly skipped: number
  /** Not begun: the run was stopped before. */
  readonly left: number
  readonly stoppedBy: 'failures' | 'signal' | null
}

/**
 * Migrates the tenants' databases, each with the tenant's own role; one that fails does not stop the others,
 * unless `maxFailures` or a canary says so. What runs is finished in any case. Archived tenants are skipped.
 *
 * @throws Error where the Registry cannot be told how it went
 */
export async function migrateFleet(options: FleetOptions): Promise<FleetResult> {
  const { pace = PACE, maxFailures = null } = options
  const files = await readMigrations(options.directory)
  const counts = { ok: 0, failed: 0, skipped: 0 }
  const recorder = new Recorder({
    noteMigrations: notes => noteMigrations(options.store, notes),
    setSchemaVersions: versions => setSchemaVersions(options.store, versions),
  })
  const total = options.tenants.length
  const tooMany = new AbortController()
  const signals = pace.signal ? [pace.signal, tooMany.signal] : [tooMany.signal]
  const signal = AbortSignal.any(signals)
  let left = 0
  try {
    for (const wave of planWaves(options.tenants, options.canaries ?? 0)) {
      if (signal.aborted) {
        left += wave.tenants.length
        continue
      }
      options.onWave?.(wave)
      const before = { ...counts }
      const notBegun = await overFleet(wave.tenants, { ...pace, signal }, async listed => {
        const outcome = await migrateTenant({ ...options, files }, listed, recorder, signal)
        counts[outcome.result] += 1
        options.onDone(outcome)
        if (isOver(maxFailures, counts.failed, total, wave.name)) tooMany.abort()
      })
      left += notBegun.length
      // By the wave's own size too: half of a tenth of the fleet must not pass for five per cent of it.
      const failed = counts.failed - before.failed
      if (isOver(maxFailures, failed, wave.tenants.length, wave.name)) tooMany.abort()
    }
  } finally {
    await recorder.close()
  }
  const stoppedBy = pace.signal?.aborted ? 'signal' : tooMany.signal.aborted ? 'failures' : null
  return { ...counts, left, stoppedBy: left === 0 ? null : stoppedBy }
}

interface Running extends FleetOptions {
  /** Read once, and not for each tenant. */
  readonly files: readonly MigrationFile[]
}

async function migrateTenant(
  options: Running,
  listed: ListedTenant,
  recorder: Recorder,
  signal: AbortSignal,
): Promise<TenantOutcome> {
  const startedAt = new Date()
  const startedMs = performance.now()
  let attempts = 0
  const done = (result: TenantOutcome['result'], note: string | null, run?: MigrateResult) => ({
    ...{ tenant: listed, result, attempts, note },
    // The database's word where it was asked; what the Registry noted is a memory of it.
    before: run === undefined ? (listed.tenant?.schemaVersion ?? null) : run.before,
    after: run?.after ?? null,
    applied: run?.applied.length ?? 0,
    durationMs: Math.round(performance.now() - startedMs),
    phases: run?.phases ?? null,
  })
  const tell = (
    state: MigrationWord,
    version: string | null,
    outcome: TenantOutcome | null,
    code: string | null = null,
  ) =>
    recorder.note({
      ...{ id: listed.id, version, state, attempts, startedAt, code },
      runId: options.runId ?? null,
      error: state === 'failed' ? (outcome?.note ?? null) : null,
      applied: outcome?.applied ?? 0,
      durationMs: outcome?.durationMs ?? null,
    })
  const { tenant } = listed
  if (listed.status === 'archived') return done('skipped', 'archived')
  if (tenant === null) {
    const outcome = done('failed', listed.problem)
    tell('failed', null, outcome, 'TENANT_CONFIG_INVALID')
    return outcome
  }
  tell('running', null, null)
  try {
    const run = await withRetries({ ...(options.retries ?? RETRIES), signal }, attempt => {
      attempts = attempt
      return (options.run ?? migrate)(runOptions(options, tenant))
    })
    const outcome = done('ok', noteOf(listed, run), run)
    tell('ok', run.after, outcome)
    if (run.after !== tenant.schemaVersion) recorder.version(tenant.id, run.after)
    return outcome
  } catch (error) {
    const outcome = done('failed', reasonOf(error))
    const reached = error instanceof MigrationError ? error.reached : undefined
    tell('failed', reached ?? null, outcome, codeOf(error))
    // Files before the one that failed stay applied.
    if (reached !== undefined && reached !== tenant.schemaVersion) {
      recorder.version(tenant.id, reached)
    }
    return outcome
  }
}

function runOptions(options: Running, tenant: Tenant): MigrateOptions {
  const { files, directory, to = null, runnerWaitMs, lockTimeoutMs } = options
  return {
    ...sessionOf(options, tenant),
    ...{ files, directory, to },
    ...(runnerWaitMs !== undefined && { runnerWaitMs }),
    ...(lockTimeoutMs !== undefined && { lockTimeoutMs }),
  }
}

function noteOf({ status }: ListedTenant, run: MigrateResult): string | null {
  const notes = [...run.warnings]
  if (run.isAhead) notes.push('newer than this release')
  if (status !== 'active') notes.push(status)
  return notes.length === 0 ? null : notes.join('; ')
}
