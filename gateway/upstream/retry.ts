import type { UpstreamFault } from './client.ts'

/** Methods that change nothing, and those that may run twice without harm (RFC 9110 section 9.2). */
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS'])
const IDEMPOTENT = new Set(['PUT', 'DELETE'])
const ATTEMPTS_MAX = 2

/**
 * True where a failed attempt may be made once more: nothing of the answer reached the client, and
 * either the replica provably never got a byte, or the connection was reset under a request without
 * a streamed body that is safe, or that is idempotent and met a connection that had been idle (its
 * reset was most likely the idle time-out of the peer). A fresh connection is reset where a replica
 * that is leaving closes its listener before it has accepted it.
 */
export function mayRetry(
  fault: UpstreamFault,
  attempts: number,
  method: string,
  isBodyReplayable: boolean,
): boolean {
  if (attempts >= ATTEMPTS_MAX || !isBodyReplayable) return false
  if (fault.kind === 'refused' || fault.kind === 'queue-timeout') return false
  if (fault.isUnsent) return true
  if (fault.kind !== 'reset') return false
  return SAFE.has(method) || (fault.isReused && IDEMPOTENT.has(method))
}

/** One retry for so many requests (20 %), so that a sick fleet does not get double the load. */
const REQUESTS_PER_RETRY = 5
/** Retries that a quiet time may save up. */
const RETRIES_SAVED_MAX = 50

/** What retries are paid from: each request earns a fifth of one. */
export class RetryBudget {
  /** In fifths of a retry. */
  #credit = RETRIES_SAVED_MAX * REQUESTS_PER_RETRY
  /** Retries that could not be paid, since the start. */
  refused = 0

  earn(): void {
    if (this.#credit < RETRIES_SAVED_MAX * REQUESTS_PER_RETRY) this.#credit++
  }

  /** Retries that could be paid now. */
  get saved(): number {
    return Math.floor(this.#credit / REQUESTS_PER_RETRY)
  }

  spend(): boolean {
    if (this.#credit < REQUESTS_PER_RETRY) {
      this.refused++
      return false
    }
    this.#credit -= REQUESTS_PER_RETRY
    return true
  }
}
