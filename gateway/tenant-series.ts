import type { Registry } from 'prom-client'
import type { TenantId } from '../registry/tenant.ts'
import type { Busy } from './live/pulse.ts'
import { addMetric } from './tally.ts'
import { Answers, Durations } from './tally-cell.ts'

/** The label of all tenants without a series of their own. */
export const OTHER_TENANTS = 'other'
const REQUESTS = 'doorman_tenant_requests_total'
const SECONDS = 'doorman_tenant_seconds'
/** Few: each is a series of each tenant. In seconds. */
const BUCKETS = [0.025, 0.1, 0.5, 2.5] as const
/** Who has series is settled this often at most, when somebody looks. */
const UPDATE_MS = 10_000
/** The same while there is room for more. */
const FILL_MS = 1_000
/** A tenant keeps its series so long after it was last among the busiest `2 * tenantsMax`. */
const LINGER_MS = 300_000
/** And so long in any case, so that many tenants in turn cannot make more than `tenantsMax` new ones a minute. */
const STAY_MS = 60_000
/** Who is to give way to another has at most half its load: two that are near each other do not take turns. */
const DOMINANCE = 2

/** What is counted of a tenant that has series of its own, or of all others. */
export class TenantCell {
  readonly answers = new Answers()
  readonly seconds = new Durations(BUCKETS)

  /** @param headMs until the head of the answer */
  note(status: number, headMs: number, traceId: string | null): void {
    this.answers.add(status)
    this.seconds.add(headMs, traceId)
  }
}

interface Member {
  readonly label: string
  readonly cell: TenantCell
  readonly sinceMs: number
  busyAtMs: number
}

export interface TenantSeriesOptions {
  /** METRICS_TENANTS_MAX: tenants with series of their own; 0: none. */
  readonly tenantsMax: number
  /** The tenants with most requests in the last minute, most first. */
  readonly busiest: (count: number, nowMs: number) => readonly Busy[]
  /** Has the tenant's next requests counted in `cell`; null: in that of the others. */
  readonly assign: (id: TenantId, cell: TenantCell | null) => void
}

/**
 * Rate, errors and durations of the busiest tenants, and of all others together. The number of series is bounded
 * however many tenants there are, and so is how fast they change.
 */
export class TenantSeries {
  readonly #options: TenantSeriesOptions
  readonly #members = new Map<TenantId, Member>()
  readonly others = new TenantCell()
  #updatedAtMs = Number.NEGATIVE_INFINITY

  constructor(options: TenantSeriesOptions) {
    this.#options = options
  }

  /** Where the tenant's requests are counted; null: with the others. */
  cellOf(id: TenantId): TenantCell | null {
    return this.#members.get(id)?.cell ?? null
  }

  /** Gives series to the busiest, and ends those of who is not any more. */
  update(nowMs: number): void {
    const { tenantsMax, busiest } = this.#options
    const everyMs = this.#members.size < tenantsMax ? FILL_MS : UPDATE_MS
    if (tenantsMax === 0 || nowMs - this.#updatedAtMs < everyMs) return
    this.#updatedAtMs = nowMs
    const busy = busiest(2 * tenantsMax, nowMs)
    const loads = new Map(busy.map(({ id, requests }) => [id, requests]))
    for (const [id, member] of this.#members) {
      if (loads.has(id)) member.busyAtMs = nowMs
      else if (nowMs - member.busyAtMs >= LINGER_MS) this.#end(id)
    }
    for (const tenant of busy.slice(0, tenantsMax)) {
      if (this.#members.has(tenant.id)) continue
      if (this.#members.size >= tenantsMax && !this.#makeRoom(tenant.requests, loads, nowMs)) return
      this.#begin(tenant, nowMs)
    }
  }

  show(registry: Registry): void {
    addMetric(
      registry,
      REQUESTS,
      'counter',
      'Requests of the busiest tenants (METRICS_TENANTS_MAX) and of all others, by status class; those whose tenant is not known are in neither. One with most of the load: see its plan’s limits. One with 5xx: see that tenant by the console. With workers a tenant that is busy on some of them alone is partly among the others.',
      () => this.#all().flatMap(({ label, cell }) => cell.answers.samples({ tenant: label })),
    )
    addMetric(
      registry,
      SECONDS,
      'histogram',
      'Seconds from the end of the request head to the head of the answer, of the same tenants. One that is slower than the others: its database or bucket, see its breakers and its pool by the console.',
      () =>
        this.#all().flatMap(({ label, cell }) => cell.seconds.samples(SECONDS, { tenant: label })),
    )
  }

  #all(): { readonly label: string; readonly cell: TenantCell }[] {
    this.update(Date.now())
    return [...this.#members.values(), { label: OTHER_TENANTS, cell: this.others }]
  }

  #begin({ id, key }: Busy, nowMs: number): void {
    const cell = new TenantCell()
    // A tenant may well be called `other`, or as one that was deleted a minute ago; a series twice spoils a scrape.
    const isTaken = key === OTHER_TENANTS || [...this.#members.values()].some(m => m.label === key)
    const label = isTaken ? id : key
    this.#members.set(id, { label, cell, sinceMs: nowMs, busyAtMs: nowMs })
    this.#options.assign(id, cell)
  }

  #end(id: TenantId): void {
    this.#members.delete(id)
    this.#options.assign(id, null)
  }

  /** Ends the series of the member with the least load, where it may go for one with so many requests. */
  #makeRoom(requests: number, loads: ReadonlyMap<TenantId, number>, nowMs: number): boolean {
    let weakest: TenantId | null = null
    let least = Number.POSITIVE_INFINITY
    for (const [id, { sinceMs }] of this.#members) {
      const load = loads.get(id) ?? 0
      if (load >= least || nowMs - sinceMs < STAY_MS) continue
      weakest = id
      least = load
    }
    if (weakest === null || requests < DOMINANCE * least) return false
    this.#end(weakest)
    return true
  }
}

export function isTenantSeries(name: string): boolean {
  return name === REQUESTS || name === SECONDS
}
