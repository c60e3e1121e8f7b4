import { readFile, writeFile } from 'node:fs/promises'
import type { PgTarget } from '../registry/lib/pg.ts'
import { findLiveRun } from '../registry/migrate/runs.ts'
import { migrationStates, pruneMigrations } from '../registry/migration-note.ts'
import type { RegistryStore } from '../registry/store.ts'
import type { ListedTenant } from '../registry/tenant-list.ts'
import { baseline } from './baseline.ts'
import { readMigrations, upTo } from './files.ts'
import { type Fingerprint, fingerprint } from './fingerprint.ts'
import { type FleetOptions, type FleetResult, migrateFleet } from './fleet.ts'
import { lockFleet } from './fleet-lock.ts'
import { watchLaggards } from './laggards.ts'
import type { Options } from './options.ts'
import { planFleet, renderPlan } from './plan.ts'
import { recordRun, takeOverRun } from './recorded-run.ts'
import { jsonReport, textReport } from './report.ts'
import { RETRIES } from './retry.ts'
import { optionsOfRun } from './run-options.ts'
import type { RunRecord } from './run-record.ts'
import { migrateDown } from './runner.ts'
import { selectByIds, selectTenants } from './select-tenants.ts'
import { readStatus, renderStatus, statusForJson } from './status.ts'
import { type DatabaseAccess, reasonOf } from './tenant-database.ts'
import { verifyFleet } from './verify.ts'

export interface CommandContext extends DatabaseAccess {
  readonly options: Options
  readonly store: RegistryStore
  readonly registry: PgTarget
  readonly directory: string
  readonly signal: AbortSignal
  readonly terminal: Terminal
}

/** Where a command speaks, and whom it asks. */
export interface Terminal {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** Draws over the last line; null: what reads is no person. */
  readonly bar: ((text: string) => void) | null
  /** What a person answers; null: there is none. */
  readonly ask: (question: string) => Promise<string | null>
}

/** For scripts; USAGE tells them. */
const EXIT = { none: 0, some: 1, usage: 2, all: 3, stopped: 4 } as const

/** A run of the admin API ends by then, in order: nobody looks at it. */
const LAUNCHED_MS_MAX = 24 * 3_600_000

/** @returns the exit code */
export async function runCommand(context: CommandContext): Promise<number> {
  const { options } = context
  if (options.runId !== null) return launched(context, options.runId)
  const target = await targetOf(context)
  if (options.command === 'status') return status(context, target)
  if (options.command === 'verify') return verify(context, target)
  if (options.isPlan) return plan(context, target)
  if (options.command === 'down') return down(context)
  return fleet(context, target)
}

/** The version that a command leads to; null: there are no migrations. */
async function targetOf({ directory, options }: CommandContext): Promise<string | null> {
  const files = await readMigrations(directory)
  return upTo(files, options.to === '0000' ? null : options.to).at(-1)?.version ?? null
}

/** A run of the admin API. Its row is taken first, so that whatever fails from here on is told there. */
async function launched(context: CommandContext, runId: string): Promise<number> {
  const { store } = context
  const result = await takeOverRun(store, runId, async (record, claimed) => {
    const options = optionsOfRun(claimed.options)
    const signal = AbortSignal.any([context.signal, AbortSignal.timeout(LAUNCHED_MS_MAX)])
    const own: CommandContext = { ...context, options, signal }
    const lock = await lockFleet(context.registry, false)
    try {
      await pruneMigrations(store)
      const target = await targetOf(own)
      const { selection } = claimed
      const tenants =
        selection === null
          ? await selectTenants(store, options, target)
          : await selectByIds(store, selection)
      return await runOver(own, tenants, target, { record })
    } finally {
      await lock.release()
    }
  })
  if (result !== null) return exitCodeOf(result)
  context.terminal.err(`run ${runId} does not wait for a runner\n`)
  return EXIT.usage
}

async function fleet(context: CommandContext, target: string | null): Promise<number> {
  const { options, store } = context
  const lock = await lockFleet(context.registry, options.ifIdle)
  try {
    if (!lock.isHeld) {
      context.terminal.err('another run is under way: nothing was done\n')
      return EXIT.none
    }
    await pruneMigrations(store)
    if (options.isWatching) return await watch(context, target)
    if (options.command !== 'migrate') {
      const tenants = await selectTenants(store, options, target)
      return exitCodeOf(await runOver(context, tenants, target))
    }
    await warnOfAnother(context)
    const result = await recordRun(store, options, async record =>
      runOver(context, await selectTenants(store, options, target), target, { record }),
    )
    return exitCodeOf(result)
  } finally {
    await lock.release()
  }
}

/** Two runs do no harm, for each database has its lock; but the canaries of the one are not those of the other. */
async function warnOfAnother({ options, store, terminal }: CommandContext): Promise<void> {
  const live = options.tenants.length > 0 ? null : await findLiveRun(store)
  if (live === null) return
  terminal.err(`run ${live.id} of ${live.startedBy} is under way too: both go over the fleet\n`)
}

async function watch(context: CommandContext, target: string | null): Promise<number> {
  await watchLaggards({
    isBusy: async () => (await findLiveRun(context.store)) !== null,
    findLaggards: () => selectTenants(context.store, context.options, target),
    run: (tenants, onDone) =>
      recordRun(context.store, context.options, record =>
        runOver(context, tenants, target, { record, onDone }),
      ),
    onError: error => context.terminal.err(`doorman: ${reasonOf(error)}\n`),
    signal: context.signal,
  })
  return EXIT.none
}

async function down(context: CommandContext): Promise<number> {
  const { options, store, terminal } = context
  const tenants = await selectTenants(store, options, null)
  const [tenant] = tenants
  if (options.tenants.length === 0 || tenants.length !== 1 || tenant === undefined) {
    context.terminal.err('down is for one tenant: --tenant-key or --tenant-id\n')
    return EXIT.usage
  }
  const question = `Takes ${tenant.key} back to ${options.to}; data may be lost. Its key to confirm: `
  if ((options.confirm ?? (await terminal.ask(question))) !== tenant.key) {
    context.terminal.err(`not confirmed: --confirm ${tenant.key}\n`)
    return EXIT.usage
  }
  const result = await runOver(context, tenants, options.to, {
    run: one => migrateDown({ ...one, to: options.to as string }),
  })
  return exitCodeOf(result)
}

interface Over extends Pick<FleetOptions, 'run'> {
  readonly record?: RunRecord
  readonly onDone?: FleetOptions['onDone']
}

async function runOver(
  context: CommandContext,
  tenants: readonly ListedTenant[],
  target: string | null,
  { record, onDone, ...changes }: Over = {},
): Promise<FleetResult> {
  const { options } = context
  const signals = record === undefined ? [] : [record.signal]
  const signal = AbortSignal.any([context.signal, ...signals])
  await record?.selected(tenants, target)
  const report = options.isJson ? jsonReport(context.terminal.out) : textReport(context.terminal)
  report.start(tenants.length, target)
  const { to, expect } = options
  const result = await migrateFleet({
    ...{ ...context, tenants, to: to === '0000' ? null : to },
    pace: { ...options.pace, signal },
    retries: { ...RETRIES, count: options.retries },
    ...{ canaries: options.canaries, maxFailures: options.maxFailures },
    ...(options.command === 'baseline' && {
      run: one => baseline({ ...one, to: to as string, expect }),
    }),
    ...(record !== undefined && { runId: record.id }),
    onWave(wave) {
      report.wave(wave)
      record?.wave(wave)
    },
    onDone(outcome) {
      report.done(outcome)
      record?.done(outcome)
      onDone?.(outcome)
    },
    ...changes,
  })
  report.end(result)
  return result
}

async function plan(context: CommandContext, target: string | null): Promise<number> {
  const { options, store, directory, signal } = context
  const tenants = await selectTenants(store, options, target)
  const planned = await planFleet({
    ...{ ...context, tenants, directory, files: await readMigrations(directory), to: options.to },
    pace: { ...options.pace, signal },
    retries: { ...RETRIES, count: options.retries, signal },
  })
  if (options.isJson) {
    for (const { tenant, version, pending, problem } of planned) {
      const names = pending.map(({ name }) => name)
      const { id, key } = tenant
      print(context, JSON.stringify({ event: 'plan', id, key, version, pending: names, problem }))
    }
    const files = new Map(planned.flatMap(({ pending }) => pending.map(file => [file.name, file])))
    for (const [name, { sql }] of files)
      print(context, JSON.stringify({ event: 'file', name, sql }))
  } else context.terminal.out(renderPlan(planned))
  return planned.some(({ problem }) => problem !== null) ? EXIT.some : EXIT.none
}

async function status(context: CommandContext, target: string | null): Promise<number> {
  const { options, store } = context
  const found = await readStatus(migrationStates(store), target)
  const run = await findLiveRun(store)
  if (options.isJson) {
    const running = run && { id: run.id, started_by: run.startedBy, runner: run.runner }
    print(context, JSON.stringify({ ...statusForJson(found), running }))
  } else {
    context.terminal.out(renderStatus(found))
    if (run !== null) {
      const done = run.ok + run.failed + run.skipped
      const counts = `${done} of ${run.tenants ?? '?'} done, ${run.failed} failed`
      print(context, `run ${run.id} of ${run.startedBy} is ${run.state}: ${counts}`)
    }
  }
  return EXIT.none
}

async function verify(context: CommandContext, target: string | null): Promise<number> {
  const { options, store, signal } = context
  const { referenceFile, saveFile } = options
  const reference = referenceFile === null ? options.reference : await readReference(referenceFile)
  const found = await verifyFleet({
    ...{ ...context, reference, tenants: await selectTenants(store, options, target) },
    pace: { ...options.pace, signal },
    retries: { ...RETRIES, count: options.retries, signal },
  })
  if (saveFile !== null) await writeFile(saveFile, `${found.reference.lines.join('\n')}\n`)
  let wrong = 0
  for (const { tenant, hash, drift, problem } of found.verified) {
    if (drift.length > 0 || problem !== null) wrong += 1
    if (options.isJson) {
      print(
        context,
        JSON.stringify({ event: 'verify', id: tenant.id, key: tenant.key, hash, drift, problem }),
      )
    } else if (problem !== null) print(context, `failed  ${tenant.key}  ${problem}`)
    else if (drift.length > 0) print(context, `drift   ${tenant.key}\n  ${drift.join('\n  ')}`)
  }
  if (!options.isJson) {
    const { length } = found.verified
    print(context, `${length} tenant(s), ${wrong} differ from ${found.reference.hash} or failed`)
  }
  return wrong === 0 ? EXIT.none : wrong === found.verified.length ? EXIT.all : EXIT.some
}

async function readReference(file: string): Promise<Fingerprint> {
  const lines = (await readFile(file, 'utf8')).split('\n').filter(line => line !== '')
  return fingerprint(lines)
}

function exitCodeOf({ ok, failed, left, stoppedBy }: FleetResult): number {
  if (left > 0 && stoppedBy !== null) return EXIT.stopped
  if (failed === 0) return EXIT.none
  return ok === 0 ? EXIT.all : EXIT.some
}

function print({ terminal }: CommandContext, line: string): void {
  terminal.out(`${line}\n`)
}
