import { Fault } from '../../registry/lib/errors.ts'
import type { PublicKey, PublicKeyAlgorithm } from './jwks.ts'

export interface KeySetOptions {
  /** Reads the keys where they are published; bounded in time and size. */
  readonly load: () => Promise<ReadonlyMap<string, PublicKey>>
  /** What a request gets while no keys can be had. Its reason is for the log. */
  readonly unavailable: (reason: string) => Fault
  /** A read that failed. */
  readonly onFailure: (reason: string) => void
  readonly times: KeySetTimes
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number
}

export interface KeySetTimes {
  /** Age at which keys in use are read again, beside their use. */
  readonly refreshMs: number
  /** Age up to which keys are used while reading them again fails. */
  readonly staleMs: number
}

/** Pause after a read before an unknown `kid` or a failure leads to another one. */
export const RELOAD_PAUSE_MS = 10_000
/** Requests that wait for one read; one tenant's users must not fill the gateway's memory. */
const WAITERS_MAX = 512

/**
 * The public keys of one issuer. Read when first needed, again beside their use once they are
 * `refreshMs` old, and for a `kid` that is not known; never twice at a time, never within
 * `RELOAD_PAUSE_MS` of a read before. A key that is gone from the set is retired at once, and with it
 * all that it has proved.
 */
export class KeySet {
  readonly #options: KeySetOptions
  #keys: ReadonlyMap<string, PublicKey> = new Map()
  #loading: Promise<void> | null = null
  #waiting = 0
  #isClosed = false
  /** When the keys in memory were asked for. */
  #readAtMs = Number.NEGATIVE_INFINITY
  #triedAtMs = Number.NEGATIVE_INFINITY
  /** Why the last read failed; null: it did not. */
  #failure: string | null = null
  /** Until then the keys are used without waiting. */
  #goodUntilMs = Number.NEGATIVE_INFINITY
  /** From then on they are read again, beside their use. */
  #refreshAtMs = Number.NEGATIVE_INFINITY

  constructor(options: KeySetOptions) {
    this.#options = options
  }

  /** True while what `key` proved counts: the hot path, two compares. Starts a refresh that is due. */
  vouches(key: PublicKey): boolean {
    const nowMs = this.#options.now()
    if (nowMs >= this.#goodUntilMs || this.#isClosed) return false
    if (nowMs >= this.#refreshAtMs) this.#loadBeside()
    return this.#keys.get(key.kid) === key
  }

  /**
   * The key of this very `kid`, if it is one for this algorithm.
   *
   * @throws Fault TOKEN_INVALID; that of `unavailable` where nobody can say whether there is such a key
   */
  async find(kid: string, algorithm: PublicKeyAlgorithm): Promise<PublicKey> {
    const { now, unavailable } = this.#options
    if (now() >= this.#goodUntilMs) await this.#loadIfDue()
    else if (now() >= this.#refreshAtMs) this.#loadBeside()
    if (now() >= this.#goodUntilMs) throw unavailable(this.#failure ?? 'not read yet')
    if (!this.#keys.has(kid)) await this.#loadIfDue()
    const key = this.#keys.get(kid)
    if (key === undefined) {
      // The key may be a new one of a rotation that we cannot see.
      if (this.#failure !== null) throw unavailable(this.#failure)
      throw new Fault('TOKEN_INVALID', 'kid is not in the key set')
    }
    if (key.algorithm !== algorithm) throw new Fault('TOKEN_INVALID', 'algorithm of another key')
    return key
  }

  /** Reads the keys ahead of their first use. */
  warm(): void {
    this.#loadBeside()
  }

  /** From now on it vouches for nothing: another set has taken its place. */
  close(): void {
    this.#isClosed = true
  }

  #isDue(): boolean {
    return this.#options.now() - this.#triedAtMs >= RELOAD_PAUSE_MS
  }

  /** Waits for the read under way, or for one of its own where the pause allows it. Never throws for its failure. */
  async #loadIfDue(): Promise<void> {
    if (this.#loading === null && !this.#isDue()) return
    if (this.#waiting >= WAITERS_MAX)
      throw this.#options.unavailable('too many requests wait for it')
    this.#waiting++
    try {
      await this.#start()
    } finally {
      this.#waiting--
    }
  }

  #loadBeside(): void {
    if (this.#loading === null && this.#isDue()) void this.#start()
  }

  /** One read at a time, however many ask. Never rejects. */
  #start(): Promise<void> {
    this.#loading ??= this.#load().finally(() => {
      this.#loading = null
    })
    return this.#loading
  }

  async #load(): Promise<void> {
    const { load, now, times, onFailure } = this.#options
    const startedAtMs = now()
    this.#triedAtMs = startedAtMs
    try {
      const read = await load()
      this.#keys = keepKnown(this.#keys, read)
      this.#failure = null
      this.#readAtMs = startedAtMs
      this.#refreshAtMs = startedAtMs + times.refreshMs
      // A set that nobody used for so long is read before it is used.
      this.#goodUntilMs = startedAtMs + 2 * times.refreshMs
    } catch (error) {
      this.#failure = error instanceof Error ? error.message : String(error)
      onFailure(this.#failure)
      const nowMs = now()
      this.#refreshAtMs = startedAtMs + RELOAD_PAUSE_MS
      // Stale keys serve until the next attempts had their chance, and in all no longer than `staleMs`.
      const untilMs = Math.max(this.#goodUntilMs, nowMs + 3 * RELOAD_PAUSE_MS)
      this.#goodUntilMs = Math.min(untilMs, this.#readAtMs + times.staleMs)
    }
  }
}

/** `read`, with the very object of each key that did not change, so that what it proved goes on to count. */
function keepKnown(
  known: ReadonlyMap<string, PublicKey>,
  read: ReadonlyMap<string, PublicKey>,
): ReadonlyMap<string, PublicKey> {
  return new Map(
    [...read].map(([kid, key]) => {
      const before = known.get(kid)
      const isSame = before?.material === key.material && before.algorithm === key.algorithm
      return [kid, isSame && before !== undefined ? before : key]
    }),
  )
}
