import type { RegistryStore } from '../store.ts'

/** Registers of the Registry's sketches; ranks go up to 33. */
const REGISTERS = 16_384
const RANKS = 34
/** Names of each day that a statement reads, and so 31 times as many at most. */
const NAMES_A_DAY = 1000
/** Sketches of 16 KiB that a statement reads. */
const SKETCHES_MAX = 8

/** What there is of a tenant's months $2 (their first days). */
const LOOK = `
  SELECT to_char(month, 'YYYY-MM') AS month,
    (SELECT people FROM user_people_monthly AS kept
      WHERE kept.tenant_id = $1 AND kept.month = months.month) AS kept,
    EXISTS (SELECT FROM user_activity_daily WHERE tenant_id = $1
      AND date >= months.month AND date < months.month + interval '1 month') AS has_names,
    EXISTS (SELECT FROM user_sketch_daily WHERE tenant_id = $1
      AND date >= months.month AND date < months.month + interval '1 month') AS has_sketches
  FROM unnest($2::date[]) AS months (month)`

/**
 * Names of the month after $3, as far as all days are known: of a day with more of them than are read, up to the last one that was.
 * By the primary key, a range of each day.
 */
const NAMES = `
  WITH page AS MATERIALIZED (
    SELECT day, user_id, user_mark
    FROM generate_series($2::date, $2::date + interval '1 month' - interval '1 day', '1 day') AS day,
      LATERAL (SELECT user_id, user_mark FROM user_activity_daily
        WHERE tenant_id = $1 AND date = day::date AND user_id > $3 ORDER BY user_id LIMIT $4) AS names
  ), edge AS (
    SELECT min(last) AS at FROM (
      SELECT max(user_id) AS last FROM page GROUP BY day HAVING count(*) = $4) AS full_days
  )
  SELECT (SELECT at FROM edge) AS next, count(*)::int AS names,
    CASE WHEN $5 THEN array_agg(DISTINCT mark) FILTER (WHERE mark IS NOT NULL) END AS marks
  FROM (SELECT user_id, max(user_mark) AS mark FROM page
    WHERE user_id <= coalesce((SELECT at FROM edge), user_id) GROUP BY user_id) AS known`

const SKETCHES = `
  SELECT to_char(date, 'YYYY-MM-DD') AS day, registers FROM user_sketch_daily
  WHERE tenant_id = $1 AND date >= $3::date AND date < $2::date + interval '1 month'
  ORDER BY user_sketch_daily.date LIMIT $4`

const ESTIMATE = 'SELECT usage_sketch_estimate($1::bigint[]) AS people'

/**
 * People of a tenant in each of some months, each once however many days they came: what `usage_people` says
 * (migrations/registry/0023_usage_parts.sql), by statements of which none reads more than a bounded part. Of a hundred
 * thousand users a day that function alone would take longer than a statement may.
 *
 * @param months YYYY-MM
 * @throws Fault REGISTRY_UNAVAILABLE
 */
export async function peopleOf(
  store: Pick<RegistryStore, 'query'>,
  tenantId: string,
  months: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const people = new Map<string, number>()
  const rows = await store.query(LOOK, [tenantId, months.map(month => `${month}-01`)])
  for (const { month, kept, has_names, has_sketches } of rows) {
    const first = `${month}-01`
    const ranks = has_sketches === true ? await sketchOf(store, tenantId, first) : null
    const named = has_names === true ? await namesOf(store, tenantId, first, ranks) : 0
    const estimated = ranks === null ? 0 : await estimateOf(store, ranks)
    people.set(String(month), Math.max(Number(kept ?? 0), named, estimated))
  }
  return people
}

/** How many there are; where there is a sketch they are added to it. */
async function namesOf(
  store: Pick<RegistryStore, 'query'>,
  tenantId: string,
  first: string,
  ranks: Uint8Array | null,
): Promise<number> {
  let names = 0
  let after = ''
  for (;;) {
    const [row] = await store.query(NAMES, [tenantId, first, after, NAMES_A_DAY, ranks !== null])
    names += Number(row?.names)
    for (const mark of (row?.marks ?? []) as readonly number[]) {
      raise(ranks as Uint8Array, mark >> 6, mark & 63)
    }
    if (row?.next === null || row?.next === undefined) return names
    after = String(row.next)
  }
}

async function sketchOf(
  store: Pick<RegistryStore, 'query'>,
  tenantId: string,
  first: string,
): Promise<Uint8Array> {
  const ranks = new Uint8Array(REGISTERS)
  for (let from = first; ; ) {
    const rows = await store.query(SKETCHES, [tenantId, first, from, SKETCHES_MAX])
    for (const { registers } of rows) {
      const bytes = registers as Buffer
      for (let i = 0; i < REGISTERS; i++) raise(ranks, i, bytes[i] as number)
    }
    if (rows.length < SKETCHES_MAX) return ranks
    from = dayAfter(String(rows.at(-1)?.day))
  }
}

function raise(ranks: Uint8Array, register: number, rank: number): void {
  if (rank > (ranks[register] as number)) ranks[register] = rank
}

async function estimateOf(store: Pick<RegistryStore, 'query'>, ranks: Uint8Array): Promise<number> {
  const counts = new Array<number>(RANKS).fill(0)
  for (const rank of ranks) counts[rank] = (counts[rank] ?? 0) + 1
  const [row] = await store.query(ESTIMATE, [counts.slice(0, RANKS)])
  return Number(row?.people)
}

function dayAfter(day: string): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + 86_400_000).toISOString().slice(0, 10)
}
