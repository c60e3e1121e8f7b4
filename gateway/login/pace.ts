import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'

/** Answers kept to draw from: enough to follow the app's load, cheap to keep. */
const SAMPLES_MAX = 128
/** Until the app has answered once: about what one argon2id verification takes. */
const FIRST_GUESS_MS = 60
const DELAY_MS_MAX = 2000
/** Timers are late by up to so much; the rest is waited for turn by turn. */
const TIMER_SLACK_MS = 2

/**
 * Makes a refusal that costs nothing take as long as a wrong password takes: it waits as long as one of
 * the latest real refusals of its route took, drawn at random, so that the two distributions agree
 * (HARDENING B.11). One for each login route, for what takes 30 ms at one takes 2 ms at another.
 */
export class LoginPace {
  /** Of answers with 401. */
  readonly #wrong = new Samples()
  /** Of other refusals: an app that says 400 to a wrong password, or that has no such route. */
  readonly #other = new Samples()

  /** Notes how long the app took to refuse, from the admission of the request to the answer, in milliseconds. */
  note(status: number, tookMs: number): void {
    ;(status === 401 ? this.#wrong : this.#other).note(tookMs)
  }

  /** Milliseconds from its admission that a refusal takes at which nobody looked up a password. */
  drawMs(random: () => number): number {
    const ms = this.#wrong.draw(random) ?? Math.max(FIRST_GUESS_MS, this.#other.draw(random) ?? 0)
    return Math.min(ms, DELAY_MS_MAX)
  }

  /** The same for a refusal of the app other than 401: at least what a wrong password would have taken. */
  drawOtherMs(random: () => number): number {
    return Math.min(this.#wrong.draw(random) ?? FIRST_GUESS_MS, DELAY_MS_MAX)
  }
}

class Samples {
  readonly #tookMs: number[] = []
  #next = 0

  note(tookMs: number): void {
    this.#tookMs[this.#next] = tookMs
    this.#next = (this.#next + 1) % SAMPLES_MAX
  }

  draw(random: () => number): number | undefined {
    return this.#tookMs[Math.floor(random() * this.#tookMs.length)]
  }
}

/**
 * Waits until `performance.now()` is `atMs`, to a small part of a millisecond: the millisecond of a timer
 * alone would show in a thousand samples.
 */
export async function waitUntil(atMs: number): Promise<void> {
  const coarseMs = atMs - performance.now() - TIMER_SLACK_MS
  if (coarseMs >= 1) await delay(coarseMs)
  while (performance.now() < atMs) await nextTurn()
}
