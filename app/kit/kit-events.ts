/** What happens in the kit, for metrics. Called where it happens; must not throw. */
export interface KitEvents {
  /** A request had to wait for a connection, so long, whatever came of it. */
  waited(ms: number): void
  /**
   * A connection (or a pool) was closed although its tenant might have used it again: `idle` and `turn`
   * for another pool that waited, `pool` for the bound on pools.
   */
  evicted(why: 'idle' | 'turn' | 'pool'): void
  /**
   * The client of a running statement left: `cancelled`; `late`, it ended by itself first; `failed`, no
   * word from the server in time, so its connection was cut.
   */
  cancelled(result: 'cancelled' | 'late' | 'failed'): void
  timedOut(what: 'connect' | 'checkout' | 'statement' | 'idle_in_transaction'): void
  /** A breaker opened, or stayed open after a probe. */
  broke(what: 'database' | 'bucket'): void
}

export const NO_EVENTS: KitEvents = {
  waited() {},
  evicted() {},
  cancelled() {},
  timedOut() {},
  broke() {},
}
