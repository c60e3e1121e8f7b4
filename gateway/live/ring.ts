import {
  FIELDS,
  type Figures,
  noFigures,
  SLOT_MS,
  SLOTS,
  TOOK_MS_BOUNDS,
} from '../../registry/live/figures.ts'
import type { TenantKey } from '../../registry/tenant.ts'
import type { TenantCell } from '../tenant-series.ts'

/** Of a slot: its number, five counts, and the buckets of durations. Bytes are kept apart. */
const REQUESTS = 1
const CLIENT_ERRORS = 2
const LIMITED = 3
const SERVER_ERRORS = 4
const ABORTED = 5
const TOOK = 6
const BUCKETS = TOOK_MS_BOUNDS.length + 1
const WIDTH = TOOK + BUCKETS

/** What a ring takes: 18 counts of 4 bytes and 2 of 8 in each of 60 slots, and the objects around them. */
export const RING_BYTES = SLOTS * (WIDTH * 4 + 2 * 8) + 400

/** The last five minutes of one tenant, or of a process. To count costs a few integer additions and no memory. */
export class Ring {
  readonly #counts = new Uint32Array(SLOTS * WIDTH)
  /** In, out. They outgrow 32 bits: a long answer counts in the slot of its end. */
  readonly #bytes = new Float64Array(SLOTS * 2)

  /** Set by the pulse. */
  key = '' as TenantKey
  /** Where the tenant's requests are counted besides; null: with those of all others. */
  cell: TenantCell | null = null

  /** @param tookMs until the head of the answer; negative: there was none */
  note(slot: number, status: number, tookMs: number, bytesIn: number, bytesOut: number): void {
    const counts = this.#counts
    const at = slot % SLOTS
    const base = at * WIDTH
    if (counts[base] !== slot) this.#begin(slot, base, at)
    counts[base + REQUESTS] = (counts[base + REQUESTS] as number) + 1
    if (status >= 400 || status === 0) {
      const field = base + fieldOfStatus(status)
      counts[field] = (counts[field] as number) + 1
    }
    const bytes = this.#bytes
    bytes[at * 2] = (bytes[at * 2] as number) + bytesIn
    bytes[at * 2 + 1] = (bytes[at * 2 + 1] as number) + bytesOut
    if (tookMs < 0) return
    let bucket = base + TOOK
    for (let i = 0; i < TOOK_MS_BOUNDS.length && tookMs > (TOOK_MS_BOUNDS[i] as number); i++)
      bucket++
    counts[bucket] = (counts[bucket] as number) + 1
  }

  /** Requests in the slots from `first` to `last`. */
  requests(first: number, last: number): number {
    let sum = 0
    for (let slot = first; slot <= last; slot++) {
      const base = (slot % SLOTS) * WIDTH
      if (this.#counts[base] === slot) sum += this.#counts[base + REQUESTS] as number
    }
    return sum
  }

  /** The same in full; null: there were none. */
  figures(first: number, last: number): Figures | null {
    let sum: number[] | null = null
    for (let slot = first; slot <= last; slot++) {
      const at = slot % SLOTS
      const base = at * WIDTH
      if (this.#counts[base] !== slot) continue
      sum ??= noFigures()
      for (let i = REQUESTS; i <= ABORTED; i++) add(sum, i - REQUESTS, this.#counts[base + i])
      add(sum, BYTES_IN, this.#bytes[at * 2])
      add(sum, BYTES_IN + 1, this.#bytes[at * 2 + 1])
      for (let i = 0; i < BUCKETS; i++) add(sum, FIELDS.length + i, this.#counts[base + TOOK + i])
    }
    return sum
  }

  #begin(slot: number, base: number, at: number): void {
    this.#counts.fill(0, base, base + WIDTH)
    this.#counts[base] = slot
    this.#bytes.fill(0, at * 2, at * 2 + 2)
  }
}

const BYTES_IN = FIELDS.indexOf('bytes_in')

/** Number of the slot that is now. It fits into 32 bits until the year 2650. */
export function slotOf(nowMs: number): number {
  return Math.floor(nowMs / SLOT_MS)
}

function fieldOfStatus(status: number): number {
  if (status === 0) return ABORTED
  if (status >= 500) return SERVER_ERRORS
  return status === 429 ? LIMITED : CLIENT_ERRORS
}

function add(sum: number[], at: number, more: number | undefined): void {
  sum[at] = (sum[at] as number) + (more as number)
}
