/** 16,384 registers: a standard error of 1.04 / sqrt(16,384) = 0.81 %. The Registry's sketch has as many. */
export const REGISTERS = 16_384
const REGISTER_BITS = 14

/**
 * Where a user falls in a HyperLogLog: register * 64 + rank. The same on every gateway, for the Registry takes
 * of each register the highest rank of all.
 */
export function userMark(userId: string): number {
  // cyrb53: two halves that each depend on all characters, mixed as in MurmurHash3.
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (let i = 0; i < userId.length; i++) {
    const code = userId.charCodeAt(i)
    a = Math.imul(a ^ code, 2654435761)
    b = Math.imul(b ^ code, 1597334677)
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909)
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909)
  return ((a >>> (32 - REGISTER_BITS)) << 6) | (Math.clz32(b) + 1)
}

/** What one process knows of a tenant's users of a day beyond those that it names. */
export class UserSketch {
  readonly #ranks = new Uint8Array(REGISTERS)
  /** Registers that moved since `take`. */
  readonly #moved = new Set<number>()

  /** True where it says anything new. */
  add(mark: number): boolean {
    const register = mark >> 6
    const rank = mark & 63
    if (rank <= (this.#ranks[register] as number)) return false
    this.#ranks[register] = rank
    this.#moved.add(register)
    return true
  }

  get moved(): number {
    return this.#moved.size
  }

  /** The marks that moved. */
  peek(): number[] {
    return [...this.#moved].map(register => (register << 6) | (this.#ranks[register] as number))
  }

  /** The marks that moved, at most `max`; the others stay for the next time. */
  take(max: number): number[] {
    const marks: number[] = []
    for (const register of this.#moved) {
      if (marks.length >= max) break
      marks.push((register << 6) | (this.#ranks[register] as number))
      this.#moved.delete(register)
    }
    return marks
  }
}
