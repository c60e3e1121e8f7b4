import { createHash } from 'node:crypto'
import { setImmediate as breathe } from 'node:timers/promises'
import {
  USAGE_COLUMNS,
  type UsageCounter,
  type UsageDayCounts,
  type UsageParts,
} from './usage-batch.ts'

/** Users and registers of a part. */
export const PART_USERS_MAX = 5000
/** Rows that are handled before others of this process have their turn. */
const DAYS_AT_ONCE = 2000

export interface DividedUsage {
  /** `SIZE:HASH`; equal where all parts are. */
  readonly digest: string
  readonly parts: readonly UsageParts[]
}

/**
 * Usage in parts that a statement takes in in time. The same usage is divided in the same way by whoever has it, in
 * whatever order it is given, so that one may go on where another one was killed.
 *
 * Lets others of this process have their turn now and then: usage of a day is some hundred milliseconds.
 *
 * @param tenantsMax tenants and days of a part
 */
export async function divideUsage(usage: UsageParts, tenantsMax: number): Promise<DividedUsage> {
  const parts: UsageParts[] = []
  let part = emptyUsage()
  let tenants = 0
  let users = 0
  const next = () => {
    parts.push(part)
    part = emptyUsage()
    tenants = 0
    users = 0
  }
  let seen = 0
  for (const one of await sorted(usage)) {
    if (++seen % DAYS_AT_ONCE === 0) await breathe()
    const { day, names, marks, counters } = inOrder(one)
    if (tenants === tenantsMax || users >= PART_USERS_MAX) next()
    const of = { tenant_id: day.tenant_id, date: day.date }
    part.days.push(day)
    part.counters.push(...counters)
    tenants++
    for (const name of names) {
      if (users >= PART_USERS_MAX) next()
      part.users.push({ ...of, ...name })
      users++
    }
    for (let at = 0; at < marks.length; ) {
      if (users >= PART_USERS_MAX) next()
      const some = marks.slice(at, at + PART_USERS_MAX - users)
      part.sketches.push({ ...of, marks: some })
      at += some.length
      users += some.length
    }
  }
  if (part.days.length + users > 0 || parts.length === 0) next()
  const hash = createHash('sha256')
  for (const one of parts) {
    hash.update(JSON.stringify(one)).update('\n')
    if (one.days.length > 1) await breathe()
  }
  return { digest: `${tenantsMax}:${hash.digest('base64url')}`, parts }
}

/** Of what size the parts of a digest are; null: it is none. */
export function sizeOfDigest(digest: string): number | null {
  const size = Number(/^(\d{1,6}):/.exec(digest)?.[1] ?? 0)
  return size === 0 ? null : size
}

interface OneDay {
  day: UsageDayCounts
  readonly names: { readonly user_id: string; readonly user_mark: number }[]
  readonly marks: number[]
  readonly counters: UsageCounter[]
}

/** By tenant and day. */
async function sorted({ days, users, sketches, counters }: UsageParts): Promise<readonly OneDay[]> {
  const all = new Map<string, OneDay>()
  const at = ({ tenant_id, date }: { tenant_id: string; date: string }) => {
    const key = `${tenant_id} ${date}`
    let one = all.get(key)
    if (one === undefined) {
      one = { day: { tenant_id, date }, names: [], marks: [], counters: [] }
      all.set(key, one)
    }
    return one
  }
  let seen = 0
  for (const day of days) {
    const one = at(day)
    one.day = sumOf(one.day, day)
    if (++seen % DAYS_AT_ONCE === 0) await breathe()
  }
  for (const user of users) {
    at(user).names.push({ user_id: user.user_id, user_mark: user.user_mark })
    if (++seen % DAYS_AT_ONCE === 0) await breathe()
  }
  for (const sketch of sketches) for (const mark of sketch.marks) at(sketch).marks.push(mark)
  for (const { tenant_id, date, name, value } of counters) {
    at({ tenant_id, date }).counters.push({ tenant_id, date, name, value })
  }
  return [...all].sort(([a], [b]) => compare(a, b)).map(([, one]) => one)
}

/** Twice the same day is one. */
function sumOf(known: UsageDayCounts, more: UsageDayCounts): UsageDayCounts {
  const sum = { ...known }
  for (const name of USAGE_COLUMNS) {
    if (more[name] !== undefined) sum[name] = (sum[name] ?? 0) + more[name]
  }
  return sum
}

/** All of a day in one order, and no count that is 0. */
function inOrder({ day, names, marks, counters }: OneDay): OneDay {
  const { tenant_id, date, ...counts } = day
  const entries = Object.entries(counts).filter(([, count]) => count !== 0)
  entries.sort(([a], [b]) => compare(a, b))
  names.sort((a, b) => compare(a.user_id, b.user_id))
  marks.sort((a, b) => a - b)
  counters.sort((a, b) => compare(a.name, b.name))
  return { day: { tenant_id, date, ...Object.fromEntries(entries) }, names, marks, counters }
}

/** By code units: the same on every machine, whatever its language. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function emptyUsage() {
  return {
    days: [] as UsageDayCounts[],
    users: [] as UsageParts['users'][number][],
    sketches: [] as UsageParts['sketches'][number][],
    counters: [] as UsageCounter[],
  }
}
