/**
 * A process's part of a limit on what goes on at one time. Never less than one: a limit below the number of processes
 * would else shut out who comes to the wrong one, so that it counts as that number.
 */
export function concurrencyShare(max: number, share: number): number {
  if (!Number.isFinite(max)) return max
  return max === 0 ? 0 : Math.max(1, Math.round(max * share))
}
