import {
  FIELDS,
  type Figures,
  noFigures,
  SLOT_MS,
  SLOTS,
  TOOK_MS_BOUNDS,
} from '../../registry/live/figures.ts'
import type { TenantId, TenantKey } from '../../registry/tenant.ts'
import type { TenantCell } from '../tenant-series.ts'

/** Of a slot: five counts, and the buckets of durations. Its number and the bytes are kept apart. */
const REQUESTS = 0
const CLIENT_ERRORS = 1
const LIMITED = 2
const SERVER_ERRORS = 3
const ABORTED = 4
const TOOK = 5
const BUCKETS = TOOK_MS_BOUNDS.length + 1
const WIDTH = TOOK + BUCKETS
/** Of a ring: the numbers of its slots, then their counts. */
const COUNTS = SLOTS * (1 + WIDTH)
const BYTES = SLOTS * 2

/** What a ring takes: 18 counts of 4 bytes and 2 of 8 in each of 60 slots, and the object around them. */
export const RING_BYTES = COUNTS * 4 + BYTES * 8 + 100

/** Rings whose counts lie in one piece of memory: 330 kB. */
export const BLOCK_RINGS = 64

/** Memory for rings, which are used again and again. */
export class RingBlock {
  readonly counts: Uint32Array
  /** In, out. They outgrow 32 bits: a long answer counts in the slot of its end. */
  readonly bytes: Float64Array

  constructor(rings: number) {
    this.counts = new Uint32Array(rings * COUNTS)
    this.bytes = new Float64Array(rings * BYTES)
  }
}

/** The last five minutes of one tenant, or of a process. To count costs a few integer additions and no memory. */
export class Ring {
  readonly #counts: Uint32Array
  readonly #bytes: Float64Array
  /** Where in the block it begins. */
  readonly #countsAt: number
  readonly #bytesAt: number

  // Set by whoever keeps it.
  id = '' as TenantId
  key = '' as TenantKey
  /** Where the tenant's requests are counted besides; null: with those of all others. */
  cell: TenantCell | null = null
  /** Asked for since it was looked at last. */
  isRecent = true

  constructor(block = new RingBlock(1), at = 0) {
    this.#counts = block.counts
    this.#bytes = block.bytes
    this.#countsAt = at * COUNTS
    this.#bytesAt = at * BYTES
  }

  /** Nothing of whoever it belonged to is seen any more. */
  clear(): void {
    this.#counts.fill(0, this.#countsAt, this.#countsAt + SLOTS)
  }

  /** @param tookMs until the head of the answer; negative: there was none */
  note(slot: number, status: number, tookMs: number, bytesIn: number, bytesOut: number): void {
    const counts = this.#counts
    const at = slot % SLOTS
    const base = this.#baseOf(at)
    const bytesAt = this.#bytesAt + at * 2
    if (counts[this.#countsAt + at] !== slot) this.#begin(slot, at)
    counts[base + REQUESTS] = (counts[base + REQUESTS] as number) + 1
    if (status >= 400 || status === 0) {
      const field = base + fieldOfStatus(status)
      counts[field] = (counts[field] as number) + 1
    }
    const bytes = this.#bytes
    bytes[bytesAt] = (bytes[bytesAt] as number) + bytesIn
    bytes[bytesAt + 1] = (bytes[bytesAt + 1] as number) + bytesOut
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
      const at = slot % SLOTS
      if (this.#counts[this.#countsAt + at] === slot) {
        sum += this.#counts[this.#baseOf(at) + REQUESTS] as number
      }
    }
    return sum
  }

  /** The same in full; null: there were none. */
  figures(first: number, last: number): Figures | null {
    let sum: number[] | null = null
    for (let slot = first; slot <= last; slot++) {
      const at = slot % SLOTS
      if (this.#counts[this.#countsAt + at] !== slot) continue
      const base = this.#baseOf(at)
      const bytesAt = this.#bytesAt + at * 2
      sum ??= noFigures()
      for (let i = REQUESTS; i <= ABORTED; i++) add(sum, i, this.#counts[base + i])
      add(sum, BYTES_IN, this.#bytes[bytesAt])
      add(sum, BYTES_IN + 1, this.#bytes[bytesAt + 1])
      for (let i = 0; i < BUCKETS; i++) add(sum, FIELDS.length + i, this.#counts[base + TOOK + i])
    }
    return sum
  }

  #baseOf(at: number): number {
    return this.#countsAt + SLOTS + at * WIDTH
  }

  #begin(slot: number, at: number): void {
    const base = this.#baseOf(at)
    this.#counts.fill(0, base, base + WIDTH)
    this.#counts[this.#countsAt + at] = slot
    const bytesAt = this.#bytesAt + at * 2
    this.#bytes.fill(0, bytesAt, bytesAt + 2)
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
