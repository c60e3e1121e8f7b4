/** Answers kept to draw from: enough to follow the app's load, cheap to keep. */
const SAMPLES_MAX = 128
/** Until the app has answered once: about what one argon2id verification takes. */
const FIRST_GUESS_MS = 60
const DELAY_MS_MAX = 2000

/**
 * Makes a login at an unknown or suspended tenant take as long as a wrong password takes: the gateway
 * waits as long as one of the latest real answers took, drawn at random, so that the two distributions
 * agree (HARDENING B.11).
 */
export class LoginPace {
  readonly #samplesMs: number[] = []
  #next = 0

  /** Notes how long a real failed login took, from its whole body to the answer, in milliseconds. */
  note(tookMs: number): void {
    this.#samplesMs[this.#next] = tookMs
    this.#next = (this.#next + 1) % SAMPLES_MAX
  }

  /**
   * Milliseconds still to wait for an answer that could have been given after `elapsedMs`.
   *
   * @param random in [0, 1)
   */
  delayMs(elapsedMs: number, random: number): number {
    const sample = this.#samplesMs[Math.floor(random * this.#samplesMs.length)] ?? FIRST_GUESS_MS
    return Math.max(0, Math.min(sample, DELAY_MS_MAX) - elapsedMs)
  }
}
