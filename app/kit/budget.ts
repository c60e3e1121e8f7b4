import { Fault } from '../../registry/lib/errors.ts'

/**
 * The connections that one replica may hold open to all tenant databases together. A slot belongs to
 * a socket, from before it is opened until it is closed.
 */
export class ConnectionBudget {
  readonly max: number
  readonly #waitMs: number
  readonly #waitersMax: number
  readonly #waiters = new Set<{ grant: () => void }>()
  #used = 0
  /** Closes one idle connection of any pool, if there is one; set by the owner of the pools. */
  evictIdle: () => boolean = () => false

  constructor(max: number, waitMs: number, waitersMax: number) {
    this.max = max
    this.#waitMs = waitMs
    this.#waitersMax = waitersMax
  }

  get used(): number {
    return this.#used
  }

  get hasWaiters(): boolean {
    return this.#waiters.size > 0
  }

  /** @throws Fault POOL_EXHAUSTED after the wait, or at once where too many wait already */
  take(): Promise<void> {
    if (this.#used < this.max && this.#waiters.size === 0) {
      this.#used += 1
      return Promise.resolve()
    }
    if (this.#waiters.size >= this.#waitersMax) {
      return Promise.reject(exhausted('too many wait for the connection budget of the replica'))
    }
    return new Promise((resolve, reject) => {
      const waiter = {
        grant: () => {
          clearTimeout(timer)
          resolve()
        },
      }
      const timer = setTimeout(() => {
        this.#waiters.delete(waiter)
        reject(exhausted('the connection budget of the replica is used up: DB_GLOBAL_POOL_MAX'))
      }, this.#waitMs)
      this.#waiters.add(waiter)
      this.evictIdle()
    })
  }

  /** Counts a socket that is open already; the bound is kept by those who ask first. */
  force(): void {
    this.#used += 1
  }

  /** Gives a slot back; who waited longest inherits it. */
  give(): void {
    const [first] = this.#waiters
    if (first === undefined) {
      this.#used -= 1
      return
    }
    this.#waiters.delete(first)
    first.grant()
  }
}

function exhausted(reason: string): Fault {
  return new Fault('POOL_EXHAUSTED', reason)
}
