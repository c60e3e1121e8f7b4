import { USAGE_COLUMNS, type UsageColumn } from '../../registry/usage-batch.ts'
import type { UserSketch } from './user-sketch.ts'

/** Place of each column in `TenantUsage.counts`. */
export const COLUMN = Object.fromEntries(USAGE_COLUMNS.map((name, i) => [name, i])) as Readonly<
  Record<UsageColumn, number>
>

/** By the first digit of a status; 101 is a WebSocket. */
export const COLUMN_OF_CLASS: readonly number[] = [
  -1,
  COLUMN.websockets,
  COLUMN.responses_2xx,
  COLUMN.responses_3xx,
  COLUMN.responses_4xx,
  COLUMN.responses_5xx,
]

/** What one process has counted of a tenant on one day, since it was last taken. */
export class TenantUsage {
  readonly tenantId: string
  /** Days since the epoch, in UTC. */
  readonly day: number
  readonly counts = new Float64Array(USAGE_COLUMNS.length)
  /** It holds something that is in no batch yet. */
  isDirty = false
  /** It is of a day that was left, and nobody looks for it any more. */
  isForgotten = false
  /** Users of the whole day that are named; null: none yet. */
  users: Set<string> | null = null
  /** Those of them that are in no batch yet. */
  newUsers: string[] = []
  /** Users beyond the bound of those that are named. */
  sketch: UserSketch | null = null
  /** The app's own counters. */
  counters: Map<string, number> | null = null
  /** Names of counters that the day has seen. */
  counterNames: Set<string> | null = null
  openSockets = 0
  /** `performance.now()` until which the time of open sockets is counted. */
  socketsUntilMs = 0
  /** Of the journal's file in which it has `journalNumber`. */
  journalEpoch = 0
  journalNumber = 0

  constructor(tenantId: string, day: number) {
    this.tenantId = tenantId
    this.day = day
  }

  add(column: number, amount: number): void {
    this.counts[column] = (this.counts[column] as number) + amount
  }
}

const DAY_MS = 86_400_000

let dateDay = -1
let date = ''

/** @param day since the epoch @returns YYYY-MM-DD, of the same day as before without making it anew */
export function dateOf(day: number): string {
  if (day !== dateDay) {
    dateDay = day
    date = new Date(day * DAY_MS).toISOString().slice(0, 10)
  }
  return date
}
