import { LRUCache } from 'lru-cache'

/** Wrong keys of one address: so many at once, then one per interval. */
const BURST = 20
const INTERVAL_MS = 1000
/** Addresses remembered; beyond it the least recent is forgotten, which can only let it try again. */
const ADDRESSES_MAX = 4096

/** Slows down who tries keys, by a GCRA for each address. A key cannot be guessed; the look-ups cost. */
export class FailureLimit {
  /** When the address will have paid for its failures, in ms of a monotonic clock. */
  readonly #dueAt = new LRUCache<string, number>({ max: ADDRESSES_MAX })

  mayTry(address: string, nowMs: number): boolean {
    return (this.#dueAt.get(address) ?? 0) - nowMs <= (BURST - 1) * INTERVAL_MS
  }

  add(address: string, nowMs: number): void {
    this.#dueAt.set(address, Math.max(this.#dueAt.get(address) ?? 0, nowMs) + INTERVAL_MS)
  }
}
