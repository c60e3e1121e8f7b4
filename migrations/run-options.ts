import type { RunOptions } from '../registry/migrate/runs.ts'
import { parseTenantId } from '../registry/tenant.ts'
import { type Options, parseOptions } from './options.ts'

const MINUTE_MS = 60_000

/** What the Registry keeps of a run's options. */
export function runOptionsOf(options: Options): RunOptions {
  const { pace, maxFailures } = options
  return {
    tenants: options.tenants.length === 0 ? null : options.tenants,
    to: options.to,
    concurrency: pace.atOnce,
    per_host: pace.perHost,
    canary: options.canaries,
    max_failures:
      maxFailures === null
        ? null
        : maxFailures.kind === 'count'
          ? String(maxFailures.count)
          : `${maxFailures.percent}%`,
    include_suspended: options.withSuspended,
    include_dedicated: options.withDedicated,
    laggards: options.onlyLaggards,
    rate_per_minute: pace.intervalMs === 0 ? null : MINUTE_MS / pace.intervalMs,
    retries: options.retries,
  }
}

/** The way back, through the same door as the command line. @throws Error where they are no options of ours */
export function optionsOfRun(run: RunOptions): Options {
  const rate = run.rate_per_minute
  const args = [
    ...['--concurrency', String(run.concurrency), '--per-host', String(run.per_host)],
    ...['--retries', String(run.retries)],
    // Also where the tenants are chosen already: a list that got lost must never become the fleet.
    ...(run.tenants ?? []).flatMap(name => [
      ...[parseTenantId(name) === null ? '--tenant-key' : '--tenant-id', name],
    ]),
    ...(run.canary > 0 ? ['--canary', String(run.canary)] : []),
    ...(run.to === null ? [] : ['--to', run.to]),
    ...(run.max_failures === null ? [] : ['--max-failures', run.max_failures]),
    ...(run.include_suspended ? [] : ['--exclude', 'suspended']),
    ...(run.include_dedicated ? ['--include', 'dedicated'] : []),
    ...(run.laggards ? ['--laggards'] : []),
    ...(rate === null ? [] : ['--rate', `${Math.min(999_999, Math.ceil(rate * 60))}/h`]),
  ]
  const options = parseOptions(args)
  if (options === 'help') throw new Error('the run has no options')
  return options
}
