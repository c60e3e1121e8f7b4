/**
 * `work`, or the error of `late()` once `ms` have passed. The work itself is not stopped: pass
 * `onLate` to release what it may still bring (a connection that arrives after its time-out).
 */
export function withDeadline<T>(
  work: Promise<T>,
  ms: number,
  late: () => Error,
  onLate?: (value: T) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      reject(late())
    }, ms)
    work.then(
      value => {
        clearTimeout(timer)
        if (isLate) onLate?.(value)
        else resolve(value)
      },
      error => {
        clearTimeout(timer)
        if (!isLate) reject(error)
      },
    )
  })
}
