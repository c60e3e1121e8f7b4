import { type Command, InvalidArgumentError } from 'commander'
import { type Act, LONG_MS } from '../act.ts'
import type { AuditFlags, PruneFlags } from '../audit.ts'
import type { Streams } from '../streams.ts'
import { wholeNumber } from './options.ts'

/** What was done, by whom, and for how long that is kept. */
export function addAuditVerbs(program: Command, act: Act, streams: Streams): void {
  program
    .command('audit [KEY|ID]')
    .description('who did what, the newest first; an id also of a tenant that is deleted')
    .option('--by <actor>', 'an admin key by its name, or cli:NAME')
    .option('--action <action>', 'such as tenant.suspend')
    .option('--limit <number>', 'default 50', wholeNumber)
    .option('--json', 'as JSON lines, with all that changed')
    .action((name: string | undefined, flags: AuditFlags) =>
      act(async session => (await import('../audit.ts')).showAudit(session, name, flags, streams)),
    )

  program
    .command('audit-prune')
    .description('take away the audit of before a time; it is kept for ever otherwise')
    .option('--before <time>', 'at least 30 days ago, such as 2026-01-31', day)
    .option('--keep-days <number>', 'the same, by days', wholeNumber)
    .option('--dry-run', 'only count')
    .addHelpText('after', PRUNE_HELP)
    .action((flags: PruneFlags) =>
      act(async session => (await import('../audit.ts')).prune(session, flags, streams), LONG_MS),
    )
}

function day(text: string): Date {
  const time = new Date(text)
  if (!/^20\d\d-/.test(text) || Number.isNaN(time.getTime())) {
    throw new InvalidArgumentError('Not a time such as 2026-01-31.')
  }
  return time
}

const PRUNE_HELP = `
Each batch of rows that goes leaves one of its own (audit.prune: who, how many, of which time), and those
stay for good. Keep a copy first, where rules ask for one: audit --json, or a dump of admin_audit.

Examples:
  npm run -s tenant -- audit-prune --keep-days 730 --dry-run
  npm run -s tenant -- audit-prune --before 2024-01-01`
