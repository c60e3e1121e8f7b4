import { withDeadline } from '../registry/lib/deadline.ts'
import { Fault } from '../registry/lib/errors.ts'
import type { Log } from '../registry/lib/log.ts'
import type { Revocation } from '../registry/token-id.ts'

export interface RevocationWriterOptions {
  /** Into the Registry. @throws Fault REGISTRY_UNAVAILABLE, VALIDATION_FAILED */
  readonly write: (revocations: readonly Revocation[]) => Promise<void>
  readonly log: Log
  /** Longest pause between two attempts while the Registry is down. */
  readonly backoffMaxMs?: number
}

interface Pending {
  readonly revocation: Revocation
  /** End the waits of those who asked. */
  waiters: (() => void)[]
}

/** How long an answer is held for its revocation; afterwards it is written behind the client's back. */
const WAIT_MS = 1000
/** Revocations in one statement. */
const BATCH_MAX = 500
/** Beyond the clock tolerance of those who verify tokens. */
const EXPIRED_S = 60
/** Revocations not written yet; the oldest give way, whose tokens have the least time left. */
const PENDING_MAX = 10_000
const BACKOFF_MIN_MS = 100

/**
 * Brings revocations into the Registry: at once where it can be asked, else again and again until they
 * are in or over. One statement at a time, with all that came meanwhile: a storm of logouts takes one
 * connection of the Registry's pool and not all.
 */
export class RevocationWriter {
  readonly #options: RevocationWriterOptions
  readonly #pending = new Map<string, Pending>()
  readonly #wake = new AbortController()
  #working: Promise<void> | null = null
  #failures = 0
  #dropped = 0

  constructor(options: RevocationWriterOptions) {
    this.#options = options
  }

  /** Revocations that only this process knows. */
  get unwritten(): number {
    return this.#pending.size
  }

  /** Resolves when it is written, when the first attempt failed, or after `WAIT_MS`. Never rejects. */
  write(revocation: Revocation): Promise<void> {
    const key = `${revocation.tenantId} ${revocation.tokenId}`
    let pending = this.#pending.get(key)
    if (pending === undefined) {
      if (this.#pending.size >= PENDING_MAX) this.#dropOldest()
      pending = { revocation, waiters: [] }
      this.#pending.set(key, pending)
    }
    this.#working ??= this.#work().finally(() => {
      this.#working = null
    })
    // Known to be down: waiting would only make the client wait.
    if (this.#failures > 0) return Promise.resolve()
    const { waiters } = pending
    return new Promise(resolve => {
      const timer = setTimeout(resolve, WAIT_MS)
      waiters.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  /** One more attempt for what is left, for a moment; then it is lost, and said so. */
  async close(): Promise<void> {
    this.#wake.abort()
    const lastAttempt = async () => {
      await this.#working
      while (this.#pending.size > 0 && (await this.#writeBatch()) === null);
    }
    await withDeadline(lastAttempt(), WAIT_MS, () => new Error('late')).catch(() => {})
    if (this.#pending.size > 0) {
      this.#options.log.error({ revocations: this.#pending.size }, 'revocations were not written')
    }
    for (const pending of this.#pending.values()) settle(pending)
    this.#pending.clear()
  }

  async #work(): Promise<void> {
    const { log, backoffMaxMs = 5000 } = this.#options
    while (this.#pending.size > 0) {
      const failure = await this.#writeBatch()
      if (failure === null) {
        if (this.#failures > 0)
          log.info({ dropped: this.#dropped }, 'revocations are written again')
        this.#failures = 0
        this.#dropped = 0
        continue
      }
      if (this.#wake.signal.aborted) return
      if (this.#failures++ === 0) log.warn({ reason: failure }, 'revocations cannot be written')
      for (const pending of this.#pending.values()) settle(pending)
      await this.#pause(Math.min(backoffMaxMs, BACKOFF_MIN_MS * 2 ** Math.min(this.#failures, 16)))
      if (this.#wake.signal.aborted) return
      this.#forgetExpired(Date.now() / 1000)
    }
  }

  /** @returns why it failed, or null */
  async #writeBatch(): Promise<string | null> {
    const batch: [string, Pending][] = []
    for (const entry of this.#pending) if (batch.push(entry) === BATCH_MAX) break
    try {
      await this.#options.write(batch.map(([, { revocation }]) => revocation))
    } catch (error) {
      const isDown = !(error instanceof Fault) || error.code === 'REGISTRY_UNAVAILABLE'
      if (isDown) return error instanceof Error ? error.message : String(error)
      // Refused, and so it would be again: one of them must not hold up the others for ever.
      this.#options.log.error({ err: error, revocations: batch.length }, 'revocations were refused')
    }
    for (const [key, pending] of batch) {
      settle(pending)
      this.#pending.delete(key)
    }
    return null
  }

  #forgetExpired(nowS: number): void {
    for (const [key, { revocation }] of this.#pending) {
      if (revocation.expiresAtS + EXPIRED_S < nowS) this.#pending.delete(key)
    }
  }

  #dropOldest(): void {
    for (const [key, pending] of this.#pending) {
      settle(pending)
      this.#pending.delete(key)
      this.#dropped += 1
      return
    }
  }

  #pause(ms: number): Promise<void> {
    const { signal } = this.#wake
    if (signal.aborted) return Promise.resolve()
    return new Promise(resolve => {
      const done = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal.addEventListener('abort', done)
    })
  }
}

function settle(pending: Pending): void {
  for (const resolve of pending.waiters) resolve()
  pending.waiters = []
}
