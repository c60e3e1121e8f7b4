import { setTimeout as delay } from 'node:timers/promises'
import type { ListedTenant } from '../registry/tenant-list.ts'
import { HostQueues } from './host-queues.ts'

/** Databases worked on at one time, and of those on one server (DESIGN 5). */
export const AT_ONCE = 8
export const AT_ONCE_PER_HOST = 2

export interface Pace {
  readonly atOnce: number
  readonly perHost: number
  /** Time between two starts at least; 0: as fast as the slots allow. */
  readonly intervalMs: number
  /** Once aborted nothing more is started; what runs is finished. */
  readonly signal?: AbortSignal
}

export const PACE: Pace = { atOnce: AT_ONCE, perHost: AT_ONCE_PER_HOST, intervalMs: 0 }

/** Does `work`, which never rejects, for each of `tenants`. Returns those that were not begun. */
export async function overFleet(
  tenants: readonly ListedTenant[],
  pace: Pace,
  work: (tenant: ListedTenant) => Promise<void>,
): Promise<readonly ListedTenant[]> {
  const queues = new HostQueues(pace.perHost, tenants, hostOf)
  const running = new Set<Promise<void>>()
  const startNext = (): boolean => {
    const next = running.size < pace.atOnce ? queues.take() : null
    if (next === null) return false
    const job = work(next.item).finally(() => {
      queues.give(next.host)
      running.delete(job)
    })
    running.add(job)
    return true
  }
  for (;;) {
    while (!pace.signal?.aborted && startNext()) {
      if (pace.intervalMs === 0) continue
      const options = pace.signal && { signal: pace.signal }
      await delay(pace.intervalMs, undefined, options).catch(() => {})
    }
    if (running.size === 0) return queues.left
    await Promise.race(running)
  }
}

/** A row without a host has no connection to save. */
function hostOf({ db: { host, port } }: ListedTenant): string {
  return `${host?.toLowerCase() ?? ''}:${port ?? 5432}`
}
