import type { UpstreamFault } from './client.ts'

/** Methods that may run twice without harm (RFC 9110 section 9.2.2). */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])
const ATTEMPTS_MAX = 2

/**
 * True where a failed attempt may be made once more: nothing of the answer reached the client, and
 * either the replica provably never got a byte, or an idempotent request without a streamed body met
 * a connection that had been idle (its reset was most likely the idle time-out of the peer).
 */
export function mayRetry(
  fault: UpstreamFault,
  attempts: number,
  method: string,
  isBodyReplayable: boolean,
): boolean {
  if (attempts >= ATTEMPTS_MAX || !isBodyReplayable) return false
  if (fault.isUnsent) return true
  return fault.kind === 'reset' && fault.isReused && IDEMPOTENT.has(method)
}

/** One retry for so many requests (20 %), so that a sick fleet does not get double the load. */
const REQUESTS_PER_RETRY = 5
/** Retries that a quiet time may save up. */
const RETRIES_SAVED_MAX = 50

/** What retries are paid from: each request earns a fifth of one. */
export class RetryBudget {
  /** In fifths of a retry. */
  #credit = RETRIES_SAVED_MAX * REQUESTS_PER_RETRY

  earn(): void {
    if (this.#credit < RETRIES_SAVED_MAX * REQUESTS_PER_RETRY) this.#credit++
  }

  spend(): boolean {
    if (this.#credit < REQUESTS_PER_RETRY) return false
    this.#credit -= REQUESTS_PER_RETRY
    return true
  }
}
