/** Whether this replica is on its way out, and who has something to close before it is. */
export class Drain {
  #isDraining = false
  #isClosing = false
  readonly #closers = new Set<() => void>()
  #onEmpty: () => void = () => {}

  /** Not ready; whoever does not know yet is served all the same. */
  get isDraining(): boolean {
    return this.#isDraining
  }

  /** Streams are being closed: a new one would be cut at once. */
  get isClosing(): boolean {
    return this.#isClosing
  }

  /** Streams that last as long as their client likes. Returns the function that forgets the closer. */
  onDrain(close: () => void): () => void {
    this.#closers.add(close)
    return () => {
      this.#closers.delete(close)
      if (this.#closers.size === 0) this.#onEmpty()
    }
  }

  /** /readyz answers 503 from now on. */
  start(): void {
    this.#isDraining = true
  }

  /** Asks all streams to close; resolves when they have, or after `ms`. */
  closeStreams(ms: number): Promise<void> {
    this.#isClosing = true
    return new Promise(resolve => {
      const timer = setTimeout(resolve, ms)
      this.#onEmpty = () => {
        clearTimeout(timer)
        resolve()
      }
      for (const close of [...this.#closers]) close()
      if (this.#closers.size === 0) this.#onEmpty()
    })
  }
}
