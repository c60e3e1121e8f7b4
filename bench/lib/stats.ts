/** A figure over the rounds of a run: what is typical, and how far the rounds lie apart. */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

/** Values that are not finite (a round that failed) are left out; null when none is left. */
export function spreadOf(values: readonly number[]): Spread | null {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b)
  const [min] = sorted
  const max = sorted.at(-1)
  if (min === undefined || max === undefined) return null
  return { median: medianOfSorted(sorted), min, max }
}

/**
 * Round by round ratios of two interleaved series, so that a disturbance that hit both sides of a
 * round drops out. Rounds missing on either side are left out, and so are those whose reference is not
 * positive: a difference of two measurements (added latency) below the noise is nothing to divide by.
 */
export function pairedRatio(
  values: readonly number[],
  reference: readonly number[],
): Spread | null {
  const ratios: number[] = []
  for (let round = 0; round < Math.min(values.length, reference.length); round++) {
    const divisor = reference[round] as number
    if (divisor > 0) ratios.push((values[round] as number) / divisor)
  }
  return spreadOf(ratios)
}

function medianOfSorted(sorted: readonly number[]): number {
  const middle = sorted.length >> 1
  const high = sorted[middle] as number
  return sorted.length % 2 === 1 ? high : ((sorted[middle - 1] as number) + high) / 2
}
