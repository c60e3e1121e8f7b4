import type { FleetState } from '../../../live/fleet.ts'
import { many, span } from './format.ts'

export type Gateway = FleetState['gateways'][number]
export type Replica = FleetState['replicas'][number]

export interface Problem {
  readonly tone: 'warn' | 'bad'
  readonly text: string
}

/** The listener says something every few seconds, or is made anew. */
export const REGISTRY_AGE_WARN_MS = 15_000
/** Every request waits for so long at least. */
const LOOP_DELAY_WARN_MS = 50
const LOOP_DELAY_BAD_MS = 200
const PROBLEMS_MAX = 20

export function loopTone(delayMs: number): '' | 'warn' | 'bad' {
  if (delayMs >= LOOP_DELAY_BAD_MS) return 'bad'
  return delayMs >= LOOP_DELAY_WARN_MS ? 'warn' : ''
}

/** A process as operators call it: where it runs, and which of the workers there. */
export function gatewayName({
  host,
  pid,
  worker,
}: Pick<Gateway, 'host' | 'pid' | 'worker'>): string {
  return worker === 0 ? `${host} (${pid})` : `${host} (${pid}, worker ${worker})`
}

/** What is to be looked at, the worst first; a fleet without any is well. */
export function problemsOf(fleet: FleetState): readonly Problem[] {
  const bad: string[] = []
  const warn: string[] = []
  for (const gateway of fleet.gateways) {
    const name = gatewayName(gateway)
    const { load } = gateway
    if (load === null) {
      const heard = span(gateway.heartbeat_age_ms)
      bad.push(`Gateway ${name} did not answer; its last heartbeat was ${heard} ago.`)
      continue
    }
    if (!load.is_ready) warn.push(`Gateway ${name} is not ready.`)
    if (!load.registry.is_listener_healthy) {
      bad.push(`Gateway ${name} has no listener at the Registry: it hears of changes late.`)
    }
    if (load.registry.contact_age_ms >= REGISTRY_AGE_WARN_MS) {
      const age = span(load.registry.contact_age_ms)
      warn.push(`Gateway ${name} has not heard from the Registry for ${age}.`)
    }
    if (load.shed_share > 0) warn.push(`Gateway ${name} turns requests away because of load.`)
  }
  for (const gateway of fleet.gone) {
    const heard = span(gateway.heartbeat_age_ms)
    warn.push(`Gateway ${gatewayName(gateway)} ended without a word; last heard of ${heard} ago.`)
  }
  for (const replica of fleet.replicas) {
    const { origin, seen_by: seen, healthy_for: healthy } = replica
    if (healthy === 0) bad.push(`No gateway finds replica ${origin} healthy.`)
    else if (healthy < seen)
      warn.push(`Replica ${origin} is healthy for ${healthy} of ${seen} gateways.`)
    if (replica.app !== null && replica.app.db_breakers_open > 0) {
      warn.push(
        `Replica ${origin} has given up ${many(replica.app.db_breakers_open, 'database')} for now.`,
      )
    }
  }
  if (fleet.versions.length > 1) {
    warn.push(`Gateways run ${fleet.versions.length} versions: ${fleet.versions.join(', ')}.`)
  }
  if (fleet.app_versions.length > 1) {
    warn.push(
      `Replicas run ${fleet.app_versions.length} versions: ${fleet.app_versions.join(', ')}.`,
    )
  }
  const all = [
    ...bad.map(text => ({ tone: 'bad', text }) as const),
    ...warn.map(text => ({ tone: 'warn', text }) as const),
  ]
  const more = all.length - PROBLEMS_MAX
  if (more <= 0) return all
  return [...all.slice(0, PROBLEMS_MAX), { tone: 'warn', text: `And ${more} more.` }]
}

export interface CacheFill {
  readonly name: string
  readonly size: number
  readonly max: number
  /** The fullest of them, by its share. */
  readonly fullest: { readonly name: string; readonly share: number } | null
}

/** The caches of all gateways together, by name. */
export function cachesOf(gateways: readonly Gateway[]): readonly CacheFill[] {
  const found = new Map<string, { size: number; max: number; fullest: CacheFill['fullest'] }>()
  for (const gateway of gateways) {
    for (const { name, size, max } of gateway.load?.caches ?? []) {
      const sum = found.get(name) ?? { size: 0, max: 0, fullest: null }
      const share = max === 0 ? 0 : size / max
      if (sum.fullest === null || share > sum.fullest.share) {
        sum.fullest = { name: gatewayName(gateway), share }
      }
      found.set(name, { ...sum, size: sum.size + size, max: sum.max + max })
    }
  }
  return [...found].map(([name, sum]) => ({ name, ...sum }))
}
