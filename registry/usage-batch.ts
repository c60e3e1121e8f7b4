import type { RegistryStore } from './store.ts'

/** What a serving process counted since its batch before. Sent again it counts once. */
export interface UsageBatch {
  /** Of the process: `Membership.id`. */
  readonly instance: string
  /** From 1, without gaps, in order. */
  readonly sequence: number
  readonly sealedAtMs: number
  readonly days: readonly UsageDayCounts[]
  /** Those that this process sees for the first time on that day. */
  readonly users: readonly UsageUser[]
  /** Of users beyond those that are named: register * 64 + rank. */
  readonly sketches: readonly UsageSketch[]
  readonly counters: readonly UsageCounter[]
}

interface OfDay {
  readonly tenant_id: string
  /** UTC, YYYY-MM-DD. */
  readonly date: string
}

/** Columns of customer_usage_daily; absent: 0. */
export const USAGE_COLUMNS = [
  'responses_2xx',
  'responses_3xx',
  'responses_4xx',
  'responses_5xx',
  'requests_refused',
  'requests_aborted',
  'websockets',
  'websocket_ms',
  'bytes_in',
  'bytes_out',
  'duration_ms',
  'pdf_generated',
] as const
export type UsageColumn = (typeof USAGE_COLUMNS)[number]

export type UsageDayCounts = OfDay & { [column in UsageColumn]?: number }
export type UsageUser = OfDay & { readonly user_id: string; readonly user_mark: number }
export type UsageSketch = OfDay & { readonly marks: readonly number[] }
export type UsageCounter = OfDay & { readonly name: string; readonly value: number }

/**
 * `known`: it was in already, and nothing was changed. `taken`: the same, and with it all that its process had counted by then. `late`:
 * it is too old for anybody to say, and was refused.
 */
export type Applied = 'applied' | 'known' | 'taken' | 'late'

/** One statement, see migrations/registry/0018_metering.sql. */
const APPLY = 'SELECT usage_apply($1, $2, to_timestamp($3::double precision / 1000), $4) AS outcome'
const COUNT_PEOPLE = 'SELECT usage_count_people($1) AS days'
/** Longer than a batch may take to come in, see `usage_apply`. */
const PRUNE = "DELETE FROM usage_instances WHERE applied_at < now() - interval '60 days'"

/** See migrations/registry/0023_usage_parts.sql. */
const APPLY_PART = `SELECT usage_apply_part($1, $2, to_timestamp($3::double precision / 1000), $4, $5, $6, $7, $8, $9, $10, $11)
  AS outcome`
/** Of a batch that is too old; once, however often it is said. */
const KEEP_LATE = `
  INSERT INTO usage_refused (instance, sequence, part, code, reason, batch)
  VALUES ($1, $2, 0, 'late', $3, $4) ON CONFLICT DO NOTHING`

/** What may go into the Registry at one time, see `divideUsage`. */
export type UsageParts = Pick<UsageBatch, 'days' | 'users' | 'sketches' | 'counters'>

/** One part of a batch that was divided. */
export interface UsagePart {
  readonly instance: string
  readonly sequence: number
  readonly sealedAtMs: number
  /** From 1. */
  readonly part: number
  readonly of: number
  /** How it was divided, see `divideUsage`. */
  readonly digest: string
  /** All that a process had counted when it ended: what that process itself says of it is void. */
  readonly takesRest: boolean
  /** It begins with what that batch left out; null: with nothing of another. */
  readonly restOf: number | null
  readonly parts: UsageParts
  /** Present: it is not to be counted, but to be kept in usage_refused. */
  readonly refused?: { readonly code: string; readonly reason: string }
}

/** `void`: another batch has all of it. An object: it was begun by another division, of that digest. */
export type PartApplied = Applied | 'void' | { readonly digest: string }

/**
 * Part by part in order; each counts once, whoever brings it.
 *
 * @throws Fault as `applyUsage`
 */
export async function applyUsagePart(
  store: Pick<RegistryStore, 'query'>,
  {
    instance,
    sequence,
    sealedAtMs,
    part,
    of,
    digest,
    takesRest,
    restOf,
    parts,
    refused,
  }: UsagePart,
): Promise<PartApplied> {
  const [row] = await store.query(APPLY_PART, [
    ...[instance, sequence, sealedAtMs, part, of, digest, takesRest, restOf],
    ...[JSON.stringify(parts), refused?.code ?? null, refused?.reason ?? null],
  ])
  const outcome = String(row?.outcome)
  if (outcome.startsWith('other ')) return { digest: outcome.slice('other '.length) }
  return outcome as Applied | 'void'
}

/** Puts a batch aside that is too old to be counted: somebody has to look. @throws Fault */
export async function keepLateUsage(
  store: Pick<RegistryStore, 'query'>,
  { instance, sequence, sealedAtMs, ...parts }: UsageBatch,
): Promise<void> {
  const reason = `it is of ${new Date(sealedAtMs).toISOString()}`
  await store.query(KEEP_LATE, [instance, sequence, reason, JSON.stringify(parts)])
}

/** @throws Fault, see `refusalOf` in registry/usage-refusal.ts for what to do with it */
export async function applyUsage(
  store: Pick<RegistryStore, 'query'>,
  { instance, sequence, sealedAtMs, ...parts }: UsageBatch,
): Promise<Applied> {
  const [row] = await store.query(APPLY, [instance, sequence, sealedAtMs, JSON.stringify(parts)])
  return row?.outcome as Applied
}

/**
 * Brings `active_users` of days with a sketch up to date.
 *
 * @returns how many days; fewer than `daysMax`: all are
 */
export async function countPeople(
  store: Pick<RegistryStore, 'query'>,
  daysMax: number,
): Promise<number> {
  return Number((await store.query(COUNT_PEOPLE, [daysMax]))[0]?.days ?? 0)
}

/** Forgets processes that sent nothing for 60 days. */
export async function pruneUsageInstances(store: Pick<RegistryStore, 'query'>): Promise<void> {
  await store.query(PRUNE, [])
}
