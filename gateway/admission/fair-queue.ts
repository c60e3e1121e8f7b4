/** What waits of one tenant. */
interface Flow<T> {
  readonly key: string
  weight: number
  /** Virtual time at which its first item may start; of an empty flow, when its last one ends. */
  start: number
  readonly items: Set<T>
  /** Place in the heap; -1: nothing of it waits. */
  at: number
}

/** Empty flows are remembered until the others have caught up, and swept where they are so many more than those that wait. */
const EMPTY_SPARE = 64

/**
 * A queue that lets tenants take turns by their weights: start-time fair queueing (Goyal, Vin and Cheng 1996), each
 * request costing the same. Between any two tenants that wait all the time the requests served, by weight, differ by one
 * of each at most; a tenant that comes new waits for one request of each other tenant, however long their lines are.
 */
export class FairQueue<T> {
  readonly #flows = new Map<string, Flow<T>>()
  /** Of the flows that have items, the one that starts first on top. */
  readonly #heap: Flow<T>[] = []
  /** Start of the item that was served last. */
  #now = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  /** Tenants of which something waits. */
  get flows(): number {
    return this.#heap.length
  }

  /** The same, and those that were served so lately that they are not even with the others. */
  get remembered(): number {
    return this.#flows.size
  }

  lengthOf(key: string): number {
    return this.#flows.get(key)?.items.size ?? 0
  }

  /** @param item not in the queue yet */
  push(key: string, weight: number, item: T): void {
    let flow = this.#flows.get(key)
    if (flow === undefined) {
      flow = { key, weight, start: this.#now, items: new Set(), at: -1 }
      this.#flows.set(key, flow)
    }
    flow.weight = weight
    flow.items.add(item)
    this.#size++
    if (flow.at !== -1) return
    // Who was served a moment ago is not ahead of those that have waited meanwhile.
    flow.start = Math.max(flow.start, this.#now)
    flow.at = this.#heap.length
    this.#heap.push(flow)
    this.#up(flow)
  }

  /** Whose turn it is. */
  pop(): T | undefined {
    const flow = this.#heap[0]
    if (flow === undefined) return undefined
    const [item] = flow.items
    flow.items.delete(item as T)
    this.#size--
    this.#now = flow.start
    flow.start += 1 / flow.weight
    if (flow.items.size === 0) this.#takeOut(flow)
    else this.#down(flow)
    return item
  }

  /** One that does not wait any longer. False: it is not there. */
  remove(key: string, item: T): boolean {
    const flow = this.#flows.get(key)
    if (flow === undefined || !flow.items.delete(item)) return false
    this.#size--
    if (flow.items.size === 0) this.#takeOut(flow)
    return true
  }

  /** The oldest of the tenant with the longest line. Looks at all tenants: only where the queue is full. */
  oldestOfLongest(): { readonly key: string; readonly length: number; readonly item: T } | null {
    let longest = this.#heap[0]
    if (longest === undefined) return null
    for (const flow of this.#heap) if (flow.items.size > longest.items.size) longest = flow
    const [item] = longest.items
    return { key: longest.key, length: longest.items.size, item: item as T }
  }

  /** The oldest of each tenant. */
  *oldest(): Generator<T, void, undefined> {
    for (const { items } of [...this.#heap]) {
      const [item] = items
      if (item !== undefined) yield item
    }
  }

  #takeOut(flow: Flow<T>): void {
    const last = this.#heap.pop() as Flow<T>
    const { at } = flow
    flow.at = -1
    if (last !== flow) {
      this.#heap[at] = last
      last.at = at
      this.#up(last)
      this.#down(last)
    }
    if (this.#heap.length === 0) {
      // Nobody is ahead of anybody any more.
      this.#flows.clear()
      this.#now = 0
    } else if (this.#flows.size > 2 * this.#heap.length + EMPTY_SPARE) this.#sweep()
  }

  #sweep(): void {
    for (const flow of this.#flows.values()) {
      if (flow.at === -1 && flow.start <= this.#now) this.#flows.delete(flow.key)
    }
  }

  #up(flow: Flow<T>): void {
    while (flow.at > 0) {
      const parent = this.#heap[(flow.at - 1) >> 1] as Flow<T>
      if (parent.start <= flow.start) return
      this.#swap(parent, flow)
    }
  }

  #down(flow: Flow<T>): void {
    for (;;) {
      const left = this.#heap[2 * flow.at + 1]
      const right = this.#heap[2 * flow.at + 2]
      if (left === undefined) return
      const least = right !== undefined && right.start < left.start ? right : left
      if (flow.start <= least.start) return
      this.#swap(flow, least)
    }
  }

  /** @param parent above `child` in the heap */
  #swap(parent: Flow<T>, child: Flow<T>): void {
    const at = parent.at
    parent.at = child.at
    child.at = at
    this.#heap[parent.at] = parent
    this.#heap[child.at] = child
  }
}
