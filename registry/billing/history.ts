const DAY_MS = 86_400_000

/** A change of one column of a tenant, as the audit tells it. null: there was, or is, no tenant. */
export interface Change<T> {
  readonly atMs: number
  readonly from: T | null
  readonly to: T | null
}

/**
 * What a column was at a moment.
 *
 * @param changes in their order
 * @param now as it is; null: there is no tenant any more
 */
export function valueAt<T>(changes: readonly Change<T>[], now: T | null, atMs: number): T | null {
  const next = changes.find(change => change.atMs > atMs)
  if (next !== undefined) return next.from
  return changes.at(-1)?.to ?? now
}

/**
 * Days (UTC) of a month in some part of which the tenant was active, from 0.
 *
 * @param sinceMs there was no tenant before
 */
export function activeDays(
  changes: readonly Change<string>[],
  now: string | null,
  sinceMs: number,
  monthStartMs: number,
  monthEndMs: number,
): readonly number[] {
  const edges = [...changes.map(({ atMs }) => atMs), sinceMs].filter(
    atMs => atMs > monthStartMs && atMs < monthEndMs,
  )
  const moments = [monthStartMs, ...edges, monthEndMs].sort((a, b) => a - b)
  const days = new Set<number>()
  for (const [i, fromMs] of moments.entries()) {
    const untilMs = moments[i + 1]
    if (untilMs === undefined || untilMs === fromMs || fromMs < sinceMs) continue
    if (valueAt(changes, now, fromMs) !== 'active') continue
    const last = Math.ceil((untilMs - monthStartMs) / DAY_MS)
    for (let day = Math.floor((fromMs - monthStartMs) / DAY_MS); day < last; day++) days.add(day)
  }
  return [...days].sort((a, b) => a - b)
}
