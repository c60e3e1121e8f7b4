import type pg from 'pg'
import type { RequestTrace } from '../../registry/lib/trace/tracer.ts'
import type { DbClient } from './db-client.ts'
import { databaseFault, sessionSurvives, sqlState } from './db-error.ts'
import { clientLeft, type TenantPool } from './tenant-pool.ts'
import { traceStatement } from './traced.ts'

/** From the client's leaving until its statement has ended; then the connection is cut. */
const CANCELLED_MS = 2000
/** For the statement that shows a session to be in order after a cancel. */
const CHECK_MS = 1000

/** SQLSTATE query_canceled: by a cancel request or by statement_timeout. */
const QUERY_CANCELED = '57014'

/** The statements of one request, which end with its client. */
export class Statements {
  readonly signal: AbortSignal | null
  readonly #running = new Set<DbSession>()
  #isListening = false
  readonly #onAbort = () => {
    for (const session of this.#running) session.cancel()
  }

  constructor(signal: AbortSignal | null) {
    this.signal = signal
  }

  /** A statement of `session` begins; `end` must follow. */
  begin(session: DbSession): void {
    if (this.signal === null) return
    if (this.signal.aborted) throw clientLeft()
    this.#running.add(session)
    if (this.#isListening) return
    this.#isListening = true
    this.signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  end(session: DbSession): void {
    this.#running.delete(session)
  }

  /** The request is over. */
  release(): void {
    if (this.#isListening) this.signal?.removeEventListener('abort', this.#onAbort)
  }
}

/** A connection for the time of one statement or of one transaction. */
export class DbSession {
  readonly #pool: TenantPool
  readonly #client: DbClient
  readonly #trace: RequestTrace | null
  /** The socket broke or a query never came back: not to be used again. */
  #isDead = false
  /** Of the statement that runs. */
  #cancelling: Promise<void> | null = null
  #cutTimer: NodeJS.Timeout | undefined
  #wasCancelled = false

  constructor(pool: TenantPool, client: DbClient, trace: RequestTrace | null = null) {
    this.#pool = pool
    this.#client = client
    this.#trace = trace
  }

  get isDead(): boolean {
    return this.#isDead
  }

  /** @param statements cancelled where the request's client leaves; null: it runs to its end */
  async run<Row extends object>(
    statements: Statements | null,
    text: string,
    values: readonly unknown[] = [],
  ): Promise<pg.QueryResult<Row>> {
    statements?.begin(this)
    const startedAt = this.#trace === null ? 0 : performance.now()
    try {
      const result = await this.#client.pg.query<Row>(text, [...values])
      if (this.#trace !== null) traceStatement(this.#trace, text, startedAt, null)
      if (this.#cancelling !== null) this.#pool.events.cancelled('late')
      return result
    } catch (error) {
      if (this.#trace !== null) traceStatement(this.#trace, text, startedAt, error)
      if (!sessionSurvives(error)) this.#isDead = true
      this.#count(error)
      // The Fault keeps its cause, so that a handler can tell one constraint from another.
      throw this.#cancelling === null ? databaseFault(error) : clientLeft()
    } finally {
      statements?.end(this)
      if (this.#cancelling !== null) await this.#endCancel(this.#cancelling)
    }
  }

  /** Ends the statement that runs; its promise settles within CANCELLED_MS. */
  cancel(): void {
    this.#cancelling ??= this.#cancel()
  }

  /** To be called once, with no statement running. */
  close(): void {
    const isClean = () => !this.#isDead && this.#client.pg.getTransactionStatus() === 'I'
    if (!this.#wasCancelled || !isClean()) {
      this.#pool.giveBack(this.#client, !isClean())
      return
    }
    // Should the server's signal come late after all, it meets this statement and not another request.
    const timer = setTimeout(() => this.#client.destroy(), CHECK_MS)
    this.#client.pg
      .query('SELECT 1')
      .catch(() => {
        this.#isDead = true
      })
      .finally(() => {
        clearTimeout(timer)
        this.#pool.giveBack(this.#client, !isClean())
      })
  }

  async #cancel(): Promise<void> {
    this.#cutTimer = setTimeout(() => this.#client.destroy(), CANCELLED_MS)
    if (await this.#pool.cancel(this.#client)) return
    this.#isDead = true
    this.#client.destroy()
  }

  /** Whatever is sent next must come after the server's signal. */
  async #endCancel(cancelling: Promise<void>): Promise<void> {
    clearTimeout(this.#cutTimer)
    await cancelling
    this.#cancelling = null
    this.#wasCancelled = true
  }

  #count(error: unknown): void {
    if (this.#cancelling !== null) {
      const isCancelled = sqlState(error) === QUERY_CANCELED
      this.#pool.events.cancelled(isCancelled ? 'cancelled' : this.#isDead ? 'failed' : 'late')
    } else if (sqlState(error) === QUERY_CANCELED) this.#pool.events.timedOut('statement')
  }
}
