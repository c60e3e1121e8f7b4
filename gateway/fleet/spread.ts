/** How many replicas a tenant has at the moment beyond its own number, and since when it is so. */
export interface SpreadState {
  extra: number
  /** Since when all its replicas were over their bound at each look; 0: they were not. */
  overSinceMs: number
  /** When they last were. */
  lastOverMs: number
}

export interface SpreadLimits {
  /** All of its replicas over their bound for so long: one more. */
  readonly growAfterMs: number
  /** None of that for so long: one fewer. Much longer than the growth, or it would swing. */
  readonly shrinkAfterMs: number
  readonly extraMax: number
}

/**
 * What becomes of the spread after one look; true where it changed. A tenant that is too much for its
 * replicas gets another one, and gives it back after a calm time.
 */
export function moveSpread(
  state: SpreadState,
  isOver: boolean,
  nowMs: number,
  limits: SpreadLimits,
): boolean {
  if (isOver) {
    state.lastOverMs = nowMs
    if (state.overSinceMs === 0) state.overSinceMs = nowMs
    if (nowMs - state.overSinceMs < limits.growAfterMs || state.extra >= limits.extraMax) {
      return false
    }
    state.overSinceMs = 0
    state.extra++
    return true
  }
  state.overSinceMs = 0
  if (state.extra === 0 || nowMs - state.lastOverMs < limits.shrinkAfterMs) return false
  // The next step after as long again.
  state.lastOverMs = nowMs
  state.extra--
  return true
}
