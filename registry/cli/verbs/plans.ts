import { type Command, Option } from 'commander'
import type { Act } from '../act.ts'
import type { PlanFlags } from '../plans.ts'
import type { Streams } from '../streams.ts'

/** Plans, and the limits that come with them. */
export function addPlanVerbs(program: Command, act: Act, streams: Streams): void {
  program
    .command('plan-set <CODE>')
    .description('make a plan, or change what is given of it; its tenants are held to it at once')
    .option('--name <name>', 'display name')
    .option('--limits <json>', 'all its limits, in place of those it has')
    .addOption(new Option('--weight <number>', 'share under pressure, default 1').argParser(Number))
    .addHelpText('after', PLAN_HELP)
    .action((code: string, flags: PlanFlags) =>
      act(async session => (await import('../plans.ts')).setPlan(session, code, flags, streams)),
    )

  program
    .command('plan-list')
    .description('plans, and how many tenants have each')
    .option('--json', 'as JSON')
    .action((flags: { json?: boolean }) =>
      act(async session => (await import('../plans.ts')).showPlans(session, flags, streams)),
    )

  program
    .command('plan-delete <CODE>')
    .description('delete a plan that no tenant has')
    .action((code: string) =>
      act(async session => (await import('../plans.ts')).deletePlan(session, code, streams)),
    )
}

const PLAN_HELP = `
Limits: requests_per_s, burst, in_flight, body_bytes, sockets, requests_per_month, quota (soft or hard);
null is no limit, and what is not named is the deployment's (TENANT_LIMITS). A tenant's own limits
(edit --limits) go before its plan's.

Example:
  npm run -s tenant -- plan-set basic --limits '{"requests_per_s":50,"burst":100,"sockets":20}'
  npm run -s tenant -- edit acme --plan basic`
