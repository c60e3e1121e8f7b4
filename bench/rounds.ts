import { checkPeer } from './check.ts'
import { measure, measureAdded, measureFlooded, type Sample, saturation } from './measure.ts'
import type { Peer, Running } from './peers/peer.ts'
import type { PeerResult, ScenarioResult } from './report/results.ts'
import type { Scenario } from './scenarios/scenario.ts'
import type { Scene } from './scene.ts'

export interface RoundsOptions {
  readonly rounds: number
  readonly seconds: number
  /** Name of the peer that ratios are against. */
  readonly reference: string
  /** One line about what goes on. */
  readonly progress: (line: string) => void
}

/** V8 has compiled the hot path of every Node peer after a second of load or so. */
const JIT_WARM_UP_S = 1.5
const WARM_UP_S = 0.3
/** A proxy that is nearly saturated by the rate of an open loop has a queue and no latency to compare. */
const RATE_MARGIN = 1.2

/** A proxy that runs, was checked and is warm. */
interface Contender {
  readonly peer: Peer
  running: Running
  /** For the open loop: half of what it can do, per second, or of what the reference can. */
  ratePerS: number
  readonly samples: Sample[]
}

/**
 * One scenario: every proxy started afresh, checked, warmed up, then rounds A B C, A B C, … so that
 * whatever else happens on the machine hits all of them alike.
 */
export async function runScenario(
  scene: Scene,
  scenario: Scenario,
  peers: readonly Peer[],
  options: RoundsOptions,
): Promise<ScenarioResult> {
  const contenders: Contender[] = []
  const results = new Map<string, PeerResult>()
  const giveUp = async (peer: Peer, running: Running | null, error: unknown) => {
    const failure = error instanceof Error ? error.message : String(error)
    options.progress(`${scenario.name}: ${peer.name} is out: ${failure}`)
    results.set(peer.name, { name: peer.name, failure, samples: [] })
    await running?.stop()
  }

  try {
    for (const peer of peers.filter(one => takesPart(one, scenario))) {
      options.progress(`${scenario.name}: ${peer.name} starts and is checked`)
      let running: Running | null = null
      try {
        running = await scene.startPeer(peer)
        await checkPeer(peer, running.port, scene.upstreamPort, scenario, scene.world)
        const ratePerS = await warmUp(scene, scenario, peer, running, options.seconds)
        contenders.push({ peer, running, ratePerS, samples: [] })
      } catch (error) {
        await giveUp(peer, running, error)
      }
    }
    if (scenario.rate === 'reference') {
      for (const slow of useRateOfReference(contenders, options.reference)) {
        await giveUp(slow.peer, slow.running, new Error('slower than the rate of this scenario'))
      }
    }
    for (let round = 1; round <= options.rounds; round++) {
      for (const contender of [...contenders]) {
        const { peer, samples } = contender
        options.progress(`${scenario.name}: round ${round} of ${options.rounds}, ${peer.name}`)
        try {
          if (scenario.kind === 'idle' && round > 1) await restart(scene, contender)
          samples.push(await runRound(scene, scenario, contender, options.seconds, round))
        } catch (error) {
          contenders.splice(contenders.indexOf(contender), 1)
          await giveUp(peer, contender.running, error)
        }
      }
    }
  } finally {
    await Promise.all(contenders.map(({ running }) => running.stop()))
  }
  for (const { peer, samples } of contenders) {
    results.set(peer.name, { name: peer.name, failure: null, samples })
  }
  return {
    name: scenario.name,
    title: scenario.title,
    kind: scenario.kind,
    reference: options.reference,
    peers: peers.flatMap(({ name }) => results.get(name) ?? []),
  }
}

/** A process gives no memory back: the second round would find that of the first to fill. */
async function restart(scene: Scene, contender: Contender): Promise<void> {
  await contender.running.stop()
  contender.running = await scene.startPeer(contender.peer)
}

/** @returns those that cannot do it, taken out of `contenders` */
function useRateOfReference(contenders: Contender[], reference: string): Contender[] {
  const ratePerS = contenders.find(({ peer }) => peer.name === reference)?.ratePerS
  if (ratePerS === undefined) return []
  const slow = contenders.filter(one => 2 * one.ratePerS < ratePerS * RATE_MARGIN)
  for (const one of slow) contenders.splice(contenders.indexOf(one), 1)
  for (const one of contenders) one.ratePerS = ratePerS
  return slow
}

/** Memory and added latency mean nothing without a proxy. */
function takesPart(peer: Peer, { kind }: Scenario): boolean {
  return peer.name !== 'direct' || (kind !== 'idle' && kind !== 'open')
}

/** Fills caches and lets compilers settle. @returns the rate for the open loop */
async function warmUp(
  scene: Scene,
  scenario: Scenario,
  { isJit }: Peer,
  running: Running,
  seconds: number,
): Promise<number> {
  if (scenario.kind === 'idle') return 0
  const warmUpS = isJit ? Math.max(seconds, JIT_WARM_UP_S) : Math.min(seconds, WARM_UP_S)
  if (scenario.kind !== 'open') {
    await measure(scene.generator, scenario, running, warmUpS)
    return 0
  }
  await saturation(scene.generator, scenario, running, warmUpS)
  return Math.round((await saturation(scene.generator, scenario, running, seconds)) / 2)
}

async function runRound(
  scene: Scene,
  scenario: Scenario,
  { running, ratePerS }: Contender,
  seconds: number,
  round: number,
): Promise<Sample> {
  const { generator, upstreamPort } = scene
  if (scenario.kind !== 'open') return measure(generator, scenario, running, seconds)
  if (scenario.flood > 0) {
    return measureFlooded(scene, scenario, running, ratePerS, seconds, round % 2 === 0)
  }
  return measureAdded(generator, scenario, running, upstreamPort, ratePerS, seconds)
}
