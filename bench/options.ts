import { parseArgs } from 'node:util'
import { PEERS } from './peers/all.ts'
import type { Peer } from './peers/peer.ts'
import { SCENARIOS } from './scenarios/all.ts'
import type { Scenario } from './scenarios/scenario.ts'

export interface Options {
  readonly scenarios: readonly Scenario[]
  readonly peers: readonly Peer[]
  readonly rounds: number
  /** Of each round. */
  readonly seconds: number
  /** null: a name of its own under bench/results. */
  readonly jsonFile: string | null
  readonly htmlFile: string | null
  /** Record where Doorman's CPU time goes; costs some itself. */
  readonly isProfiled: boolean
}

export const HELP = `npm run bench -- [scenario …] [options]

Runs the proxies found on this machine side by side, in interleaved rounds, and prints
medians (min-max). Without names all scenarios run, which takes about half an hour.

  --quick           two short rounds of ${SCENARIOS.filter(s => s.isMain)
    .map(s => s.name)
    .join(', ')}: under two minutes
  --rounds N        rounds per scenario (5; quick 2)
  --seconds S       seconds per round (3; quick 0.5)
  --peers A,B       only these; the first but doorman and direct is the reference when haproxy is not among them
  --json FILE       where the JSON goes (bench/results/<time>.json)
  --html FILE       where the page goes (bench/report.html)
  --profile         a CPU profile of Doorman after each scenario; its figures are then too high
  --list            scenarios and proxies, and which of them are found here
  --help            this

npm run bench -- binding, alone, measures no proxy but what binding a request to its tenant context costs
Doorman's two sides, in one process.
npm run bench -- noisy-neighbour [--quick] [--rounds N] [--seconds S] [--noise 60], alone: 20 quiet tenants beside one that
sends ten times its limit, with admission on and off; --noise is what it sends, in per cent of what one core can do. npm run bench -- admission, alone: what the limits of tenants cost a request, in one process.
npm run bench -- metering-cost, alone: what counting a tenant's use costs a request. npm run bench -- metering [N], alone,
compares what is counted of N requests (1000000) with what app and clients know, through restarts, kills and faults.
npm run bench -- registry, alone: ten thousand tenants brought in, listed, searched and served by one gateway.
npm run bench -- connections [--quick], alone, counts the connections to tenant databases in PostgreSQL, with a
fleet of real processes and 300 tenants, beside plain round robin.

npm run bench -- migrations [N], alone, migrates a fleet of N databases (1000), beside other runners in a loop.

scenarios: ${SCENARIOS.map(s => s.name).join(' ')}
proxies:   ${PEERS.map(p => p.name).join(' ')}
`

/** @throws Error with one line for a bad option */
export function parseOptions(args: readonly string[]): Options | 'help' | 'list' {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      peers: { type: 'string' },
      json: { type: 'string' },
      html: { type: 'string' },
      profile: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) return 'help'
  if (values.list) return 'list'
  const byDefault = values.quick ? SCENARIOS.filter(scenario => scenario.isMain) : SCENARIOS
  return {
    scenarios: positionals.length === 0 ? byDefault : choose(positionals, SCENARIOS, 'scenario'),
    peers: values.peers === undefined ? PEERS : choose(values.peers.split(','), PEERS, 'proxy'),
    rounds: number('rounds', values.rounds ?? (values.quick ? '2' : '5'), 1, 100, true),
    seconds: number('seconds', values.seconds ?? (values.quick ? '0.5' : '3'), 0.1, 600, false),
    jsonFile: values.json ?? null,
    htmlFile: values.html ?? null,
    isProfiled: values.profile,
  }
}

function choose<T extends { readonly name: string }>(
  names: readonly string[],
  from: readonly T[],
  what: string,
): T[] {
  const unknown = names.find(name => !from.some(one => one.name === name))
  if (unknown !== undefined) {
    throw new Error(
      `no ${what} is called ${unknown}; there are ${from.map(one => one.name).join(', ')}`,
    )
  }
  return from.filter(one => names.includes(one.name))
}

function number(name: string, text: string, min: number, max: number, isWhole: boolean): number {
  const value = Number(text)
  if (!(value >= min && value <= max) || (isWhole && !Number.isInteger(value))) {
    throw new Error(
      `--${name} must be ${isWhole ? 'a whole number' : 'a number'} from ${min} to ${max}`,
    )
  }
  return value
}
