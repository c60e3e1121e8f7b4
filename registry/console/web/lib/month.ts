const MONTH = /^20\d\d-(0[1-9]|1[0-2])$/

/** By UTC, as days are counted. */
export function thisMonth(nowMs: number = Date.now()): string {
  return new Date(nowMs).toISOString().slice(0, 7)
}

/** @returns the month that was given, or `otherwise` where it is none */
export function monthOr(given: string | null, otherwise: string): string {
  return given !== null && MONTH.test(given) ? given : otherwise
}

/** `count` months, the last of them `last`, the oldest first. */
export function monthsUntil(last: string, count: number): readonly string[] {
  const [year = 0, month = 1] = last.split('-').map(Number)
  return Array.from({ length: count }, (_, i) =>
    new Date(Date.UTC(year, month - count + i, 1)).toISOString().slice(0, 7),
  )
}
