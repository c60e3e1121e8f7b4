import type { Command } from 'commander'
import type { Act } from '../act.ts'
import type { DebugFlags } from '../debug.ts'
import type { Streams } from '../streams.ts'
import { wholeNumber } from './options.ts'

/** A close look at one tenant. */
export function addDebugVerb(program: Command, act: Act, streams: Streams): void {
  program
    .command('debug [KEY|ID]')
    .description('log each request of a tenant for a while; without one: which are logged so now')
    .option('--minutes <number>', 'at most 60, default 15; then it ends by itself', wholeNumber)
    .option('--reason <text>', 'for the audit; required')
    .option('--off', 'end it before its time')
    .option('--json', 'the list as JSON')
    .addHelpText('after', HELP)
    .action((name: string | undefined, flags: DebugFlags) =>
      act(async session =>
        (await import('../debug.ts')).debugTenant(session, name, flags, streams),
      ),
    )
}

const HELP = `
Within a second every gateway logs each of its requests with the time by phase, the code and its reason,
and keeps its traces: in the log, "debug": true. A second call sets the end anew.

Examples:
  npm run -s tenant -- debug acme --minutes 30 --reason "ticket 7"
  npm run -s tenant -- debug
  npm run -s tenant -- debug acme --off`
