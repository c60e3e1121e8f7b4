/**
 * Chance that a value of `a` is above one of `b`, ties half (the Mann-Whitney statistic as a share): 0.5
 * where neither tends to be the larger one, 0 or 1 where they do not even touch.
 */
export function chanceAbove(a: readonly number[], b: readonly number[]): number {
  const sorted = b.toSorted((x, y) => x - y)
  let sum = 0
  for (const value of a) sum += (countBelow(sorted, value) + countBelow(sorted, value, true)) / 2
  return sum / (a.length * b.length)
}

/**
 * Greatest distance between the two distribution functions (the Kolmogorov-Smirnov statistic): 0 where
 * they are one, 1 where they do not touch. It sees a difference of shape too.
 */
export function greatestDistance(a: readonly number[], b: readonly number[]): number {
  const [first, second] = [a, b].map(values => values.toSorted((x, y) => x - y)) as [
    number[],
    number[],
  ]
  let greatest = 0
  for (const value of [...first, ...second]) {
    const share = countBelow(first, value, true) / first.length
    const other = countBelow(second, value, true) / second.length
    greatest = Math.max(greatest, Math.abs(share - other))
  }
  return greatest
}

/**
 * What `greatestDistance` of two equal distributions exceeds once in 20,000 tries, with `count` samples
 * of each.
 */
export function noiseDistance(count: number): number {
  return 2.3 * Math.sqrt(2 / count)
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] as number
}

/** How many of `sorted` are below `value`, or not above it. */
function countBelow(sorted: readonly number[], value: number, isInclusive = false): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const at = sorted[middle] as number
    if (at < value || (isInclusive && at === value)) low = middle + 1
    else high = middle
  }
  return low
}
