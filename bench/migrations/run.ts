import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { childEnv } from '../../deploy/local/run.ts'
import {
  type FleetDatabases,
  type FleetTenant,
  makeFleetDatabases,
} from '../connections/databases.ts'
import { usageOfTree } from '../lib/proc.ts'
import { type Work, writeWork } from './work.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const PEER_LOOP = fileURLToPath(new URL('peer-loop.ts', import.meta.url))
/** Databases that the loops do; their speed does not depend on how many follow. */
const LOOP_TENANTS = 200
/** The runners take turns, so that a disturbance hits all alike. */
const ROUNDS = 4
const ONE_BY_ONE = 'Doorman, one by one'
const AT_ONCE = 8
const DEADLINE_MS = 600_000
const OUTPUT_CHARS_MAX = 4096

interface Measured {
  readonly name: string
  readonly tenants: number
  readonly seconds: number
  /** Of a tenant, in milliseconds: the runner's, and PostgreSQL's. */
  readonly cpuMs: { readonly runner: number; readonly postgres: number }
  /** Of a tenant, by the runner's own clock; null: it tells none. */
  readonly phasesMs: Phases | null
}

const PHASES = ['connect_ms', 'lock_ms', 'apply_ms', 'close_ms'] as const
type Phases = Readonly<Record<(typeof PHASES)[number], number>>

/**
 * `npm run bench -- migrations`: a release of three migrations over a fleet of databases on one durable
 * PostgreSQL, by the fleet runner, by the same runner one after the other, and by two others in a loop.
 */
export async function benchMigrations(
  tenants: number,
  progress: (line: string) => void,
): Promise<string> {
  progress(`making ${tenants} tenants, each with its database`)
  const databases = await makeFleetDatabases({
    ...{ tenants, connectionsMax: 100 },
    // A deploy waits for the disk.
    settings: { fsync: 'on', synchronous_commit: 'on', full_page_writes: 'on' },
  })
  const work = await writeWork()
  const onSignal = () => {
    databases.stop().finally(() => process.exit(130))
  }
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  try {
    return render(await measureAll(databases, work, progress), tenants)
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
    await databases.stop()
    await rm(work.folder, { recursive: true })
  }
}

async function measureAll(
  databases: FleetDatabases,
  work: Work,
  progress: (line: string) => void,
): Promise<readonly Measured[]> {
  const { tenants, postgres, registryUrl, masterKey } = databases
  const env = { TENANT_REGISTRY_DB_URL: registryUrl, MASTER_ENCRYPTION_KEY: masterKey }
  const doorman = (to: string, atOnce: number, some: readonly FleetTenant[] = []) => [
    ...['migrations/tenant-migrate.ts', '--directory', work.doorman, '--to', to, '--json'],
    ...['--concurrency', String(atOnce), '--per-host', String(atOnce)],
    ...some.flatMap(({ key }) => ['--tenant-key', key]),
  ]
  const loop = (peer: string, some: readonly FleetTenant[]) => {
    const urls = some.map(({ database }) => postgres.url(database))
    return JSON.stringify({ peer, directory: work.nodePgMigrate, urls })
  }
  const sums = new Map<string, Measured>()
  const measure = async (name: string, count: number, args: readonly string[], input = '') => {
    const one = await runMeasured(name, count, args, env, input, postgres.pid)
    sums.set(name, addUp(sums.get(name), one))
  }
  const ofRound = Math.floor(Math.min(LOOP_TENANTS, tenants.length) / ROUNDS)
  for (let round = 0; round < ROUNDS; round++) {
    progress(`round ${round + 1} of ${ROUNDS}: ${ofRound} tenants`)
    const some = tenants.slice(round * ofRound, (round + 1) * ofRound)
    await measure('knex in a loop', ofRound, [PEER_LOOP], loop('knex', some))
    await measure('node-pg-migrate in a loop', ofRound, [PEER_LOOP], loop('node-pg-migrate', some))
    await measure(ONE_BY_ONE, ofRound, doorman(work.first, 1, some))
    await measure(`Doorman, ${AT_ONCE} at a time`, ofRound, doorman(work.second, AT_ONCE, some))
  }
  progress('the whole fleet')
  // So that every tenant has the same left to do.
  await runMeasured('', 1, doorman(work.second, AT_ONCE), env, '', postgres.pid)
  await measure(`${ONE_BY_ONE}, all`, tenants.length, doorman(work.third, 1))
  await measure('Doorman, whole fleet', tenants.length, doorman(work.fourth, AT_ONCE))
  await measure('nothing to do, whole fleet', tenants.length, doorman(work.fourth, AT_ONCE))
  // Last: the first connection to a new database fills its catalog's cache file.
  await measure('connections alone', tenants.length, [PEER_LOOP], loop('connect', tenants))
  return [...sums.values()]
}

function addUp(sum: Measured | undefined, one: Measured): Measured {
  if (sum === undefined) return one
  const tenants = sum.tenants + one.tenants
  const mean = (a: number, b: number) => (a * sum.tenants + b * one.tenants) / tenants
  return {
    ...{ name: one.name, tenants, seconds: sum.seconds + one.seconds },
    cpuMs: {
      runner: mean(sum.cpuMs.runner, one.cpuMs.runner),
      postgres: mean(sum.cpuMs.postgres, one.cpuMs.postgres),
    },
    phasesMs: meanOf(sum.phasesMs, one.phasesMs, mean),
  }
}

async function runMeasured(
  name: string,
  tenants: number,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  input: string,
  postgresPid: number,
): Promise<Measured> {
  const own = process.resourceUsage()
  const before = {
    postgres: usageOfTree(postgresPid).cpuUs,
    runner: usageOfTree(process.pid).cpuUs,
  }
  const startedMs = performance.now()
  const child = spawn(process.execPath, args, {
    cwd: ROOT,
    env: { ...childEnv(), ...env },
    timeout: DEADLINE_MS,
  })
  let output = ''
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString('utf8')).slice(-OUTPUT_CHARS_MAX)
  }
  const told: Phases[] = []
  createInterface({ input: child.stdout }).on('line', line => {
    keep(Buffer.from(`${line}\n`))
    const phases = readPhases(line)
    if (phases !== null) told.push(phases)
  })
  child.stderr.on('data', keep)
  child.stdin.on('error', () => {}) // it ended before it read all: the exit code tells
  child.stdin.end(input)
  const [code] = await once(child, 'close')
  const seconds = (performance.now() - startedMs) / 1000
  if (code !== 0) throw new Error(`${args[0]} ended with ${code}: ${output}`)
  const ownUs = cpuOf(process.resourceUsage()) - cpuOf(own)
  const postgresUs = usageOfTree(postgresPid).cpuUs - before.postgres
  // Our children that ended count to us, and PostgreSQL, which runs on, does so as well.
  const runnerUs = usageOfTree(process.pid).cpuUs - before.runner - ownUs - postgresUs
  const perTenant = (us: number) => us / 1000 / tenants
  const cpuMs = { runner: perTenant(runnerUs), postgres: perTenant(postgresUs) }
  const phasesMs =
    told.length === 0
      ? null
      : phasesOf(phase => told.reduce((sum, one) => sum + one[phase], 0) / told.length)
  return { name, tenants, seconds, cpuMs, phasesMs }
}

function meanOf(a: Phases | null, b: Phases | null, mean: (a: number, b: number) => number) {
  return a === null || b === null ? null : phasesOf(phase => mean(a[phase], b[phase]))
}

function phasesOf(value: (phase: keyof Phases) => number): Phases {
  return Object.fromEntries(PHASES.map(phase => [phase, value(phase)])) as unknown as Phases
}

/** Of a line of `--json` that tells of a tenant. */
function readPhases(line: string): Phases | null {
  if (!line.startsWith('{"event":"tenant"')) return null
  const told = JSON.parse(line) as Partial<Phases>
  return told.connect_ms === undefined ? null : (told as Phases)
}

function cpuOf({ userCPUTime, systemCPUTime }: NodeJS.ResourceUsage): number {
  return userCPUTime + systemCPUTime
}

function render(measured: readonly Measured[], tenants: number): string {
  const loop = measured.find(({ name }) => name === ONE_BY_ONE)
  const rateOf = (one: Measured) => one.tenants / one.seconds
  const rows = measured.map(one => {
    const times = loop === undefined ? 1 : rateOf(one) / rateOf(loop)
    const cells = [
      one.name.padEnd(26),
      String(one.tenants).padStart(7),
      one.seconds.toFixed(1).padStart(8),
      rateOf(one).toFixed(1).padStart(9),
      times.toFixed(2).padStart(11),
      one.cpuMs.runner.toFixed(1).padStart(9),
      one.cpuMs.postgres.toFixed(1).padStart(11),
    ]
    return `${cells.join(' ')}\n`
  })
  const head =
    `${'a release of three migrations'.padEnd(26)} tenants  seconds tenants/s × one by one` +
    ' runner ms postgres ms\n'
  const phases = measured.flatMap(({ name, phasesMs }) =>
    phasesMs === null
      ? []
      : `${name.padEnd(26)} ${PHASES.map(one => phasesMs[one].toFixed(1).padStart(10)).join(' ')}\n`,
  )
  const phasesHead = `${'of a tenant, ms'.padEnd(26)}    connect   lock, read    apply      close\n`
  const foot = `${tenants} databases on one durable PostgreSQL; CPU time is of a tenant\n`
  return `${head}${rows.join('')}${foot}\n${phasesHead}${phases.join('')}`
}
