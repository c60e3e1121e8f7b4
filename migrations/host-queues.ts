/** Work that waits, by database server; so many of each at a time, taken in turns. */
export class HostQueues<T> {
  readonly #perHost: number
  readonly #hosts = new Map<string, { readonly waiting: T[]; next: number; running: number }>()
  /** Hosts that may have something to take, in turns. */
  #turns: string[] = []

  constructor(perHost: number, items: readonly T[], hostOf: (item: T) => string) {
    this.#perHost = perHost
    for (const item of items) {
      const host = hostOf(item)
      const queue = this.#hosts.get(host)
      if (queue === undefined) this.#hosts.set(host, { waiting: [item], next: 0, running: 0 })
      else queue.waiting.push(item)
    }
    this.#turns = [...this.#hosts.keys()]
  }

  /** The next one whose host has a free slot, and its host, to be given back; null: none at the moment. */
  take(): { readonly item: T; readonly host: string } | null {
    for (let tries = this.#turns.length; tries > 0; tries--) {
      const host = this.#turns.shift() as string
      const queue = this.#hosts.get(host)
      if (queue === undefined || queue.next >= queue.waiting.length) continue
      this.#turns.push(host)
      if (queue.running >= this.#perHost) continue
      queue.running += 1
      return { item: queue.waiting[queue.next++] as T, host }
    }
    return null
  }

  give(host: string): void {
    const queue = this.#hosts.get(host)
    if (queue !== undefined) queue.running -= 1
  }

  /** What was never taken. */
  get left(): readonly T[] {
    return [...this.#hosts.values()].flatMap(({ waiting, next }) => waiting.slice(next))
  }
}
