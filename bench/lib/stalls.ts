/** Milliseconds of the system's monotonic clock, the same in all processes. */
export interface Interval {
  readonly fromMs: number
  readonly toMs: number
}

/** One request: when it should have started, and how long it took from there. */
export interface Sample {
  readonly startedMs: number
  readonly tookMs: number
}

/**
 * What the machine did not disturb: samples that no stall touches. What gathered in a stall is worked off after it,
 * so that it counts for twice its length.
 */
export function undisturbed(samples: readonly Sample[], stalls: readonly Interval[]): Sample[] {
  const shadows = merge(
    stalls.map(({ fromMs, toMs }) => ({ fromMs, toMs: toMs + (toMs - fromMs) })),
  )
  return samples.filter(({ startedMs, tookMs }) => {
    const at = firstEndingAfter(shadows, startedMs)
    return at === undefined || at.fromMs > startedMs + tookMs
  })
}

/**
 * The smallest value with at least that share at or below it (nearest rank); NaN of none.
 *
 * @param quantile 0 … 1
 */
export function percentileOf(values: readonly number[], quantile: number): number {
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.max(1, Math.ceil(quantile * sorted.length)) - 1] ?? Number.NaN
}

function merge(intervals: readonly Interval[]): Interval[] {
  const merged: Interval[] = []
  for (const interval of [...intervals].sort((a, b) => a.fromMs - b.fromMs)) {
    const last = merged.at(-1)
    if (last === undefined || interval.fromMs > last.toMs) merged.push(interval)
    else if (interval.toMs > last.toMs) {
      merged[merged.length - 1] = { fromMs: last.fromMs, toMs: interval.toMs }
    }
  }
  return merged
}

/** By halving: ends are in order where intervals do not overlap. */
function firstEndingAfter(merged: readonly Interval[], ms: number): Interval | undefined {
  let low = 0
  let high = merged.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((merged[middle] as Interval).toMs < ms) low = middle + 1
    else high = middle
  }
  return merged[low]
}
