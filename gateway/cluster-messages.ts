import type { AddressInfo } from 'node:net'
import type { Figures } from '../registry/lib/exposition.ts'

/**
 * All that primary and workers say to each other. What the workers must one day share (limits, usage)
 * gets its messages here, its state in the primary, and a deadline on each wait for an answer.
 */
export type ToWorker =
  /** First message, once. `when ready`: others serve already, so a worker that cannot yet stays away. */
  | {
      readonly type: 'start'
      readonly port: number
      readonly listen: 'at once' | 'when ready'
      /** With which all workers seal TLS session tickets. */
      readonly ticketKeys: Buffer
    }
  /** Nobody listens any more: a 503 with Retry-After is better than a refused connection. */
  | { readonly type: 'listen'; readonly port: number }
  /** Asked again only after an answer, so that nothing piles up before a worker that hangs. */
  | { readonly type: 'collect' }
  | { readonly type: 'stop'; readonly drainMs: number; readonly idleGraceMs: number }

export type ToPrimary =
  /** @property whyNotReady null: it will say `ready` at once; else what is missing, in words. */
  | {
      readonly type: 'listening'
      readonly address: AddressInfo
      readonly whyNotReady: string | null
    }
  | { readonly type: 'ready' }
  | { readonly type: 'draining' }
  /** The answer to `collect`; and once more, unasked, as a worker's last words. */
  | { readonly type: 'figures'; readonly figures: Figures }
  /** Another attempt would end the same way: a wrong master key, a port in use, a broken file. */
  | { readonly type: 'fatal'; readonly message: string }
