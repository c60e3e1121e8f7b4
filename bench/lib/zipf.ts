/**
 * Draws ranks 0 … size-1 with probability proportional to 1 / (rank + 1)^exponent: a few tenants
 * make most of the traffic, and the tail is long.
 *
 * @param random numbers in [0, 1)
 */
export function zipfSampler(size: number, exponent: number, random: () => number): () => number {
  const cumulative = new Float64Array(size)
  let sum = 0
  for (let rank = 0; rank < size; rank++) {
    sum += 1 / (rank + 1) ** exponent
    cumulative[rank] = sum
  }

  return () => {
    const wanted = random() * sum
    let low = 0
    let high = size - 1
    while (low < high) {
      const middle = (low + high) >> 1
      if ((cumulative[middle] as number) > wanted) high = middle
      else low = middle + 1
    }
    return low
  }
}
