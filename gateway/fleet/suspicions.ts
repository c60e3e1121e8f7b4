import { LRUCache } from 'lru-cache'
import type { TenantId } from '../../registry/tenant.ts'

/** One look at the Registry in so long, however many requests of the tenant fail. */
const PAUSE_MS = 5_000
const TENANTS_MAX = 4096

/**
 * Tenants whose details did not work: each is read anew once, so that a changed password whose notice
 * was lost is found, and a database that is down does not become a load on the Registry.
 */
export class Suspicions {
  readonly #onSuspect: (id: TenantId) => void
  readonly #lastMs = new LRUCache<TenantId, number>({ max: TENANTS_MAX })

  constructor(onSuspect: (id: TenantId) => void) {
    this.#onSuspect = onSuspect
  }

  add(id: TenantId, nowMs: number): void {
    if (nowMs - (this.#lastMs.get(id) ?? 0) < PAUSE_MS) return
    this.#lastMs.set(id, nowMs)
    this.#onSuspect(id)
  }
}
