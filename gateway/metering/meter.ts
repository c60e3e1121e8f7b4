import { createHash } from 'node:crypto'
import { ERRORS, type ErrorCode } from '../../registry/lib/errors.ts'
import {
  USAGE_COLUMNS,
  type UsageBatch,
  type UsageColumn,
  type UsageCounter,
  type UsageDayCounts,
  type UsageParts,
  type UsageSketch,
  type UsageUser,
} from '../../registry/usage-batch.ts'
import type { Exchange } from '../exchange.ts'
import { DayClock, type MeterClock } from './day-clock.ts'
import type { UsageJournal } from './journal.ts'
import { COLUMN, COLUMN_OF_CLASS, dateOf, TenantUsage } from './tenant-usage.ts'
import { parseUsageField, type UsageFieldProblem } from './usage-field.ts'
import { UserSketch, userMark } from './user-sketch.ts'

export interface MeterOptions {
  /** Names this process in its batches. */
  readonly instance: string
  /** METERING_USERS_EXACT_MAX: users of a tenant and day that are named; further ones go into a sketch. */
  readonly usersExactMax: number
  /** null: what is in no batch dies with the process. */
  readonly journal?: UsageJournal | null
  readonly limits?: Partial<MeterLimits>
  readonly clock?: MeterClock
}

/** Per process. What is beyond a bound is not counted, and a metric says so. */
export interface MeterLimits {
  /** Tenants, of each day that is not in the Registry yet. */
  readonly tenantsMax: number
  /** Users that are named, of all tenants. */
  readonly usersMax: number
  /** Sketches, of 16 KiB each. */
  readonly sketchesMax: number
  /** Names of the app's own counters of a tenant and day. */
  readonly counterNamesMax: number
  /** Tenants of a batch: a statement of the Registry has to take it in in time. */
  readonly batchTenantsMax: number
  /** Users and registers of a batch. */
  readonly batchUsersMax: number
  /** Sketches of a batch, of 16 KiB each that the Registry writes anew. */
  readonly batchSketchesMax: number
}

export const METER_LIMITS: MeterLimits = {
  tenantsMax: 50_000,
  usersMax: 200_000,
  sketchesMax: 1000,
  counterNamesMax: 32,
  batchTenantsMax: 1000,
  batchUsersMax: 5000,
  batchSketchesMax: 200,
}

/** What was not counted: never the other way round. Of users each time that one is seen. */
export type LostReason = 'tenants' | 'users' | 'counters'

const DAY_MS = 86_400_000
/** As long as OpenID Connect lets a `sub` be; PostgreSQL's index takes not much more. */
const USER_ID_CHARS_MAX = 255

/**
 * Counts what invoices are made of: per tenant and UTC day, in plain numbers, without a statement, a promise or
 * an object per request. `answered` is called when the app's answer head is there and before the client can see
 * it, `finished` when the exchange is over; `seal` takes what has come together. Which day it is `DayClock` says: a
 * wall clock that jumps moves counts to another day for a time that is bounded, and never counts them twice.
 */
export class Meter {
  readonly #options: MeterOptions
  readonly #limits: MeterLimits
  readonly #clock: MeterClock
  /** Says the day, and nothing else: the wall clock may jump. */
  readonly #dayClock: DayClock
  readonly #journal: UsageJournal | null
  readonly #days = new Map<number, Map<string, TenantUsage>>()
  #today: Map<string, TenantUsage> = new Map()
  #day = 0
  #dayStartMs = 0
  #dayEndMs = 0
  /** In the order in which they were touched. */
  #dirty: TenantUsage[] = []
  readonly #withSockets = new Set<TenantUsage>()
  #tenants = 0
  #namedUsers = 0
  #sketches = 0
  #sequence = 0
  /** The last batch that left something out. */
  #restOf = 0
  readonly #lost: Record<LostReason, number> = { tenants: 0, users: 0, counters: 0 }
  readonly #fieldProblems: Record<UsageFieldProblem, number> = {
    malformed: 0,
    'too-long': 0,
    reserved: 0,
  }

  constructor(options: MeterOptions) {
    this.#options = options
    this.#journal = options.journal ?? null
    this.#limits = { ...METER_LIMITS, ...options.limits }
    this.#clock = options.clock ?? { now: Date.now, monotonic: () => performance.now() }
    this.#dayClock = new DayClock(this.#clock)
    this.#roll(this.#dayClock.now())
  }

  /** Tenants and days that hold something that is in no batch. */
  get unsealed(): number {
    return this.#dirty.length
  }

  /** Answers that the app gave, and WebSockets, of what is in no batch. */
  get unsealedRequests(): number {
    return this.#dirty.reduce((sum, usage) => sum + servedBy(usage), 0)
  }

  /** Requests, users and counters that a bound kept from being counted. */
  get lost(): Readonly<Record<LostReason, number>> {
    return this.#lost
  }

  /** Fields x-usage that counted nothing. */
  get fieldProblems(): Readonly<Record<UsageFieldProblem, number>> {
    return this.#fieldProblems
  }

  /** The app has answered, by `exchange.status`. Only what it did not fail at counts. */
  answered(exchange: Exchange): void {
    const { tenant, status } = exchange
    if (tenant === null || exchange.metered !== null || isOfStranger(exchange)) return
    const usage = this.#usageOf(tenant.id)
    if (usage === null) {
      this.#lost.tenants++
      return
    }
    exchange.metered = usage
    const column = COLUMN_OF_CLASS[(status / 100) | 0] ?? -1
    if (column !== -1) this.#add(usage, column, 1)
    if (status < 500) this.#addServed(usage, exchange)
    this.#journal?.write()
  }

  #addServed(usage: TenantUsage, { status, principal, appUsage }: Exchange): void {
    if (status === 101) this.#openSocket(usage)
    const user = principal?.sub
    if (user !== undefined && user !== '' && usage.users?.has(user) !== true) {
      this.#addUser(usage, user)
    }
    if (appUsage !== null) this.#addCounters(usage, appUsage)
  }

  /** The exchange is over. */
  finished(exchange: Exchange, tookMs: number): void {
    const { tenant, status, errorCode, metered } = exchange
    if (tenant === null) return
    if (metered === null) {
      const isRefused = errorCode !== null || status >= 400
      // An answer that refuses nothing is neither: the gateway's own, or one to a stranger.
      if (!isRefused && status !== 0) return
      const usage = this.#usageOf(tenant.id)
      const column = isRefused ? COLUMN.requests_refused : COLUMN.requests_aborted
      if (usage !== null) this.#add(usage, column, 1)
      return
    }
    if (status >= 500) return
    const isBroken = errorCode !== null && ERRORS[errorCode as ErrorCode].blame !== 'client'
    if (isBroken) this.#takeBack(metered, status)
    const usage = this.#usageOfToday(metered)
    if (usage === null) return
    // Its time ends too, or it would go on for ever.
    if (isBroken) return status === 101 ? this.#closeSocket(usage) : undefined
    this.#add(usage, COLUMN.bytes_in, exchange.bytesIn)
    this.#add(usage, COLUMN.bytes_out, exchange.bytesOut)
    if (status === 101) this.#closeSocket(usage)
    else this.#add(usage, COLUMN.duration_ms, Math.floor(tookMs))
  }

  /** Part of what has come together, in the size that a statement takes; null: nothing is left. */
  seal(): UsageBatch | null {
    const sealedAtMs = this.#turn()
    this.#countSockets(this.#clock.monotonic())
    if (this.#dirty.length === 0) return null
    const taken = this.#take(this.#dirty.splice(0, this.#limits.batchTenantsMax))
    const { instance } = this.#options
    this.#sequence++
    const batch = { instance, sequence: this.#sequence, sealedAtMs, ...taken }
    if (this.#journal !== null) {
      const isRest = this.#dirty.length > 0
      if (isRest) this.#restOf = batch.sequence
      this.#journal.seal(batch, isRest ? this.#peek() : null)
    }
    return batch
  }

  /**
   * The Registry has the batch.
   *
   * @param isByAnother it has it from the file: this process was taken for dead, and its file was brought in with all
   * that the batch left out. That is dropped here, with what was counted since: it would count twice.
   */
  written(sequence: number, isByAnother = false): void {
    this.#journal?.drop(sequence)
    if (!isByAnother || this.#restOf !== sequence) return
    // A pass leaves users over where they are many.
    while (this.#dirty.length > 0) this.#take(this.#dirty.splice(0))
    this.#journal?.dropCurrent()
  }

  /** To be called now and then, however long the Registry takes nothing. */
  tend(): void {
    const journal = this.#journal
    if (journal === null) return
    journal.touch()
    if (journal.isToCompact) journal.compact(this.#peek())
  }

  /** Has all that is in no batch in the journal, as far as it has one. @returns false: the disk does not take it */
  keep(): boolean {
    const journal = this.#journal
    if (journal === null) return this.#dirty.length === 0
    journal.write()
    if (journal.isTorn) journal.compact(this.#peek())
    return !journal.isTorn
  }

  #take(dirty: readonly TenantUsage[]): UsageParts {
    const parts = emptyParts()
    let room = this.#limits.batchUsersMax
    for (const usage of dirty) {
      const of = { tenant_id: usage.tenantId, date: dateOf(usage.day) }
      parts.days.push(countsOf(usage, of))
      usage.counts.fill(0)
      for (const [name, value] of usage.counters ?? []) parts.counters.push({ ...of, name, value })
      usage.counters = null
      const users = usage.newUsers.splice(0, room)
      for (const user_id of users) {
        parts.users.push({ ...of, user_id, user_mark: userMark(user_id) })
      }
      room -= users.length
      const isFull = parts.sketches.length >= this.#limits.batchSketchesMax
      const marks = isFull ? [] : (usage.sketch?.take(room) ?? [])
      room -= marks.length
      if (marks.length > 0) parts.sketches.push({ ...of, marks })
      if (usage.newUsers.length > 0 || (usage.sketch?.moved ?? 0) > 0) this.#dirty.push(usage)
      else {
        usage.isDirty = false
        if (usage.day !== this.#day) this.#forget(usage)
      }
    }
    return parts
  }

  /** All that is in no batch. */
  #peek(): UsageParts {
    const parts = emptyParts()
    for (const usage of this.#dirty) {
      const of = { tenant_id: usage.tenantId, date: dateOf(usage.day) }
      parts.days.push(countsOf(usage, of))
      for (const [name, value] of usage.counters ?? []) parts.counters.push({ ...of, name, value })
      for (const user_id of usage.newUsers) {
        parts.users.push({ ...of, user_id, user_mark: userMark(user_id) })
      }
      const marks = usage.sketch?.peek() ?? []
      if (marks.length > 0) parts.sketches.push({ ...of, marks })
    }
    return parts
  }

  /** The tenant's record of today; null at the bound. */
  #usageOf(tenantId: string): TenantUsage | null {
    this.#turn()
    const usage = this.#today.get(tenantId) ?? this.#make(tenantId, this.#day)
    if (usage !== null && !usage.isDirty) this.#touch(usage)
    return usage
  }

  /** The same, where one of its records is at hand: today's stays, unless that day was left and has come back. */
  #usageOfToday(known: TenantUsage): TenantUsage | null {
    this.#turn()
    if (known.day !== this.#day || known.isForgotten) {
      return this.#usageOf(known.tenantId)
    }
    if (!known.isDirty) this.#touch(known)
    return known
  }

  #add(usage: TenantUsage, column: number, amount: number): void {
    usage.add(column, amount)
    this.#journal?.add(usage, column, amount)
  }

  #touch(usage: TenantUsage): void {
    usage.isDirty = true
    this.#dirty.push(usage)
  }

  #make(tenantId: string, day: number): TenantUsage | null {
    if (this.#tenants >= this.#limits.tenantsMax) return null
    let ofDay = this.#days.get(day)
    if (ofDay === undefined) {
      ofDay = new Map()
      this.#days.set(day, ofDay)
    }
    const usage = new TenantUsage(tenantId, day)
    ofDay.set(tenantId, usage)
    this.#tenants++
    return usage
  }

  #forget(usage: TenantUsage): void {
    const ofDay = this.#days.get(usage.day)
    if (ofDay?.delete(usage.tenantId) !== true) return
    usage.isForgotten = true
    this.#tenants--
    this.#namedUsers -= usage.users?.size ?? 0
    if (usage.sketch !== null) this.#sketches--
    if (ofDay.size === 0 && usage.day !== this.#day) this.#days.delete(usage.day)
  }

  /** @returns now, of which day counts are from here on */
  #turn(): number {
    const nowMs = this.#dayClock.now()
    if (nowMs >= this.#dayEndMs || nowMs < this.#dayStartMs) this.#roll(nowMs)
    return nowMs
  }

  /** Another day than before, mostly the next one. Sockets that are open go on in it. */
  #roll(nowMs: number): void {
    const before = this.#today
    const dayStartMs = Math.floor(nowMs / DAY_MS) * DAY_MS
    const monotonicMs = this.#clock.monotonic()
    // Set back there is no midnight in between.
    const sinceMidnightMs = dayStartMs > this.#dayStartMs ? nowMs - dayStartMs : 0
    this.#countSockets(monotonicMs - sinceMidnightMs)
    const open = [...this.#withSockets].map(usage => {
      const { tenantId, openSockets, socketsUntilMs } = usage
      usage.openSockets = 0
      return { tenantId, openSockets, socketsUntilMs }
    })
    if (before.size === 0) this.#days.delete(this.#day)
    this.#day = dayStartMs / DAY_MS
    this.#dayStartMs = dayStartMs
    this.#dayEndMs = dayStartMs + DAY_MS
    this.#today = this.#days.get(this.#day) ?? new Map()
    this.#days.set(this.#day, this.#today)
    for (const usage of before.values()) if (!usage.isDirty) this.#forget(usage)
    this.#withSockets.clear()
    for (const { tenantId, openSockets, socketsUntilMs } of open) {
      const usage = this.#today.get(tenantId) ?? this.#make(tenantId, this.#day)
      if (usage === null) {
        this.#lost.tenants++
        continue
      }
      usage.openSockets = openSockets
      usage.socketsUntilMs = socketsUntilMs
      this.#withSockets.add(usage)
    }
  }

  #openSocket(usage: TenantUsage): void {
    this.#countSocketsOf(usage, this.#clock.monotonic())
    usage.openSockets++
    this.#withSockets.add(usage)
  }

  #closeSocket(usage: TenantUsage): void {
    if (usage.openSockets === 0) return
    this.#countSocketsOf(usage, this.#clock.monotonic())
    usage.openSockets--
    if (usage.openSockets === 0) this.#withSockets.delete(usage)
  }

  #countSockets(untilMs: number): void {
    for (const usage of this.#withSockets) this.#countSocketsOf(usage, untilMs)
  }

  /** Sockets × time: as exact as a clock for each, and nothing to walk through. */
  #countSocketsOf(usage: TenantUsage, untilMs: number): void {
    if (usage.openSockets === 0) {
      usage.socketsUntilMs = untilMs
      return
    }
    // What is less than a millisecond goes on to the next time.
    const ms = Math.floor(untilMs - usage.socketsUntilMs)
    if (ms <= 0) return
    this.#add(usage, COLUMN.websocket_ms, ms * usage.openSockets)
    usage.socketsUntilMs += ms
    if (!usage.isDirty) this.#touch(usage)
  }

  #addUser(usage: TenantUsage, user: string): void {
    const id = storable(user)
    if (id !== user && usage.users?.has(id) === true) return
    const { usersExactMax } = this.#options
    if ((usage.users?.size ?? 0) < usersExactMax && this.#namedUsers < this.#limits.usersMax) {
      usage.users ??= new Set()
      usage.users.add(id)
      usage.newUsers.push(id)
      this.#namedUsers++
      this.#journal?.addUser(usage, id, userMark(id))
      return
    }
    if (usage.sketch === null) {
      if (this.#sketches >= this.#limits.sketchesMax) {
        this.#lost.users++
        return
      }
      usage.sketch = new UserSketch()
      this.#sketches++
    }
    const mark = userMark(id)
    if (usage.sketch.add(mark)) this.#journal?.addMark(usage, mark)
  }

  #addCounters(usage: TenantUsage, field: string): void {
    const counters = parseUsageField(field)
    if (typeof counters === 'string') {
      this.#fieldProblems[counters]++
      return
    }
    for (const [name, value] of counters) {
      if (name === 'pdf_generated') {
        this.#add(usage, COLUMN.pdf_generated, value)
        continue
      }
      usage.counterNames ??= new Set()
      if (!usage.counterNames.has(name)) {
        if (usage.counterNames.size >= this.#limits.counterNamesMax) {
          this.#lost.counters++
          continue
        }
        usage.counterNames.add(name)
      }
      usage.counters ??= new Map()
      usage.counters.set(name, (usage.counters.get(name) ?? 0) + value)
      this.#journal?.addCounter(usage, name, value)
    }
  }

  /** Its answer broke off by our own or the app's fault: it was counted, and is not to be paid for. */
  #takeBack({ tenantId, day }: TenantUsage, status: number): void {
    // Its own record may have been written and forgotten since.
    const usage = this.#days.get(day)?.get(tenantId) ?? this.#make(tenantId, day)
    if (usage === null) return
    this.#add(usage, COLUMN_OF_CLASS[(status / 100) | 0] as number, -1)
    this.#add(usage, COLUMN.responses_5xx, 1)
    if (!usage.isDirty) this.#touch(usage)
    // At once: killed before the next line it would be paid for.
    this.#journal?.write()
  }
}

/**
 * Without a token nobody is known to belong to the tenant that he names: who sends wrong passwords, or asks for mails to
 * others, must not make its invoice longer.
 */
function isOfStranger({ route, status }: Exchange): boolean {
  if (route?.credential !== 'login') return false
  return route.counts === 'attempts' || status >= 400
}

/** As `api_requests` will have it. */
function servedBy({ counts }: TenantUsage): number {
  return SERVED.reduce((sum, column) => sum + (counts[column] as number), 0)
}

const SERVED = [COLUMN.responses_2xx, COLUMN.responses_3xx, COLUMN.responses_4xx, COLUMN.websockets]

function emptyParts() {
  return {
    days: [] as UsageDayCounts[],
    users: [] as UsageUser[],
    sketches: [] as UsageSketch[],
    counters: [] as UsageCounter[],
  }
}

function countsOf(
  { counts }: TenantUsage,
  of: { readonly tenant_id: string; readonly date: string },
): UsageDayCounts {
  const row: UsageDayCounts = { ...of }
  for (let i = 0; i < counts.length; i++) {
    if (counts[i] !== 0) row[USAGE_COLUMNS[i] as UsageColumn] = counts[i] as number
  }
  return row
}

/** What PostgreSQL cannot keep, or not index, stands as its hash: one user must not fail the batch of all. */
function storable(user: string): string {
  if (user.length <= USER_ID_CHARS_MAX && !user.includes('\0') && user.isWellFormed()) return user
  return `sha256:${createHash('sha256').update(user, 'utf16le').digest('hex')}`
}
