import type pg from 'pg'
import { Fault } from '../../registry/lib/errors.ts'
import { databaseFault, sessionSurvives } from './db-error.ts'
import type { TenantPool } from './tenant-pool.ts'
import type { PoolLease } from './tenant-pools.ts'

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

/** @param lease called at the first statement: a request that needs no database takes no lease */
export function makeDb(lease: () => PoolLease): LeasedDb {
  let held: PoolLease | null = null
  let isReleased = false

  async function open(): Promise<Session> {
    if (isReleased) throw new Fault('INTERNAL', 'the database was used after the request ended')
    held ??= lease()
    const { pool } = held
    return { pool, client: await pool.checkout(), isDead: false }
  }

  return {
    async query(text, values) {
      const session = await open()
      try {
        return (await run<never>(session, text, values)).rows
      } finally {
        close(session)
      }
    },
    transaction: work => inTransaction(open, work),
    release() {
      isReleased = true
      held?.release()
    },
  }
}

interface Session {
  readonly pool: TenantPool
  readonly client: pg.PoolClient
  /** The socket broke or a query never came back: not to be used again. */
  isDead: boolean
}

async function inTransaction<T>(
  open: () => Promise<Session>,
  work: (tx: Queryable) => Promise<T>,
): Promise<T> {
  let begun: Promise<Session> | null = null
  let isOver = false
  const begin = async () => {
    const session = await open()
    try {
      await run(session, 'BEGIN')
      return session
    } catch (error) {
      close(session)
      throw error
    }
  }
  const tx: Queryable = {
    async query(text, values) {
      if (isOver) throw new Fault('INTERNAL', 'the transaction was used after its end')
      begun ??= begin()
      return (await run<never>(await begun, text, values)).rows
    },
  }
  try {
    const result = await work(tx)
    isOver = true
    const session = await begun
    if (session !== null) await commit(session)
    return result
  } catch (error) {
    isOver = true
    const session = await (begun as Promise<Session> | null)?.catch(() => null)
    // Where even this fails the session is dead or not idle, and close cuts it.
    if (session && !session.isDead) await run(session, 'ROLLBACK').catch(() => {})
    throw error
  } finally {
    const session = await (begun as Promise<Session> | null)?.catch(() => null)
    if (session) close(session)
  }
}

async function commit(session: Session): Promise<void> {
  // A COMMIT of a transaction in which a statement failed rolls back and reports no error.
  const { command } = await run(session, 'COMMIT')
  if (command !== 'COMMIT') throw new Fault('INTERNAL', 'a failed statement was ignored')
}

function close({ pool, client, isDead }: Session): void {
  pool.giveBack(client, isDead || client.getTransactionStatus() !== 'I')
}

async function run<Row extends object>(
  session: Session,
  text: string,
  values: readonly unknown[] = [],
): Promise<pg.QueryResult<Row>> {
  try {
    return await session.client.query<Row>(text, [...values])
  } catch (error) {
    if (!sessionSurvives(error)) session.isDead = true
    // The Fault keeps its cause, so that a handler can tell one constraint from another.
    throw databaseFault(error)
  }
}
