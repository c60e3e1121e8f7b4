import type { Command } from 'commander'
import type { Act } from '../act.ts'
import type { Streams } from '../streams.ts'

/** Of the installation as a whole. */
export function addDoctor(
  program: Command,
  act: Act,
  streams: Streams,
  env: NodeJS.ProcessEnv,
): void {
  program
    .command('doctor')
    .description(
      'look at the whole installation and say what to do; exit code 1 where it is broken',
    )
    .option('--quick', 'without connecting to the tenants’ databases')
    .option('--json', 'as JSON')
    .addHelpText('after', DOCTOR_HELP)
    .action((flags: { quick?: boolean; json?: boolean }) =>
      act(async session => (await import('../doctor.ts')).doctor(session, flags, env, streams)),
    )
}

const DOCTOR_HELP = `
Registry, clock, migrations, triggers, listener, master key, rows, schema versions, shared databases,
every tenant's database (8 at a time) and connection limits. With the variables of gateway and app in
the environment also whether the context keys fit together (TENANT_CONTEXT_SIGNING_KEY,
TENANT_CONTEXT_PUBLIC_KEYS, TENANT_CONTEXT_ENCRYPTION_KEY), and whether the replicas of APP_UPSTREAMS are
ready (HEALTH_PATH). TENANT_SPREAD and DB_POOL_MAX go into the limits.

Each line is ok, warn or fail, with what to do below it. Warnings alone are exit code 0.

Examples:
  npm run -s tenant -- doctor
  npm run -s tenant -- doctor --quick --json`
