import { type Command, InvalidArgumentError, Option } from 'commander'
import type { Act } from '../act.ts'
import type { MonthFlags } from '../billing.ts'
import type { Streams } from '../streams.ts'
import type { SweepFlags } from '../usage-sweep.ts'
import { between } from './options.ts'

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
      act(async session => (await import('../usage-sweep.ts')).sweep(session, flags, streams)),
    )
  addBilling(program.command('billing').description('prices, statements, credits'), act, streams)
}

function addBilling(billing: Command, act: Act, streams: Streams): void {
  const load = () => import('../billing.ts')
  const month = () => new Option('--month <YYYY-MM>').makeOptionMandatory().argParser(monthOf)
  const format = (standard: string) =>
    new Option('--format <format>').choices(['csv', 'json']).default(standard)
  billing
    .command('prices')
    .description('prices of all plans, as JSON')
    .action(() => act(async session => (await load()).showPrices(session, streams)))
  billing
    .command('set-prices <FILE>')
    .description(
      'set prices: {plan, from_month, currency, prices: {base_fee, lines}}, or a list of such',
    )
    .action((file: string) =>
      act(async session => (await load()).setPricesFrom(session, file, streams)),
    )
  billing
    .command('freeze')
    .description('freeze the statements of a month that is over; run again it does what is left')
    .addOption(month())
    .action((flags: MonthFlags) =>
      act(async session => (await load()).freeze(session, flags, streams)),
    )
  billing
    .command('export')
    .description('frozen statements of a month, to standard output')
    .addOption(month())
    .addOption(format('csv'))
    .action((flags: MonthFlags) =>
      act(async session => (await load()).exportStatements(session, flags, streams)),
    )
  billing
    .command('show <KEY|ID>')
    .description('the statement of a tenant; before it is frozen a draft')
    .addOption(month())
    .addOption(format('json'))
    .action((name: string, flags: MonthFlags) =>
      act(async session => (await load()).showStatement(session, name, flags, streams)),
    )
  billing
    .command('credit <KEY|ID>')
    .description('give a tenant something back by its next statement')
    .requiredOption('--amount <number>', 'in minor units', between(1, 999_999_999))
    .requiredOption('--currency <code>', 'such as EUR')
    .requiredOption('--reason <text>', 'stands on the statement')
    .action((name: string, flags: { amount: number; currency: string; reason: string }) =>
      act(async session => (await load()).credit(session, name, flags, streams)),
    )
}

function monthOf(text: string): string {
  if (/^20\d\d-(0[1-9]|1[0-2])$/.test(text)) return text
  throw new InvalidArgumentError('A month such as 2026-01.')
}
