/** Where one of the needles begins. */
export interface Found<T> {
  readonly at: number
  readonly value: T
}

const BASE = 0x01000193
const FILTER_BITS = 22

/**
 * Thousands of needles looked for in one pass over a text (Karp and Rabin 1987): a search for each by
 * itself takes minutes where a world has written tens of megabytes.
 */
export class Needles<T> {
  readonly #byHead = new Map<string, { readonly needle: string; readonly value: T }[]>()
  /** Marks hashes of heads; most windows of a text are ruled out by it alone. */
  readonly #filter = new Uint8Array(1 << FILTER_BITS)
  readonly #headChars: number

  constructor(needles: readonly (readonly [needle: string, value: T])[]) {
    this.#headChars = Math.min(...needles.map(([{ length }]) => length))
    if (this.#headChars < 1) throw new Error('an empty needle is everywhere')
    for (const [needle, value] of needles) {
      const head = needle.slice(0, this.#headChars)
      const same = this.#byHead.get(head)
      if (same === undefined) this.#byHead.set(head, [{ needle, value }])
      else same.push({ needle, value })
      let hash = 0
      for (let i = 0; i < head.length; i++) hash = (Math.imul(hash, BASE) + head.charCodeAt(i)) | 0
      this.#filter[slotOf(hash)] = 1
    }
  }

  *find(text: string): Generator<Found<T>, void, undefined> {
    const width = this.#headChars
    let leaving = 1
    for (let i = 0; i < width; i++) leaving = Math.imul(leaving, BASE)
    let hash = 0
    for (let i = 0; i < text.length; i++) {
      hash = (Math.imul(hash, BASE) + text.charCodeAt(i)) | 0
      if (i >= width) hash = (hash - Math.imul(text.charCodeAt(i - width), leaving)) | 0
      if (i < width - 1 || this.#filter[slotOf(hash)] === 0) continue
      const at = i - width + 1
      for (const { needle, value } of this.#byHead.get(text.slice(at, i + 1)) ?? []) {
        if (text.startsWith(needle, at)) yield { at, value }
      }
    }
  }
}

function slotOf(hash: number): number {
  return (hash ^ (hash >>> 15)) & ((1 << FILTER_BITS) - 1)
}
