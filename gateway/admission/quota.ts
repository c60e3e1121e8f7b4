import { Fault } from '../../registry/lib/errors.ts'
import type { Log } from '../../registry/lib/log.ts'
import type { RegistryStore } from '../../registry/store.ts'
import type { TenantId } from '../../registry/tenant.ts'
import type { Slot } from './slot.ts'

export interface QuotasOptions {
  /** Requests of this month by tenant, as far as they were written, and the month by the Registry's clock. */
  readonly read: (tenants: readonly TenantId[]) => Promise<MonthlyUsage>
  /** Tenants with a quota that were active lately. */
  readonly slots: () => readonly Slot[]
  readonly log: Log
  readonly refreshMs?: number
  /** Milliseconds since the epoch. */
  readonly now?: () => number
}

export interface MonthlyUsage {
  /** Such as 2026-01. */
  readonly month: string
  readonly requests: ReadonlyMap<TenantId, number>
}

const READ = `
  SELECT to_char(now() AT TIME ZONE 'utc', 'YYYY-MM') AS month, coalesce((
    SELECT json_agg(json_build_array(tenant_id, requests)) FROM (
      SELECT tenant_id, sum(api_requests)::float8 AS requests FROM customer_usage_daily
      WHERE tenant_id = ANY($1::uuid[])
        AND date >= date_trunc('month', now() AT TIME ZONE 'utc')::date
      GROUP BY tenant_id
    ) AS used), '[]') AS used`

/** One statement for all of them. Primary key; @throws Fault REGISTRY_UNAVAILABLE */
export async function readMonthlyUsage(
  store: Pick<RegistryStore, 'query'>,
  tenants: readonly TenantId[],
): Promise<MonthlyUsage> {
  const [row] = await store.query(READ, [tenants])
  const pairs = (row?.used ?? []) as readonly (readonly [TenantId, number])[]
  return { month: String(row?.month), requests: new Map(pairs) }
}

const REFRESH_MS = 5000
/** From a tenant's first request until its usage is read. */
const ASKED_MS = 100
/** Tenants asked about in one statement; of more the others come next time. */
const TENANTS_MAX = 1000
/** Tenants whose event of this month is remembered, so that it is told once. */
const TOLD_MAX = 10_000

/**
 * The month's quota of each tenant. What a tenant has used is what the meter has written (of all gateways), and what
 * was answered here since that was read. Both are at most what it really used, so nobody is refused too early; beyond
 * the quota comes at most what is under way, and what the other gateways serve between the meter's flush and the next look.
 */
export class Quotas {
  readonly #options: QuotasOptions
  readonly #now: () => number
  readonly #told = new Set<TenantId>()
  #month = ''
  /** The month by our own clock when it was looked at last. */
  #ownMonth = ''
  /** Of this month, for the fields of answers: seconds in it, and its end (ms since the epoch). */
  #monthS = 0
  #endMs = 0
  #at = 0
  #timer: NodeJS.Timeout | null = null
  #asked: NodeJS.Timeout | null = null
  #reading: Promise<void> | null = null
  #isFailing = false
  /** Events since the start. */
  readonly events = { soft: 0, hard: 0 }

  constructor(options: QuotasOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#enter(new Date(this.#now()))
  }

  start(): void {
    const { refreshMs = REFRESH_MS } = this.#options
    this.#timer ??= setInterval(() => void this.refresh(), refreshMs).unref()
  }

  /** A tenant whose usage is not known has come: looks soon, once for all that come meanwhile. */
  ask(): void {
    if (this.#timer === null || this.#asked !== null) return
    this.#asked = setTimeout(() => {
      this.#asked = null
      void this.refresh()
    }, ASKED_MS).unref()
  }

  close(): void {
    if (this.#asked !== null) clearTimeout(this.#asked)
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  /** Never rejects: where the Registry is down, what was read last holds, and what is admitted here is added. */
  refresh(): Promise<void> {
    this.#turn()
    this.#reading ??= this.#read()
      .then(
        () => {
          this.#isFailing = false
        },
        error => {
          if (!this.#isFailing) this.#options.log.warn({ err: error }, 'monthly usage not read')
          this.#isFailing = true
        },
      )
      .finally(() => {
        this.#reading = null
      })
    return this.#reading
  }

  /** null: the request is within the month's quota, or the quota is soft. */
  refusal(slot: Slot): Fault | null {
    const { requestsPerMonth, isQuotaHard } = slot.limits
    if (slot.used < requestsPerMonth) return null
    this.#tell(slot, isQuotaHard)
    if (!isQuotaHard) return null
    const retryAfterS = this.#leftS()
    const known = slot.quotaFault
    if (known !== null && known.retryAfterS === retryAfterS) return known
    const fields = ['ratelimit-policy', this.policy(slot), 'ratelimit', this.state(slot)]
    const reason = `limit requests_per_month: ${requestsPerMonth}`
    slot.quotaFault = new Fault('QUOTA_EXCEEDED', reason, { retryAfterS, fields })
    return slot.quotaFault
  }

  /** The month's item of RateLimit-Policy. */
  policy({ limits: { requestsPerMonth } }: Slot): string {
    return `"month";q=${requestsPerMonth};w=${this.#monthS}`
  }

  /** The month's item of RateLimit. */
  state({ limits: { requestsPerMonth }, used }: Slot): string {
    return `"month";r=${Math.max(0, requestsPerMonth - used)};t=${this.#leftS()}`
  }

  #leftS(): number {
    return Math.max(1, Math.ceil((this.#endMs - this.#now()) / 1000))
  }

  async #read(): Promise<void> {
    const { read, slots } = this.#options
    const asked = this.#next(slots())
    if (asked.length === 0) return
    const { month, requests } = await read(asked.map(({ id }) => id))
    const isNew = month !== this.#month
    if (isNew) this.#begin(month)
    for (const slot of asked) {
      const written = requests.get(slot.id) ?? 0
      // Neither alone is all of it: what was admitted here may not be written, what others admitted is not known here.
      slot.used = isNew ? written : Math.max(slot.used, written)
    }
  }

  /** Turn by turn where they are more than one statement asks about. */
  #next(slots: readonly Slot[]): readonly Slot[] {
    if (slots.length <= TENANTS_MAX) return slots
    if (this.#at >= slots.length) this.#at = 0
    const asked = slots.slice(this.#at, this.#at + TENANTS_MAX)
    this.#at += TENANTS_MAX
    return asked
  }

  /** Our own clock begins a month, so that no tenant waits for a Registry that is down; the Registry's word comes after. */
  #turn(): void {
    const now = new Date(this.#now())
    if (monthOf(now) === this.#ownMonth) return
    this.#enter(now)
    for (const slot of this.#options.slots()) slot.used = 0
  }

  #enter(now: Date): void {
    this.#ownMonth = monthOf(now)
    const startMs = Date.UTC(now.getUTCFullYear(), now.getUTCMonth())
    this.#endMs = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1)
    this.#monthS = (this.#endMs - startMs) / 1000
    if (this.#month !== this.#ownMonth) this.#begin(this.#ownMonth)
  }

  #begin(month: string): void {
    this.#month = month
    this.#told.clear()
  }

  #tell({ id, tenant, limits }: Slot, isHard: boolean): void {
    if (this.#told.has(id) || this.#told.size >= TOLD_MAX) return
    this.#told.add(id)
    this.events[isHard ? 'hard' : 'soft']++
    const line = { tenantId: id, tenant: tenant.key, quota: limits.requestsPerMonth, isHard }
    this.#options.log.warn(line, 'monthly quota is used up')
  }
}

/** Such as 2026-01, by UTC. */
function monthOf(now: Date): string {
  return now.toISOString().slice(0, 7)
}
