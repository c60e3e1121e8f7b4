import { Fault } from '../../registry/lib/errors.ts'
import type { RequestTrace } from '../../registry/lib/trace/tracer.ts'
import { DbSession, Statements } from './db-session.ts'
import type { PoolLease } from './tenant-pools.ts'
import { traceWait } from './traced.ts'

/** Runs SQL on the database of the request's tenant; there is no way to name another. */
export interface Queryable {
  /**
   * The rows of one statement.
   *
   * @throws Fault TENANT_DATABASE_UNAVAILABLE, POOL_EXHAUSTED, CONFLICT (a unique or foreign key)
   */
  query<Row extends object>(text: string, values?: readonly unknown[]): Promise<Row[]>
}

export interface Db extends Queryable {
  /**
   * Commits what `work` did when it resolves, rolls back when it throws. BEGIN goes with the first
   * statement, so that a request which is refused before it needs no connection.
   */
  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T>
}

export interface LeasedDb extends Db {
  /** Gives the lease back, if one was taken. */
  release(): void
}

/**
 * @param lease called at the first statement: a request that needs no database takes no lease
 * @param signalOf asked at the first statement; once it aborts, statements are cancelled and refused
 */
export function makeDb(
  lease: () => PoolLease,
  signalOf: () => AbortSignal | null = () => null,
  trace: RequestTrace | null = null,
): LeasedDb {
  let held: PoolLease | null = null
  let isReleased = false
  let statements: Statements | null = null

  async function open(): Promise<Opened> {
    if (isReleased) throw new Fault('INTERNAL', 'the database was used after the request ended')
    statements ??= new Statements(signalOf())
    held ??= lease()
    const { pool } = held
    const startedAt = trace === null ? 0 : performance.now()
    const client = await pool.checkout(statements.signal)
    if (trace !== null) traceWait(trace, startedAt)
    return { session: new DbSession(pool, client, trace), statements }
  }

  return {
    async query(text, values) {
      const { session, statements } = await open()
      try {
        return (await session.run<never>(statements, text, values)).rows
      } finally {
        session.close()
      }
    },
    transaction: work => inTransaction(open, work),
    release() {
      isReleased = true
      statements?.release()
      held?.release()
    },
  }
}

interface Opened {
  readonly session: DbSession
  readonly statements: Statements
}

async function inTransaction<T>(
  open: () => Promise<Opened>,
  work: (tx: Queryable) => Promise<T>,
): Promise<T> {
  let begun: Promise<Opened> | null = null
  let isOver = false
  const begin = async () => {
    const opened = await open()
    try {
      await opened.session.run(null, 'BEGIN')
      return opened
    } catch (error) {
      opened.session.close()
      throw error
    }
  }
  const tx: Queryable = {
    async query(text, values) {
      if (isOver) throw new Fault('INTERNAL', 'the transaction was used after its end')
      begun ??= begin()
      const { session, statements } = await begun
      return (await session.run<never>(statements, text, values)).rows
    },
  }
  const opened = async () => (await (begun as Promise<Opened> | null)?.catch(() => null)) ?? null
  try {
    const result = await work(tx)
    isOver = true
    const held = await (begun as Promise<Opened> | null)
    if (held !== null) await commit(held.session)
    return result
  } catch (error) {
    isOver = true
    const session = (await opened())?.session
    // Where even this fails the session is dead or not idle, and close cuts it.
    if (session && !session.isDead) await session.run(null, 'ROLLBACK').catch(() => {})
    throw error
  } finally {
    const session = (await opened())?.session
    session?.close()
  }
}

/** Not cancelled where the client leaves: what was asked for is done by now. */
async function commit(session: DbSession): Promise<void> {
  // A COMMIT of a transaction in which a statement failed rolls back and reports no error.
  const { command } = await session.run(null, 'COMMIT')
  if (command !== 'COMMIT') throw new Fault('INTERNAL', 'a failed statement was ignored')
}
