/**
 * A bounded cache for the hot path: a hit on a recent key is one Map look-up, where an LRU list moves
 * links at each. Entries live in two generations; when the young one is full it becomes the old one
 * and what nobody asked for meanwhile goes with the old one before it.
 */
export class RecentCache<V extends object> {
  readonly #generationMax: number
  #young = new Map<string, V>()
  #old = new Map<string, V>()

  /** @param entriesMax of both generations together */
  constructor(entriesMax: number) {
    this.#generationMax = Math.max(1, Math.ceil(entriesMax / 2))
  }

  get size(): number {
    return this.#young.size + this.#old.size
  }

  get(key: string): V | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young
    const old = this.#old.get(key)
    if (old === undefined) return undefined
    this.#old.delete(key)
    this.set(key, old)
    return old
  }

  set(key: string, value: V): void {
    if (this.#young.size >= this.#generationMax && !this.#young.has(key)) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(key, value)
  }

  delete(key: string): void {
    this.#young.delete(key)
    this.#old.delete(key)
  }
}
