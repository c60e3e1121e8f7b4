/**
 * Latencies in whole microseconds with a bounded relative error of 1/1024, as HdrHistogram keeps them:
 * exact below 2,048 µs, then 1,024 buckets for each doubling. Fixed size, and merging two is exact.
 */
export class Histogram {
  static readonly #EXACT = 2048
  static readonly #HALF = 1024
  /** 2^11 µs … 2^32 µs (71 minutes): 21 doublings; what is longer goes into the last bucket. */
  static readonly #DOUBLINGS = 21
  readonly #counts = new Uint32Array(Histogram.#EXACT + Histogram.#HALF * Histogram.#DOUBLINGS)
  #total = 0
  #max = 0

  get count(): number {
    return this.#total
  }

  /** Largest value recorded, in µs, exact. */
  get maxUs(): number {
    return this.#max
  }

  record(valueUs: number): void {
    const value = valueUs < 0 ? 0 : Math.floor(valueUs)
    const index = Math.min(Histogram.#indexOf(value), this.#counts.length - 1)
    this.#counts[index] = (this.#counts[index] as number) + 1
    this.#total++
    if (value > this.#max) this.#max = value
  }

  /**
   * @param quantile 0 … 1
   * @returns the smallest bucket value in µs with at least that share at or below it; NaN when empty
   */
  percentile(quantile: number): number {
    if (this.#total === 0) return Number.NaN
    const wanted = Math.max(1, Math.ceil(quantile * this.#total))
    let seen = 0
    for (let index = 0; index < this.#counts.length; index++) {
      seen += this.#counts[index] as number
      if (seen >= wanted) return Math.min(Histogram.#highestOf(index), this.#max)
    }
    return this.#max
  }

  merge(other: Histogram): void {
    for (let index = 0; index < this.#counts.length; index++) {
      this.#counts[index] = (this.#counts[index] as number) + (other.#counts[index] as number)
    }
    this.#total += other.#total
    this.#max = Math.max(this.#max, other.#max)
  }

  static #indexOf(value: number): number {
    if (value < Histogram.#EXACT) return value
    const doubling = 31 - Math.clz32(Math.min(value, 0xffff_ffff) / Histogram.#EXACT)
    const sub = Math.floor(value / 2 ** (doubling + 1)) - Histogram.#HALF
    return Histogram.#EXACT + doubling * Histogram.#HALF + sub
  }

  static #highestOf(index: number): number {
    if (index < Histogram.#EXACT) return index
    const doubling = Math.floor((index - Histogram.#EXACT) / Histogram.#HALF)
    const sub = (index - Histogram.#EXACT) % Histogram.#HALF
    return (Histogram.#HALF + sub + 1) * 2 ** (doubling + 1) - 1
  }
}
