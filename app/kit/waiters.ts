import type { DbClient } from './db-client.ts'

/** A request that waits for a connection. */
export interface Waiter {
  readonly serve: (client: DbClient) => void
  readonly refuse: (error: Error) => void
  /** Its wait is over, but a connection is being opened for it: it ends with that. */
  isOverdue: boolean
}

interface Callbacks {
  /** Called once, when the wait has lasted its time. */
  onLate(waiter: Waiter): void
  /** The wait ended in any way. */
  onSettled(waitedMs: number): void
  /** Makes the error of a request whose client left. */
  abandoned(): Error
}

/** Requests of one pool that wait for a connection, first come first served. */
export class Waiters {
  readonly #queue = new Set<Waiter>()
  readonly #waitMs: number
  readonly #callbacks: Callbacks

  constructor(waitMs: number, callbacks: Callbacks) {
    this.#waitMs = waitMs
    this.#callbacks = callbacks
  }

  get size(): number {
    return this.#queue.size
  }

  get first(): Waiter | undefined {
    for (const waiter of this.#queue) return waiter
    return undefined
  }

  [Symbol.iterator](): Iterator<Waiter> {
    return this.#queue.values()
  }

  /** @param signal aborted where the request's client leaves; it must not be aborted yet */
  add(signal: AbortSignal | null): Promise<DbClient> {
    return new Promise((resolve, reject) => {
      const startedAt = performance.now()
      const settle = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', leave)
        this.#queue.delete(waiter)
        this.#callbacks.onSettled(performance.now() - startedAt)
      }
      const waiter: Waiter = {
        isOverdue: false,
        serve: client => {
          settle()
          resolve(client)
        },
        refuse: error => {
          settle()
          reject(error)
        },
      }
      const leave = () => waiter.refuse(this.#callbacks.abandoned())
      const timer = setTimeout(() => this.#callbacks.onLate(waiter), this.#waitMs)
      signal?.addEventListener('abort', leave, { once: true })
      this.#queue.add(waiter)
    })
  }
}
