/**
 * How fast a request body comes while its consumer wants it. A client that sends a byte now and then
 * is never silent for long, and would hold a replica for ever; here each stretch of `windowMs` must
 * bring its share. No timer: a client that sends nothing is the idle time-out's business, and one that
 * sends is looked at when it does.
 */
export class BodyRate {
  #sinceMs = 0
  #bytes = 0

  /** The consumer wants bytes from now on: what was before was not the client's pace. */
  restart(nowMs: number): void {
    this.#sinceMs = nowMs
    this.#bytes = 0
  }

  /** Counts `bytes` that came; false where the stretch that ends now was too slow. */
  keepsUp(bytes: number, nowMs: number, windowMs: number, bytesPerSMin: number): boolean {
    this.#bytes += bytes
    const tookMs = nowMs - this.#sinceMs
    if (tookMs < windowMs) return true
    const isEnough = this.#bytes * 1000 >= bytesPerSMin * tookMs
    this.restart(nowMs)
    return isEnough
  }
}
