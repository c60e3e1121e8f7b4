import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import type { FleetDatabases } from './databases.ts'

/** The most that was seen at any one look. */
export interface Seen {
  /** Connections to all tenant databases together. */
  readonly most: number
  /** By database. */
  readonly mostOf: ReadonlyMap<string, number>
  readonly looks: number
}

export interface ConnectionWatch {
  /** What was seen since the start or the last call. */
  take(): Seen
  stop(): Promise<void>
}

/** Nobody but the apps connects to tenant databases, so that every backend there counts. */
const CONNECTIONS = `SELECT datname AS database, count(*)::int AS n FROM pg_stat_activity
  WHERE backend_type = 'client backend' AND datname LIKE 'fleet\\_%' GROUP BY datname`

/** Looks at pg_stat_activity again and again, with `pauseMs` between two looks. */
export async function watchConnections(
  { postgres }: FleetDatabases,
  pauseMs: number,
): Promise<ConnectionWatch> {
  const client = new pg.Client({ connectionString: postgres.url('postgres') })
  client.on('error', () => {})
  await client.connect()
  let isStopped = false
  let most = 0
  let looks = 0
  let mostOf = new Map<string, number>()
  const look = async () => {
    const { rows } = await client.query<{ database: string; n: number }>(CONNECTIONS)
    let sum = 0
    for (const { database, n } of rows) {
      sum += n
      mostOf.set(database, Math.max(mostOf.get(database) ?? 0, n))
    }
    most = Math.max(most, sum)
    looks++
  }
  const watching = (async () => {
    while (!isStopped) {
      await look()
      await wait(pauseMs)
    }
  })()
  // Told by stop(); until then nobody waits for it.
  watching.catch(() => {})
  return {
    take() {
      const seen = { most, mostOf, looks }
      most = 0
      looks = 0
      mostOf = new Map()
      return seen
    },
    async stop() {
      isStopped = true
      try {
        await watching
      } finally {
        await client.end()
      }
    },
  }
}
