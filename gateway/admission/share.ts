/** A process's part of a limit, and what the processes before it (in the order of all) have. */
export interface Part {
  readonly share: number
  readonly ahead: number
}

/** Split evenly whatever is asked for, so that a process where load begins anew is not at nothing. */
export const RESERVE = 0.05

/**
 * A process's part of a limit on what goes on at one time, as a whole number: of all processes together exactly the
 * limit. Never less than one: a limit below the number of processes would else shut out who comes to the wrong one, so
 * that it counts as that number.
 */
export function wholePart(max: number, { share, ahead }: Part): number {
  if (!Number.isFinite(max)) return max
  if (max === 0) return 0
  const upTo = (part: number) => Math.floor(max * Math.min(1, part) + 1e-6)
  return Math.max(1, upTo(ahead + share) - upTo(ahead))
}

/**
 * How the whole of a limit is divided by what each process is asked for: max-min fair. Nobody gets more than it asks for
 * before all others have what they ask for; what is left is split evenly. The parts add up to 1.
 *
 * @param demands in parts of the limit, one for each process
 */
export function divide(demands: readonly number[]): number[] {
  const even = RESERVE / demands.length
  const parts = demands.map(() => even)
  let left = 1 - RESERVE
  const order = demands.map((_, i) => i).sort((a, b) => (demands[a] ?? 0) - (demands[b] ?? 0))
  for (const [done, i] of order.entries()) {
    const fair = left / (order.length - done)
    const part = Math.max(0, Math.min((demands[i] as number) - even, fair))
    parts[i] = even + part
    left -= part
  }
  return parts.map(part => part + left / demands.length)
}
