/** The longest that a timer of Node can be set to. */
const TIMER_MS_MAX = 2 ** 31 - 1

/**
 * Calls `expire` when the token that opened a stream ends: a stream must not outlive it. Returns the
 * function that stops the clock. Tokens that end later than a timer reaches (24 days) are not waited for.
 */
export function untilExpiry(expiresAtS: number | null, expire: () => void): () => void {
  if (expiresAtS === null) return () => {}
  const ms = expiresAtS * 1000 - Date.now()
  if (ms > TIMER_MS_MAX) return () => {}
  const timer = setTimeout(expire, Math.max(0, ms))
  return () => clearTimeout(timer)
}
