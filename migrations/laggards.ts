import { setTimeout as delay } from 'node:timers/promises'
import type { ListedTenant } from '../registry/tenant-list.ts'
import type { FleetResult, TenantOutcome } from './fleet.ts'

export interface WatchOptions {
  /** Whether another run has the fleet: its canaries and limits would be worth nothing beside a watch. */
  readonly isBusy: () => Promise<boolean>
  /** Those that are behind now, as the Registry knows it. */
  readonly findLaggards: () => Promise<readonly ListedTenant[]>
  /** One pass over some of them. */
  readonly run: (
    tenants: readonly ListedTenant[],
    onDone: (outcome: TenantOutcome) => void,
  ) => Promise<FleetResult>
  /** A pass that failed as a whole: the Registry could not be asked. */
  readonly onError: (error: unknown) => void
  readonly signal: AbortSignal
  /** Between two looks. */
  readonly pauseMs?: number
  readonly now?: () => number
}

const PAUSE_MS = 10_000
/** A tenant that failed is tried again after this, doubled with each failure. */
const AGAIN_MS = 30_000
const AGAIN_MS_MAX = 3_600_000

/**
 * Works through laggards until `signal`: those that there are, and those that come, such as a tenant whose
 * database was restored from an old copy. One that fails is left alone for longer each time.
 */
export async function watchLaggards(options: WatchOptions): Promise<void> {
  const { signal, now = () => performance.now() } = options
  /** Bounded by the laggards: who is none any more is forgotten. */
  const failures = new Map<string, { readonly count: number; readonly untilMs: number }>()
  const work = async (laggards: readonly ListedTenant[]) => {
    const ids = new Set(laggards.map(({ id }) => id))
    for (const id of failures.keys()) if (!ids.has(id)) failures.delete(id)
    const due = laggards.filter(({ id }) => (failures.get(id)?.untilMs ?? 0) <= now())
    if (due.length === 0) return
    await options.run(due, ({ tenant: { id }, result }) => {
      if (result !== 'failed') return void failures.delete(id)
      const count = (failures.get(id)?.count ?? 0) + 1
      const pauseMs = Math.min(AGAIN_MS_MAX, AGAIN_MS * 2 ** (count - 1))
      failures.set(id, { count, untilMs: now() + pauseMs })
    })
  }
  while (!signal.aborted) {
    try {
      if (!(await options.isBusy())) await work(await options.findLaggards())
    } catch (error) {
      options.onError(error)
    }
    await delay(options.pauseMs ?? PAUSE_MS, undefined, { signal }).catch(() => {})
  }
}
