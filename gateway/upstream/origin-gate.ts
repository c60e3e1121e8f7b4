/** What waits at a gate. */
export interface Entrant {
  /** It is its turn; `leave` must follow once it is done. */
  onEntered(): void
}

/**
 * Who may use the connections to one origin, in order of arrival and within bounds. undici has a
 * queue of its own, which has no bound and keeps what was aborted: behind a gate it stays empty.
 */
export class OriginGate {
  readonly #insideMax: number
  readonly #waitingMax: number
  readonly #inside = new Set<Entrant>()
  readonly #waiting = new Set<Entrant>()

  constructor(insideMax: number, waitingMax: number) {
    this.#insideMax = insideMax
    this.#waitingMax = waitingMax
  }

  get waitingCount(): number {
    return this.#waiting.size
  }

  get insideCount(): number {
    return this.#inside.size
  }

  /** Lets `entrant` in now or later; false where too many wait already. */
  enter(entrant: Entrant): boolean {
    if (this.#inside.size < this.#insideMax) {
      this.#inside.add(entrant)
      entrant.onEntered()
    } else if (this.#waiting.size < this.#waitingMax) {
      this.#waiting.add(entrant)
    } else {
      return false
    }
    return true
  }

  /** `entrant` is done, or waits no more. Harmless when repeated. */
  leave(entrant: Entrant): void {
    if (this.#waiting.delete(entrant) || !this.#inside.delete(entrant)) return
    for (const next of this.#waiting) {
      this.#waiting.delete(next)
      this.#inside.add(next)
      next.onEntered()
      return
    }
  }

  isWaiting(entrant: Entrant): boolean {
    return this.#waiting.has(entrant)
  }
}
