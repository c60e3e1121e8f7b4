import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { Generator } from './generator.ts'
import { acceptsConnections, freePort, startChild, waitUntilReady } from './lib/child.ts'
import { planPinning } from './lib/cpus.ts'
import { percentileOf, undisturbed } from './lib/stalls.ts'
import { pairedRatio, type Spread, spreadOf } from './lib/stats.ts'
import type { Job, LoadResult, World } from './load/job.ts'
import { doorman } from './peers/doorman.ts'
import type { Running } from './peers/peer.ts'
import { startRegistry } from './registry.ts'
import { scheduled, Witnesses } from './witness.ts'

const UPSTREAM = fileURLToPath(new URL('./upstream/main.ts', import.meta.url))
const QUIET_TENANTS = 20
/** What the noisy tenant sends, by its limit. */
const TIMES = 10
/** Of what the gateway can do alone: what all quiet tenants send together. */
const QUIET_PART = 0.1
const SATURATION_S = 2
/** The noise begins earlier and ends later than what is measured. */
const AROUND_MS = 500
const CONNECTIONS = { noisy: 128, quiet: 64 }

export interface NoisyOptions {
  readonly rounds: number
  /** Of each measurement. */
  readonly seconds: number
  /** What the noisy tenant sends, of what the gateway can do alone. */
  readonly noisePart: number
}

type Case = 'alone' | 'on' | 'off'

interface Measured {
  readonly quiet: LoadResult
  readonly noisy: LoadResult
  /** Latencies in ms of the quiet requests that no stall of the machine touched. */
  readonly undisturbed: readonly number[]
}

/** @throws Error with one line for a bad option */
export function noisyOptions(args: readonly string[]): NoisyOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      noise: { type: 'string', default: '60' },
    },
  })
  const number = (name: string, text: string, max: number) => {
    const value = Number(text)
    if (!(value > 0 && value <= max)) throw new Error(`--${name} must be a number up to ${max}`)
    return value
  }
  return {
    rounds: Math.ceil(number('rounds', values.rounds ?? (values.quick ? '2' : '9'), 1000)),
    seconds: number('seconds', values.seconds ?? (values.quick ? '1.5' : '5'), 600),
    noisePart: number('noise', values.noise, 1000) / 100,
  }
}

/**
 * `npm run bench -- noisy-neighbour`: 20 quiet tenants on one core, alone, beside a tenant that sends ten times its limit,
 * and beside the same with admission off. In rounds of all three, so that what else happens on the machine hits all
 * alike; where the quiet ones are alone the same noise goes to another process, for it costs the load generator's core the same.
 */
export async function benchNoisyNeighbour(
  options: NoisyOptions,
  progress: (line: string) => void,
): Promise<string> {
  const ends: (() => Promise<unknown>)[] = []
  const stop = async () => {
    for (const end of ends.splice(0).reverse()) await end()
  }
  const onSignal = () => {
    stop().finally(() => process.exit(130))
  }
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  try {
    return await run(options, progress, ends)
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
    await stop()
  }
}

async function run(
  { rounds, seconds, noisePart }: NoisyOptions,
  progress: (line: string) => void,
  ends: (() => Promise<unknown>)[],
): Promise<string> {
  progress('setting up: Registry, upstream, a gateway with admission and one without')
  const dir = await mkdtemp(join(tmpdir(), 'doorman-bench-'))
  ends.push(() => rm(dir, { recursive: true, force: true }))
  const registry = await startRegistry(QUIET_TENANTS + 1)
  ends.push(() => registry.stop())
  const jwtSecret = randomBytes(32).toString('hex')
  const [noisy, ...quiet] = registry.tenants
  const worlds = {
    noisy: { jwtSecret, tenants: noisy === undefined ? [] : [noisy] },
    quiet: { jwtSecret, tenants: quiet },
  }
  const pinning = planPinning()
  const YIELDING = scheduled('idle')
  const startUpstream = async (prefix: readonly string[]) => {
    const port = await freePort()
    const command = [process.execPath, UPSTREAM, String(port)]
    const child = await startChild(command, { prefix, hasIpc: true })
    ends.push(() => child.stop())
    await waitUntilReady(child, () => acceptsConnections(port))
    return { port, pid: child.pid }
  }
  const upstream = await startUpstream([...pinning.upstream])
  const elsewhere = await startUpstream([...YIELDING, ...pinning.upstream])
  const startGenerator = async (name: keyof typeof worlds, prefix: readonly string[]) => {
    const file = join(dir, `${name}.json`)
    await writeFile(file, JSON.stringify(worlds[name] satisfies World), { mode: 0o600 })
    const generator = await Generator.start(file, prefix)
    ends.push(() => generator.stop())
    return { file, generator }
  }
  const noise = await startGenerator('noisy', [...YIELDING, ...pinning.load])
  const calm = await startGenerator('quiet', [...pinning.load])
  const startGateway = async (isOn: boolean): Promise<Running> => {
    const setting = {
      ...{
        upstreamPort: upstream.port,
        worldFile: calm.file,
        world: worlds.quiet,
        connectionsMax: 1000,
      },
      ...{ prefix: [...pinning.proxy], registry: registry.access, profileDir: null },
      dir: join(dir, `gateway-${isOn}`),
      env: { ADMISSION: isOn ? 'on' : 'off', UPSTREAM_CONNECTIONS_MAX: '256' },
    }
    await mkdir(setting.dir)
    const running = await doorman.start(setting)
    ends.push(() => running.stop())
    return running
  }
  // Both at once: the limit's parts are exchanged, and the one without admission takes part in nothing.
  const [on, off] = [await startGateway(true), await startGateway(false)]

  // Who has a part in a quiet request, by core.
  const watched = { proxy: [on.pid, off.pid], load: [calm.generator.pid, upstream.pid] }
  const witnesses = await Witnesses.start(pinning)
  ends.push(() => witnesses.stop())

  progress('measuring what one core can do')
  const top = { ...jobOf('quiet', off.port, SATURATION_S), kind: 'closed' as const }
  await calm.generator.prepare(top)
  await calm.generator.go(SATURATION_S)
  await calm.generator.prepare(top)
  const result = await calm.generator.go(SATURATION_S)
  const topPerS = result.requests / result.seconds
  const limitPerS = Math.max(1, Math.round((topPerS * noisePart) / TIMES))
  const quietPerS = Math.max(QUIET_TENANTS, Math.round(topPerS * QUIET_PART))
  await setLimit(registry.access.url, String(noisy?.id), limitPerS)
  await delay(1000)

  const measure = async (what: Case): Promise<Measured> => {
    const noisePort = what === 'alone' ? elsewhere.port : what === 'on' ? on.port : off.port
    const quietPort = what === 'off' ? off.port : on.port
    const noiseS = seconds + (2 * AROUND_MS) / 1000
    const noiseJob = {
      ...jobOf('noisy', noisePort, noiseS),
      ratePerS: limitPerS * TIMES,
      drops: true,
    }
    await noise.generator.prepare(noiseJob)
    const quietJob = { ...jobOf('quiet', quietPort, seconds), ratePerS: quietPerS }
    await calm.generator.prepare({ ...quietJob, keepsSamples: true })
    const loud = noise.generator.go(noiseS)
    const seen = witnesses.watch(noiseS, watched)
    await delay(AROUND_MS)
    const { samples, ...quiet } = await calm.generator.go(seconds)
    const kept = undisturbed(samples, await seen).map(({ tookMs }) => tookMs)
    return { quiet: { ...quiet, samples: [] }, noisy: await loud, undisturbed: kept }
  }
  const cases: Case[] = ['alone', 'on', 'off']
  for (const what of cases) await measure(what)
  const measured: Record<Case, Measured[]> = { alone: [], on: [], off: [] }
  for (let round = 1; round <= rounds; round++) {
    progress(`round ${round} of ${rounds}`)
    for (const what of cases) measured[what].push(await measure(what))
    cases.push(cases.shift() as Case)
  }
  const shown = { rounds, seconds, topPerS, limitPerS, quietPerS, pinning: pinning.text }
  return render(shown, measured)
}

function jobOf(who: keyof typeof CONNECTIONS, port: number, seconds: number): Job {
  const tenants = who === 'noisy' ? 1 : QUIET_TENANTS
  const asked = { method: 'GET', path: '/api/small', bodyBytes: 0 } as const
  const users = { tenants, tokens: tenants * 10, zipf: 0, isFresh: false, isLogin: false }
  const traffic = { ...asked, ...users }
  const connections = CONNECTIONS[who]
  return { kind: 'open', port, connections, seconds, ratePerS: 0, flood: 0, traffic }
}

/** As an operator would: the gateways hear of it. */
async function setLimit(url: string, tenant: string, perS: number): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  try {
    const limits = { requests_per_s: perS, burst: Math.max(1, Math.round(perS / 10)) }
    await client.query('UPDATE tenants SET limits = $2 WHERE id = $1', [tenant, limits])
  } finally {
    await client.end()
  }
}

interface Shown {
  readonly rounds: number
  readonly seconds: number
  readonly topPerS: number
  readonly limitPerS: number
  readonly quietPerS: number
  readonly pinning: string
}

function render(shown: Shown, measured: Record<Case, Measured[]>): string {
  const { rounds, seconds, topPerS, limitPerS, quietPerS, pinning } = shown
  const of = (what: Case, read: (one: Measured) => number) => measured[what].map(read)
  const calm = (quantile: number) => (what: Case) =>
    of(what, one => percentileOf(one.undisturbed, quantile))
  const columns = {
    p50: (what: Case) => of(what, ({ quiet }) => quiet.p50),
    p99: (what: Case) => of(what, ({ quiet }) => quiet.p99),
    calmP99: calm(0.99),
    leftOut: (what: Case) =>
      of(what, ({ quiet, undisturbed: kept }) => 100 * (1 - kept.length / quiet.requests)),
  }
  const text = (spread: Spread | null, digits: number) =>
    spread === null
      ? '-'
      : `${spread.median.toFixed(digits)} (${spread.min.toFixed(digits)}–${spread.max.toFixed(digits)})`
  const cell = (column: keyof typeof columns, what: Case, digits = 2) =>
    text(spreadOf(columns[column](what)), digits)
  const ratio = (column: 'p99' | 'calmP99', what: Case) =>
    what === 'alone' ? '1' : text(pairedRatio(columns[column](what), columns[column]('alone')), 2)
  const errors = (what: Case) => of(what, ({ quiet }) => quiet.errors).reduce((a, b) => a + b, 0)
  const admitted = (what: Case) =>
    what === 'alone'
      ? '-'
      : text(spreadOf(of(what, ({ noisy }) => noisy.requests / noisy.seconds)), 0)
  const row = (name: string, what: Case) =>
    `| ${[
      ...[name, cell('p50', what), cell('calmP99', what), ratio('calmP99', what)],
      ...[cell('leftOut', what, 1), cell('p99', what), ratio('p99', what)],
      ...[errors(what), admitted(what)],
    ].join(' | ')} |\n`
  return (
    `One core does ${Math.round(topPerS)} requests a second. ${QUIET_TENANTS} quiet tenants: ${quietPerS} a second together. ` +
    `Noisy one: limit ${limitPerS} a second, sends ${limitPerS * TIMES}.\n` +
    `${rounds} rounds of ${seconds} s each; ${pinning}. Median (min–max).\n\n` +
    '| quiet tenants | p50 ms | p99 ms, undisturbed | × alone | disturbed, % | p99 ms, all | × alone | errors | noisy one admitted, a second |\n' +
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n' +
    row('alone', 'alone') +
    row('beside the noisy one, admission on', 'on') +
    row('beside the noisy one, admission off', 'off')
  )
}
