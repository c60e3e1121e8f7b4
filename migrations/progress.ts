export interface Progress {
  readonly total: number
  readonly done: number
  readonly failed: number
  /** Since the begin. */
  readonly ms: number
}

const BAR_CHARS = 30

/** One line: how much is done, how fast, and how long the rest takes at that speed. */
export function barOf({ total, done, failed, ms }: Progress): string {
  const share = total === 0 ? 1 : Math.min(1, done / total)
  const full = Math.floor(share * BAR_CHARS)
  const perS = ms > 0 ? (done * 1000) / ms : 0
  const restS = perS > 0 ? Math.ceil((total - done) / perS) : 0
  const parts = [`[${'#'.repeat(full)}${'.'.repeat(BAR_CHARS - full)}] ${done}/${total}`]
  if (failed > 0) parts.push(`${failed} failed`)
  if (done > 0 && done < total) parts.push(`${perS.toFixed(1)}/s`, `${restS} s left`)
  return parts.join('  ')
}
