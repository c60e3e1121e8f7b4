import { setTimeout as wait } from 'node:timers/promises'
import type { Generator } from './generator.ts'
import { type Usage, usageOfTree } from './lib/proc.ts'
import { percentileOf, undisturbed } from './lib/stalls.ts'
import type { Job, LoadResult } from './load/job.ts'
import type { Scenario } from './scenarios/scenario.ts'
import type { Scene } from './scene.ts'

/** One round of one proxy in one scenario. */
export interface Sample {
  /** User and system time of the proxy's processes per request, µs; NaN for `direct` and for idle. */
  readonly cpuUs: number
  readonly requestsPerS: number
  /** Milliseconds; in the latency scenario, what was added over direct at the same rate. */
  readonly p50: number
  readonly p99: number
  /** Resident memory after the round, bytes. */
  readonly rssBytes: number
  /** Share of one core that the proxy used: near 1 means saturated. */
  readonly busy: number
  /** Memory of one idle connection, bytes; idle scenario alone. */
  readonly bytesPerConnection: number
  /** p99 beside the flood over p99 without it; slow-clients scenario alone. */
  readonly p99Ratio: number
  /** The same of those requests alone that no stall of the machine touched. */
  readonly calmP99Ratio: number
  /** Part of the requests beside the flood that a stall touched, 0 … 1; slow-clients scenario alone. */
  readonly disturbed: number
  readonly errors: number
  readonly firstError: string | null
}

export interface Target {
  readonly port: number
  /** -1: nothing to watch. */
  readonly pid: number
}

const IDLE_SETTLE_MS = 500
/** V8 has moved a flood's connections out of its young generation by then, and cleared up those of the last one. */
const SETTLE_S = 1

export async function measure(
  generator: Generator,
  scenario: Scenario,
  target: Target,
  seconds: number,
): Promise<Sample> {
  if (scenario.kind === 'idle') return measureIdle(generator, scenario, target)
  return (await runJob(generator, jobOf(scenario, target.port, seconds), target)).sample
}

/** What the proxy can do at most, in requests per second. */
export async function saturation(
  generator: Generator,
  scenario: Scenario,
  target: Target,
  seconds: number,
): Promise<number> {
  const job = { ...jobOf(scenario, target.port, seconds), kind: 'closed' as const, connections: 64 }
  return (await runJob(generator, job, target)).sample.requestsPerS
}

/** The same rate straight and through the proxy, one after the other: the difference is the proxy's. */
export async function measureAdded(
  generator: Generator,
  scenario: Scenario,
  target: Target,
  directPort: number,
  ratePerS: number,
  seconds: number,
): Promise<Sample> {
  const straight = { ...jobOf(scenario, directPort, seconds), ratePerS }
  const base = await runJob(generator, straight, { port: directPort, pid: -1 })
  const through = await runJob(generator, { ...straight, port: target.port }, target)
  return {
    ...through.sample,
    p50: through.result.p50 - base.result.p50,
    p99: through.result.p99 - base.result.p99,
  }
}

/**
 * The same rate without the flood and beside it, one after the other: the difference is the flood's. Each time the same load
 * runs for a while before it counts, so that neither the flood's coming nor its going is in a figure.
 *
 * @param isFloodFirst in every other round, for what comes first finds another process than what comes second
 */
export async function measureFlooded(
  scene: Scene,
  scenario: Scenario,
  target: Target,
  ratePerS: number,
  seconds: number,
  isFloodFirst: boolean,
): Promise<Sample> {
  const { generator } = scene
  const [flooder, witnesses] = [await scene.flooder(), await scene.witnesses()]
  const job = { ...jobOf(scenario, target.port, seconds), ratePerS, keepsSamples: true }
  const watched = { proxy: [target.pid], load: [generator.pid, scene.upstreamPid] }
  const settled = async () => {
    await runJob(generator, { ...job, seconds: SETTLE_S }, target)
    // The last answers may come after the last request.
    const seen = witnesses.watch(seconds + SETTLE_S, watched)
    const run = await runJob(generator, job, target)
    const kept = undisturbed(run.result.samples, await seen).map(({ tookMs }) => tookMs)
    const { requests } = run.result
    return { ...run, calmP99: percentileOf(kept, 0.99), disturbed: 1 - kept.length / requests }
  }
  const flooded = async () => {
    await flooder.prepare({ ...job, kind: 'flood', flood: scenario.flood })
    try {
      return await settled()
    } finally {
      await flooder.release()
    }
  }
  const first = isFloodFirst ? await flooded() : null
  const base = await settled()
  const beside = first ?? (await flooded())
  return {
    ...beside.sample,
    p50: beside.result.p50 - base.result.p50,
    p99: beside.result.p99 - base.result.p99,
    p99Ratio: beside.result.p99 / base.result.p99,
    calmP99Ratio: beside.calmP99 / base.calmP99,
    disturbed: beside.disturbed,
  }
}

async function measureIdle(
  generator: Generator,
  scenario: Scenario,
  target: Target,
): Promise<Sample> {
  // What any load costs the process once is not the idle connections'.
  await runJob(
    generator,
    { ...jobOf(scenario, target.port, 1), kind: 'closed', connections: 64 },
    target,
  )
  const before = watch(target)
  await generator.prepare(jobOf(scenario, target.port, 0))
  const opened = await generator.go(0)
  await wait(IDLE_SETTLE_MS)
  const after = watch(target)
  await generator.release()
  await wait(IDLE_SETTLE_MS)
  return {
    ...sampleOf(opened, before, after, target),
    cpuUs: Number.NaN,
    bytesPerConnection: (after.rssBytes - before.rssBytes) / scenario.connections,
  }
}

async function runJob(
  generator: Generator,
  job: Job,
  target: Target,
): Promise<{ sample: Sample; result: LoadResult }> {
  await generator.prepare(job)
  const before = watch(target)
  const result = await generator.go(job.seconds)
  return { sample: sampleOf(result, before, watch(target), target), result }
}

function sampleOf(result: LoadResult, before: Usage, after: Usage, target: Target): Sample {
  const spentUs = target.pid < 0 ? Number.NaN : after.cpuUs - before.cpuUs
  return {
    cpuUs: spentUs / result.requests,
    requestsPerS: result.requests / result.seconds,
    p50: result.p50,
    p99: result.p99,
    rssBytes: target.pid < 0 ? Number.NaN : after.rssBytes,
    busy: spentUs / (result.seconds * 1e6),
    bytesPerConnection: Number.NaN,
    p99Ratio: Number.NaN,
    calmP99Ratio: Number.NaN,
    disturbed: Number.NaN,
    errors: result.errors,
    firstError: result.firstError,
  }
}

function watch({ pid }: Target): Usage {
  return pid < 0 ? { cpuUs: 0, rssBytes: 0 } : usageOfTree(pid)
}

function jobOf(scenario: Scenario, port: number, seconds: number): Job {
  const { kind, connections, traffic } = scenario
  return { kind, port, connections, seconds, ratePerS: 0, flood: 0, traffic }
}
