/** A connection on which no request is being served. */
export interface Quiet {
  /** Of the client, as the caps count it. */
  readonly network: string
  /** Part of a head has come. */
  readonly isInHead: boolean
  /** When it went quiet, or was accepted; in ticks of the timer wheel. */
  readonly quietSinceTick: number
}

/**
 * Who makes room for a new connection where a cap is reached: first of the network that holds the most
 * connections, so that a flood from one costs that one alone; there those between two
 * requests before those within a head, and of these the oldest.
 *
 * @param perNetwork open connections by network
 * @param count at most so many: to choose them costs a look at all, so a few go at a time
 */
export function chooseEvicted<T extends Quiet>(
  quiet: Iterable<T>,
  perNetwork: ReadonlyMap<string, number>,
  count: number,
): T[] {
  let heaviest: T[] = []
  let most = 0
  for (const one of quiet) {
    const held = perNetwork.get(one.network) ?? 0
    if (held > most) {
      heaviest = [one]
      most = held
    } else if (one.network === heaviest[0]?.network) {
      heaviest.push(one)
    }
  }
  heaviest.sort(byAge)
  return heaviest.slice(0, count)
}

function byAge(a: Quiet, b: Quiet): number {
  if (a.isInHead !== b.isInHead) return a.isInHead ? 1 : -1
  return a.quietSinceTick - b.quietSinceTick
}
