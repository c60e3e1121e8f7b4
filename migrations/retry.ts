import { setTimeout as delay } from 'node:timers/promises'

export interface Retries {
  /** Attempts after the first. */
  readonly count: number
  /** Pause before the first of them; doubled each time, and between half and all of it by chance. */
  readonly pauseMs: number
  /** No further attempt once it is aborted. */
  readonly signal?: AbortSignal
}

export const RETRIES: Retries = { count: 3, pauseMs: 250 }
const PAUSE_MS_MAX = 10_000

/** SQLSTATE of locks (lock_not_available, deadlock_detected) and of connections; also a server that starts or stops. */
const PASSING_STATES = /^(55P03|40P01|08...|53300|57P0[123])$/
const PASSING_ERRNOS = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'ETIMEDOUT', 'EPIPE', 'EAI_AGAIN', 'ENETUNREACH'],
  ...['EHOSTUNREACH', 'EADDRNOTAVAIL', 'ENOTFOUND'],
])
const PASSING_TEXT = /^(no connection to PostgreSQL within|Connection terminated)/

/**
 * Runs `work`, again after a pause where it failed for a lock or a connection. Nothing else is tried again: a
 * migration that is wrong stays wrong, and a wrong password tried often locks the account.
 */
export async function withRetries<T>(
  { count, pauseMs, signal }: Retries,
  work: (attempt: number) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work(attempt)
    } catch (error) {
      if (attempt > count || signal?.aborted || !isPassing(error)) throw error
      const most = Math.min(PAUSE_MS_MAX, pauseMs * 2 ** (attempt - 1))
      // Ends early by `signal`, and then the attempt that follows is the last.
      await delay(most * (0.5 + Math.random() / 2), undefined, signal && { signal }).catch(() => {})
    }
  }
}

/** True where the error, or what caused it, is one of locks or connections. */
export function isPassing(error: unknown): boolean {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; depth++) {
    const { code = '' } = cause as { code?: string }
    if (PASSING_STATES.test(code) || PASSING_ERRNOS.has(code) || PASSING_TEXT.test(cause.message)) {
      return true
    }
    // What node throws where every address of a name was tried.
    cause = cause instanceof AggregateError ? cause.errors[0] : cause.cause
  }
  return false
}
