import { parseArgs } from 'node:util'
import { parseTenantId, parseTenantKey } from '../registry/tenant.ts'
import { AT_ONCE, AT_ONCE_PER_HOST, type Pace } from './over-fleet.ts'
import type { FailureLimit } from './waves.ts'

export const USAGE = `Usage: npm run db:tenant-migrate [-- [COMMAND] OPTIONS]

Brings tenant databases to this release's schema. Without options: every shared tenant that is
not archived, suspended ones included. One that fails does not stop the others; safe to run again.

  (none)               migrate
  status               what the Registry knows of the fleet; asks no tenant's database
  verify               compares each tenant's schema with a reference and names the drift
  baseline --to NNNN   notes migrations as done where the older tool (SequelizeMeta) did them
  down --to NNNN       takes one tenant back by NNNN_name.down.sql files (0000: all of them)
  new NAME             makes the next SQL file

Which tenants:
  --tenant-id UUID     this tenant alone, whatever its mode; may be repeated
  --tenant-key KEY     the same by key
  --include WORD       dedicated: those with a deployment of their own too; suspended: is the default
  --exclude suspended  leaves them out; they then come back with an old schema
  --laggards           those whose version in the Registry is below the target

How:
  --plan               shows as SQL what would run where, and changes nothing
  --to NNNN            no further than this version
  --concurrency N      databases at a time (${AT_ONCE})
  --per-host N         of those on one server (${AT_ONCE_PER_HOST})
  --canary N           N tenants first, then a tenth of the fleet, then all; a canary that fails stops the run
  --max-failures N|N%  more failures stop the run
  --retries N          further attempts after lock and connection errors (3)
  --rate N/min         starts that many a minute at most
  --watch              goes on: works through laggards until it is told to stop
  --if-idle            does nothing where another run is under way
  --run-id UUID        takes over a run that the admin API has noted in the Registry
  --directory DIR      folder of the migrations
  --json               a JSON object per line
  --help               this text

verify:   --reference KEY (else what most tenants have), --reference-file FILE, --save FILE
baseline: --expect NAME   must be in SequelizeMeta
down:     --confirm KEY   instead of the question
new:      --registry, --down, --no-transaction

Exit code 0: none failed; 1: some failed, or the Registry cannot be asked; 2: wrong usage; 3: all failed;
4: stopped before the end, by --max-failures, a canary or a signal.
`

export const COMMANDS = ['migrate', 'status', 'verify', 'baseline', 'down', 'new'] as const
export type Command = (typeof COMMANDS)[number]

export interface Options {
  readonly command: Command
  /** Of `new`. */
  readonly name: string | null
  readonly tenants: readonly string[]
  readonly withDedicated: boolean
  readonly withSuspended: boolean
  readonly onlyLaggards: boolean
  readonly isPlan: boolean
  readonly to: string | null
  readonly pace: Pace
  readonly canaries: number
  readonly maxFailures: FailureLimit | null
  readonly retries: number
  readonly isWatching: boolean
  readonly ifIdle: boolean
  /** Of a run that the admin API began; its options are in the Registry. */
  readonly runId: string | null
  readonly directory: string | null
  readonly isJson: boolean
  readonly reference: string | null
  readonly referenceFile: string | null
  readonly saveFile: string | null
  readonly expect: string | null
  readonly confirm: string | null
  readonly isRegistry: boolean
  readonly withDown: boolean
  readonly withoutTransaction: boolean
}

/** @throws Error with one line for a wrong usage */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const text = { type: 'string' } as const
  const many = { type: 'string', multiple: true } as const
  const flag = { type: 'boolean', default: false } as const
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      ...{ 'tenant-id': many, 'tenant-key': many, include: many, exclude: many },
      ...{ to: text, concurrency: text, 'per-host': text, canary: text, 'max-failures': text },
      ...{ retries: text, rate: text, directory: text, reference: text, 'reference-file': text },
      ...{ save: text, expect: text, confirm: text, laggards: flag, plan: flag, watch: flag },
      ...{
        'run-id': text,
        'if-idle': flag,
        json: flag,
        registry: flag,
        down: flag,
        'no-transaction': flag,
      },
      help: { ...flag, short: 'h' },
    },
  })
  if (values.help) return 'help'
  const [word = 'migrate', name = null, ...rest] = positionals
  const command = COMMANDS.find(known => known === word)
  if (command === undefined) throw new Error(`no command is called ${word}`)
  if (rest.length > 0 || (name !== null && command !== 'new')) throw new Error('too many words')
  for (const [option, owner] of Object.entries(OWNERS)) {
    const value = values[option as keyof typeof values]
    if (value !== undefined && value !== false && command !== owner) {
      throw new Error(`--${option} is for ${owner}`)
    }
  }
  const to = values.to ?? null
  if (to !== null && !/^\d{4}$/.test(to)) throw new Error('--to is a version of four digits')
  if (to === null && (command === 'down' || command === 'baseline')) {
    throw new Error(`${command} needs --to`)
  }
  const include = words(values.include, 'include', ['dedicated', 'suspended'])
  const exclude = words(values.exclude, 'exclude', ['suspended'])
  return {
    ...{ command, name, to },
    tenants: [
      ...(values['tenant-id'] ?? []).map(id =>
        required(parseTenantId(id), '--tenant-id is not a UUID'),
      ),
      ...(values['tenant-key'] ?? []).map(key =>
        required(parseTenantKey(key), '--tenant-key is not a key'),
      ),
    ],
    withDedicated: include.includes('dedicated'),
    withSuspended: !exclude.includes('suspended'),
    onlyLaggards: values.laggards || values.watch,
    isPlan: values.plan,
    pace: {
      atOnce: whole('concurrency', values.concurrency, 1, 1000, AT_ONCE),
      perHost: whole('per-host', values['per-host'], 1, 1000, AT_ONCE_PER_HOST),
      intervalMs: intervalOf(values.rate),
    },
    canaries: whole('canary', values.canary, 1, 100_000, 0),
    maxFailures: limitOf(values['max-failures']),
    retries: whole('retries', values.retries, 0, 100, 3),
    ...{ isWatching: values.watch, ifIdle: values['if-idle'], isJson: values.json },
    runId: runIdOf(values),
    directory: values.directory ?? null,
    reference: values.reference ?? null,
    referenceFile: values['reference-file'] ?? null,
    saveFile: values.save ?? null,
    expect: values.expect ?? null,
    confirm: values.confirm ?? null,
    ...{ isRegistry: values.registry, withDown: values.down },
    withoutTransaction: values['no-transaction'],
  }
}

/** Options that one command alone has. */
const OWNERS = {
  ...{ plan: 'migrate', canary: 'migrate', watch: 'migrate', 'if-idle': 'migrate' },
  'run-id': 'migrate',
  ...{ reference: 'verify', 'reference-file': 'verify', save: 'verify' },
  ...{ expect: 'baseline', confirm: 'down' },
  ...{ registry: 'new', down: 'new', 'no-transaction': 'new' },
} as const

function required<T>(value: T | null, problem: string): T {
  if (value === null) throw new Error(problem)
  return value
}

function words(given: readonly string[] | undefined, option: string, known: readonly string[]) {
  const found = (given ?? []).flatMap(text => text.split(','))
  const unknown = found.find(word => !known.includes(word))
  if (unknown !== undefined) throw new Error(`--${option} knows ${known.join(', ')}`)
  return found
}

function whole(
  option: string,
  text: string | undefined,
  min: number,
  max: number,
  standard: number,
) {
  if (text === undefined) return standard
  const value = Number(text)
  if (!/^\d{1,7}$/.test(text) || value < min || value > max) {
    throw new Error(`--${option} must be a whole number from ${min} to ${max}`)
  }
  return value
}

/** Alone, but for the folder: what else it is to do stands in the Registry. */
function runIdOf({ 'run-id': id, ...others }: Readonly<Record<string, unknown>>): string | null {
  if (id === undefined) return null
  const other = Object.entries(others).find(
    ([name, value]) => name !== 'directory' && value !== undefined && value !== false,
  )
  if (other !== undefined) throw new Error(`--run-id has no other options: --${other[0]}`)
  return required(parseTenantId(id), '--run-id is not a UUID')
}

function limitOf(text: string | undefined): FailureLimit | null {
  if (text === undefined) return null
  const [, number = '', percent] = /^(\d{1,7}(?:\.\d+)?)(%)?$/.exec(text) ?? []
  if (percent === '%' && Number(number) <= 100) return { kind: 'percent', percent: Number(number) }
  if (percent === undefined && /^\d+$/.test(number)) return { kind: 'count', count: Number(number) }
  throw new Error('--max-failures is a count such as 5, or a share such as 2%')
}

/** Milliseconds between two starts. */
function intervalOf(text: string | undefined): number {
  if (text === undefined) return 0
  const [, number = '', unit = 'min'] = /^(\d{1,6})(?:\/(s|min|h))?$/.exec(text) ?? []
  if (!(Number(number) > 0)) throw new Error('--rate is a number such as 30/min')
  return { s: 1000, min: 60_000, h: 3_600_000 }[unit as 's' | 'min' | 'h'] / Number(number)
}
