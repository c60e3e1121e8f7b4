import { type Command, InvalidArgumentError } from 'commander'
import type { Streams } from './commands.ts'
import type { Act } from './lifecycle-verbs.ts'
import type { SweepFlags } from './usage-sweep.ts'

/** What tenants use, and what that costs them. */
export function addUsageVerbs(program: Command, act: Act, streams: Streams): void {
  program
    .command('usage-sweep')
    .description(
      'measure what each tenant stores; exit code 1: some could not be, 5: another sweep runs',
    )
    .option('--at-once <number>', 'tenants at one time, default 8', between(1, 64), 8)
    .option('--per-host <number>', 'of those on one database server, default 2', between(1, 64), 2)
    .option('--tenant-timeout <seconds>', 'for one bucket, default 300', between(1, 86_400), 300)
    .option('--json', 'a JSON line for each tenant, and one at the end')
    .action((flags: SweepFlags) =>
      act(async session => (await import('./usage-sweep.ts')).sweep(session, flags, streams)),
    )
}

function between(min: number, max: number) {
  return (text: string) => {
    const number = Number(text)
    if (/^\d{1,9}$/.test(text) && number >= min && number <= max) return number
    throw new InvalidArgumentError(`From ${min} to ${max}.`)
  }
}
