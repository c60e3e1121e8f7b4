import type { Log } from '../../registry/lib/log.ts'

export interface HoldAcksOptions {
  readonly write: (holdId: string, inFlight: number) => Promise<void>
  readonly log: Log
}

interface Pending {
  inFlight: number
  /** `performance.now()` after which nobody asks any more. */
  readonly untilMs: number
}

const RETRY_MS = 250

/**
 * Brings a gateway's word on each hold into the Registry, one statement at a time for each hold, and again and again
 * until it is in or the hold is over.
 */
export class HoldAcks {
  readonly #options: HoldAcksOptions
  readonly #pending = new Map<string, Pending>()
  readonly #writing = new Set<string>()
  readonly #retries = new Set<NodeJS.Timeout>()
  #isClosed = false

  constructor(options: HoldAcksOptions) {
    this.#options = options
  }

  tell(holdId: string, inFlight: number, restMs: number): void {
    if (this.#isClosed) return
    this.#pending.set(holdId, { inFlight, untilMs: performance.now() + restMs })
    if (!this.#writing.has(holdId)) void this.#write(holdId)
  }

  close(): void {
    this.#isClosed = true
    this.#pending.clear()
    for (const timer of this.#retries) clearTimeout(timer)
    this.#retries.clear()
  }

  /** Never rejects. */
  async #write(holdId: string): Promise<void> {
    this.#writing.add(holdId)
    let told = this.#pending.get(holdId)
    while (told !== undefined) {
      try {
        await this.#options.write(holdId, told.inFlight)
      } catch (error) {
        this.#options.log.warn({ err: error, holdId }, 'a hold was not acknowledged')
        if (performance.now() > told.untilMs) this.#pending.delete(holdId)
        else this.#retry(holdId)
        break
      }
      const newer = this.#pending.get(holdId)
      if (newer === told) this.#pending.delete(holdId)
      told = newer === told ? undefined : newer
    }
    this.#writing.delete(holdId)
  }

  #retry(holdId: string): void {
    if (this.#isClosed) return
    const timer = setTimeout(() => {
      this.#retries.delete(timer)
      if (!this.#writing.has(holdId)) void this.#write(holdId)
    }, RETRY_MS)
    this.#retries.add(timer.unref())
  }
}
