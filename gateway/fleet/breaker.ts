/**
 * One tenant on one replica. Open: that tenant's requests go to another of its replicas, where there
 * is one. It never speaks against the replica (HARDENING C.19), and where all of a tenant's replicas
 * have it open the request goes through all the same: the app fails fast by its own breaker, and what
 * needs neither database nor bucket is served.
 */
export interface Breaker {
  failures: number
  openUntilMs: number
  /** How long it opens the next time. */
  openMs: number
}

const FAILURES_MAX = 3
const OPEN_MS = 1_000
const OPEN_MS_MAX = 30_000

export function makeBreaker(): Breaker {
  return { failures: 0, openUntilMs: 0, openMs: OPEN_MS }
}

/** @returns true where it opened */
export function noteTenantFault(breaker: Breaker, nowMs: number): boolean {
  breaker.failures++
  if (breaker.failures < FAILURES_MAX || breaker.openUntilMs > nowMs) return false
  // One request after the time is the probe: it opens again at the first failure.
  breaker.failures = FAILURES_MAX - 1
  breaker.openUntilMs = nowMs + breaker.openMs
  breaker.openMs = Math.min(breaker.openMs * 2, OPEN_MS_MAX)
  return true
}

export function closeBreaker(breaker: Breaker): void {
  breaker.failures = 0
  breaker.openUntilMs = 0
  breaker.openMs = OPEN_MS
}
