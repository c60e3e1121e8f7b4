import type { Fault } from '../registry/lib/errors.ts'
import type { Exchange, ReplyListener } from './exchange.ts'

/** How a request goes on that has waited: with null, or with the failure that it is answered by. */
export type Resume = (exchange: Exchange, error: Fault | null) => void

/** One request in line. Hears of its client meanwhile. */
export class WaitingExchange implements ReplyListener {
  readonly exchange: Exchange
  /** Of the clock of the line that it stands in. */
  readonly deadlineMs: number
  readonly resume: Resume
  readonly #onGone: () => void

  constructor(exchange: Exchange, deadlineMs: number, resume: Resume, onGone: () => void) {
    this.exchange = exchange
    this.deadlineMs = deadlineMs
    this.resume = resume
    this.#onGone = onGone
    exchange.reply.listener = this
  }

  /** It waits no more. */
  leave(): void {
    if (this.exchange.reply.listener === this) this.exchange.reply.listener = null
  }

  onReplyGone(): void {
    this.#onGone()
  }

  onReplyDrain(): void {}
}
