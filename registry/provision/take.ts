import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { publicFault } from '../lib/errors.ts'
import type { RegistryStore } from '../store.ts'
import { findRun, LEASE_MS, type ProvisionRun, RunLease, takeRun } from './runs.ts'

/** A run that this process works at. */
export interface Taken {
  readonly run: ProvisionRun
  readonly lease: RunLease
}

const POLL_MS = 500

/**
 * Takes a run to work at it.
 *
 * @param waitMs for a process that is at it, or that died less than six seconds ago
 * @returns null where there is no run of this key
 * @throws Fault CONFLICT where another process is at it all the while
 */
export async function take(store: RegistryStore, key: string, waitMs = 0): Promise<Taken | null> {
  const endsAt = performance.now() + waitMs
  for (;;) {
    const runner = randomUUID()
    const run = await takeRun(store, key, runner)
    if (run !== null) return { run, lease: new RunLease(store, key, runner) }
    if ((await findRun(store, key)) === null) return null
    if (performance.now() >= endsAt) break
    await delay(POLL_MS)
  }
  const text = `${key} is worked at already; if that process is gone, wait ${LEASE_MS / 1000} seconds`
  throw publicFault('CONFLICT', text, { retryAfterS: LEASE_MS / 1000 })
}

/** What a command waits for one that was killed just now. */
export const TAKE_OVER_MS = LEASE_MS + 2 * POLL_MS
