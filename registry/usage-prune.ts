import { peopleOf } from './billing/month-people.ts'
import type { RegistryStore } from './store.ts'
import { NIL_ID } from './tenant.ts'

export interface UserPruneOptions {
  /** METERING_USERS_KEEP_DAYS: since the last day of a month. */
  readonly keepDays: number
  /** Once aborted nothing further is begun. */
  readonly signal?: AbortSignal
  readonly nowMs?: number
}

export interface UsersPruned {
  /** Tenants' months whose people were counted for good. */
  readonly kept: number
  /** Rows that went: names and sketches. */
  readonly rows: number
}

/** The latest batch that the Registry takes is 31 days old, and a month is as long. */
export const USERS_KEEP_DAYS_MIN = 62
const DAY_MS = 86_400_000
/** Rows of one statement. */
const ROWS_MAX = 5000
const TENANTS_MAX = 200

/**
 * Tenants after $1 with their first day, each found by the primary key and not by reading its rows. `TABLE` is one of two.
 */
const FIRST_DAYS = `
  WITH RECURSIVE firsts AS (
    (SELECT tenant_id, date, 1 AS n FROM TABLE WHERE tenant_id > $1 ORDER BY tenant_id, date LIMIT 1)
    UNION ALL
    SELECT next.tenant_id, next.date, n + 1 FROM firsts, LATERAL (
      SELECT tenant_id, date FROM TABLE WHERE tenant_id > firsts.tenant_id
      ORDER BY tenant_id, date LIMIT 1) AS next
    WHERE n < ${TENANTS_MAX}
  )
  SELECT tenant_id, to_char(date, 'YYYY-MM') AS month FROM firsts ORDER BY tenant_id`

/** The next month of a tenant that has any, from $2 on. */
const NEXT_MONTH = `
  SELECT to_char(date, 'YYYY-MM') AS month FROM TABLE
  WHERE tenant_id = $1 AND date >= $2::date ORDER BY date LIMIT 1`

const KEEP = `
  INSERT INTO user_people_monthly (tenant_id, month, people) VALUES ($1, $2, $3)
  ON CONFLICT DO NOTHING RETURNING 1`

/**
 * From the moment on at which a month is kept no batch names anybody in it (`usage_add`); one that began before has ended long
 * since when the names go, or it would find none of them and count them again.
 */
const DUE = `
  SELECT tenant_id, month::text FROM user_people_monthly
  WHERE pruned_at IS NULL AND kept_at < now() - interval '10 minutes' ORDER BY kept_at LIMIT 100`

const DELETE = `
  WITH gone AS (
    DELETE FROM TABLE WHERE ctid IN (
      SELECT ctid FROM TABLE
      WHERE tenant_id = $1 AND date >= $2::date AND date < $2::date + interval '1 month' LIMIT $3)
    RETURNING 1
  )
  SELECT count(*)::int AS rows FROM gone`

const DONE = 'UPDATE user_people_monthly SET pruned_at = now() WHERE tenant_id = $1 AND month = $2'

const TABLES = ['user_activity_daily', 'user_sketch_daily'] as const

/**
 * Takes away who used what on which day, once nobody needs it: what invoices are made of is the number of people of a month, which is
 * counted for good first. So no statement changes, frozen or not. Names that are kept by one run go with the next one. Each
 * statement is bounded, and a run that was cut short is simply run again.
 *
 * @throws Fault REGISTRY_UNAVAILABLE
 */
export async function pruneUsers(
  { store }: { readonly store: Pick<RegistryStore, 'query'> },
  { keepDays, signal, nowMs = Date.now() }: UserPruneOptions,
): Promise<UsersPruned> {
  let rows = 0
  for (;;) {
    const due = await store.query(DUE, [])
    for (const { tenant_id, month } of due) {
      for (const table of TABLES) rows += await empty(store, table, [tenant_id, month], signal)
      if (signal?.aborted) return { kept: 0, rows }
      await store.query(DONE, [tenant_id, month])
    }
    if (due.length === 0) break
  }
  let kept = 0
  // The first month that is not due: its last day is less than so many days ago.
  const until = new Date(nowMs - keepDays * DAY_MS).toISOString().slice(0, 7)
  for (const table of TABLES) kept += await keepDueMonths(store, table, until, signal)
  return { kept, rows }
}

async function empty(
  store: Pick<RegistryStore, 'query'>,
  table: string,
  values: readonly unknown[],
  signal: AbortSignal | undefined,
): Promise<number> {
  let all = 0
  while (!signal?.aborted) {
    const [row] = await store.query(DELETE.replaceAll('TABLE', table), [...values, ROWS_MAX])
    const rows = Number(row?.rows)
    all += rows
    if (rows < ROWS_MAX) break
  }
  return all
}

async function keepDueMonths(
  store: Pick<RegistryStore, 'query'>,
  table: string,
  until: string,
  signal: AbortSignal | undefined,
): Promise<number> {
  let kept = 0
  let after = NIL_ID
  for (;;) {
    const firsts = await store.query(FIRST_DAYS.replaceAll('TABLE', table), [after])
    for (const { tenant_id, month } of firsts) {
      const id = String(tenant_id)
      for (let next: string | null = String(month); next !== null && next < until; ) {
        if (signal?.aborted) return kept
        kept += await keep(store, id, next)
        const from = [id, `${monthAfter(next)}-01`]
        const [row] = await store.query(NEXT_MONTH.replaceAll('TABLE', table), from)
        next = row === undefined ? null : String(row.month)
      }
    }
    if (firsts.length < TENANTS_MAX) return kept
    after = String(firsts.at(-1)?.tenant_id)
  }
}

/** @returns 0: it was kept before */
async function keep(
  store: Pick<RegistryStore, 'query'>,
  id: string,
  month: string,
): Promise<number> {
  const people = (await peopleOf(store, id, [month])).get(month) ?? 0
  return (await store.query(KEEP, [id, `${month}-01`, people])).length
}

function monthAfter(month: string): string {
  const [year = 0, number = 0] = month.split('-').map(Number)
  return new Date(Date.UTC(year, number, 1)).toISOString().slice(0, 7)
}
