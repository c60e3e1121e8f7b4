/** A key has one cell in each row, and the lowest of them counts. */
const ROWS = 4
/** 4 rows of 131,072 cells of 8 bytes are 4 MiB, which the system hands out as they are touched. */
const CELLS_PER_ROW = 131_072

/** What a limit knows a client, account or both by: a keyed hash, so that nobody can choose its cells. */
export interface LimitKey {
  readonly id: string
  readonly cells: readonly number[]
}

/** @param tag an HMAC tag of 32 bytes in base64url */
export function limitKey(tag: string): LimitKey {
  const bytes = Buffer.from(tag, 'base64url')
  const cells = Array.from(
    { length: ROWS },
    (_, row) => row * CELLS_PER_ROW + (bytes.readUInt32LE(row * 4) % CELLS_PER_ROW),
  )
  return { id: tag, cells }
}

/**
 * Counts failures per key in memory of a fixed size: a count-min sketch whose cells are GCRA times
 * (ITU-T I.371: one number per key says how much of its allowance is used, and time gives it back evenly).
 *
 * Nothing is ever evicted, so a flood of made-up accounts cannot make it forget those under attack. What
 * the flood can do is raise cells that others share: a key is then taken for worse than it is, never for
 * better. With 65,536 keys at their limit at once that befalls about one other key in forty.
 */
export class FailureSketch {
  readonly #windowMs: number
  /** Time in which one failure is forgiven. */
  readonly #stepMs: number
  /** When all failures of a cell will be forgiven; milliseconds of the caller's clock. */
  readonly #clearAtMs = new Float64Array(ROWS * CELLS_PER_ROW)

  /** @param max failures that count at most; they are all forgiven after `windowMs` */
  constructor(max: number, windowMs: number) {
    this.#windowMs = windowMs
    this.#stepMs = windowMs / max
  }

  /** Failures of `key` that are not forgiven yet. */
  count(key: LimitKey, nowMs: number): number {
    const leftMs = this.#clearAt(key) - nowMs
    return leftMs <= 0 ? 0 : Math.ceil(leftMs / this.#stepMs)
  }

  /** Milliseconds until one failure less counts. */
  untilFewerMs(key: LimitKey, nowMs: number): number {
    const leftMs = this.#clearAt(key) - nowMs
    return leftMs <= 0 ? 0 : leftMs - (Math.ceil(leftMs / this.#stepMs) - 1) * this.#stepMs
  }

  add(key: LimitKey, nowMs: number): void {
    const clearAtMs = Math.min(
      Math.max(this.#clearAt(key), nowMs) + this.#stepMs,
      nowMs + this.#windowMs,
    )
    // Cells that are higher already are another key's doing and stay.
    for (const cell of key.cells) {
      if ((this.#clearAtMs[cell] as number) < clearAtMs) this.#clearAtMs[cell] = clearAtMs
    }
  }

  #clearAt({ cells }: LimitKey): number {
    let lowest = Number.POSITIVE_INFINITY
    for (const cell of cells) lowest = Math.min(lowest, this.#clearAtMs[cell] as number)
    return lowest
  }
}
