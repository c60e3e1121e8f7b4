import { pairedRatio, type Spread, spreadOf } from '../lib/stats.ts'
import type { Sample } from '../measure.ts'

/** All that a run found out; what the JSON file holds and the other reports are made of. */
export interface Results {
  /** The command that made them. */
  readonly command: string
  readonly startedAt: string
  readonly machine: string
  readonly pinning: string
  readonly rounds: number
  readonly seconds: number
  readonly peers: readonly PeerFacts[]
  readonly scenarios: readonly ScenarioResult[]
}

export interface PeerFacts {
  readonly name: string
  readonly version: string
  readonly does: string
  readonly isFullJob: boolean
}

export interface ScenarioResult {
  readonly name: string
  readonly title: string
  readonly kind: string
  /** Ratios are against this peer. */
  readonly reference: string
  readonly peers: readonly PeerResult[]
}

export interface PeerResult {
  readonly name: string
  /** Why there are no samples. */
  readonly failure: string | null
  readonly samples: readonly Sample[]
}

export type Figure =
  | 'cpuUs'
  | 'requestsPerS'
  | 'p50'
  | 'p99'
  | 'rssBytes'
  | 'busy'
  | 'bytesPerConnection'
  | 'p99Ratio'
  | 'calmP99Ratio'
  | 'disturbed'

export function figureOf(peer: PeerResult, figure: Figure): Spread | null {
  return spreadOf(peer.samples.map(sample => sample[figure]))
}

/** Against the reference, round by round; null where either has no figure. */
export function ratioOf(scenario: ScenarioResult, peer: PeerResult, figure: Figure): Spread | null {
  const reference = scenario.peers.find(({ name }) => name === scenario.reference)
  if (reference === undefined) return null
  const values = (from: PeerResult) => from.samples.map(sample => sample[figure])
  return pairedRatio(values(peer), values(reference))
}

/** What a scenario is about first: memory for idle, added latency for the open loop, else CPU. */
export function mainFigure(scenario: ScenarioResult): Figure {
  if (scenario.kind === 'idle') return 'bytesPerConnection'
  return scenario.kind === 'open' ? 'p99' : 'cpuUs'
}

export function errorsOf(peer: PeerResult): number {
  return peer.samples.reduce((sum, sample) => sum + sample.errors, 0)
}
