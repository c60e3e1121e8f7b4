/**
 * How the traffic of a tenant, or of a whole process, is counted for the live views: by slots of the clock, so that
 * those of several gateways can be added up. Gateway clocks that differ by less than a slot blur it, no more.
 */
export const SLOT_MS = 5_000
/** Five minutes are kept. */
export const SLOTS = 60
/** Upper bounds in milliseconds of what a request took; the last bucket is above all of them. */
export const TOOK_MS_BOUNDS = [2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000] as const

/** Of all counts but the last two fields; durations follow. */
export const FIELDS = [
  'requests',
  /** 4xx but 429. */
  'client_errors',
  /** 429. */
  'limited',
  /** 5xx. */
  'server_errors',
  /** The client left before an answer began. */
  'aborted',
  'bytes_in',
  'bytes_out',
] as const
export type Field = (typeof FIELDS)[number]

/** Counts in the order of FIELDS, then requests by bucket of TOOK_MS_BOUNDS; on the way zeros at the end are left out. */
export type Figures = readonly number[]
export const FIGURES_LENGTH = FIELDS.length + TOOK_MS_BOUNDS.length + 1

export function noFigures(): number[] {
  return new Array<number>(FIGURES_LENGTH).fill(0)
}

/** As they travel. */
export function packFigures(figures: Figures): number[] {
  let length = figures.length
  while (length > 0 && figures[length - 1] === 0) length--
  return figures.slice(0, length)
}

export function addFigures(sum: number[], more: Figures): void {
  for (let i = 0; i < FIGURES_LENGTH; i++) sum[i] = (sum[i] ?? 0) + (more[i] ?? 0)
}

export function fieldOf(figures: Figures, field: Field): number {
  return figures[FIELDS.indexOf(field)] ?? 0
}

/**
 * Milliseconds below which `share` of the timed requests stayed, taken as even within a bucket; of the last bucket
 * its lower bound. Null where nothing was timed.
 */
export function quantileMs(figures: Figures, share: number): number | null {
  const took = figures.slice(FIELDS.length)
  const wanted = share * took.reduce((sum, count) => sum + count, 0)
  if (wanted === 0) return null
  let below = 0
  for (const [i, count] of took.entries()) {
    const from = TOOK_MS_BOUNDS[i - 1] ?? 0
    const to = TOOK_MS_BOUNDS[i] ?? from
    if (below + count >= wanted) return from + ((to - from) * (wanted - below)) / count
    below += count
  }
  return TOOK_MS_BOUNDS.at(-1) ?? null
}
