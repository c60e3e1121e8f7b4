/**
 * Tells a token seen a second time from one seen once: only those are worth a place in the cache.
 * With 100,000 tokens that come once each, caching all of them costs more than it saves, mostly in
 * garbage collection (`npm run bench -- cold`). A table of fixed size, no allocation, and a wrong
 * answer (two tokens in one slot) only costs a verification or a place.
 */
export class Sightings {
  readonly #slots: Int32Array

  /** @param size slots, four bytes each; a power of two */
  constructor(size: number) {
    if (size < 1 || (size & (size - 1)) !== 0) throw new Error('size must be a power of two')
    this.#slots = new Int32Array(size)
  }

  /** Notes `token`, which must end in its signature: those characters are as good as random. */
  isSecond(token: string): boolean {
    let mark = 0
    for (let i = token.length - 12; i < token.length - 2; i++) {
      mark = (mark * 31 + token.charCodeAt(i)) | 0
    }
    const at = (mark ^ (mark >>> 15)) & (this.#slots.length - 1)
    if (this.#slots[at] === mark) return true
    this.#slots[at] = mark
    return false
  }
}
