import { LRUCache } from 'lru-cache'
import { Fault } from './lib/errors.ts'
import type { Log } from './lib/log.ts'
import {
  type Issuer,
  parseTenantKey,
  type Tenant,
  type TenantId,
  type TenantKey,
  type TenantQuery,
} from './tenant.ts'
import type { TenantChange } from './tenant-changes.ts'

export interface TenantCacheOptions {
  /** Reads the Registry itself (its primary, so that a read after a notice sees the change). */
  readonly load: (ref: TenantQuery) => Promise<Tenant | null>
  readonly log: Log
  readonly entriesMax?: number
  /** How long a row counts as known while nobody watches the Registry. */
  readonly freshMs?: number
  /** The same while the watch is healthy: changes are announced, the time is a last net. */
  readonly watchedFreshMs?: number
  /** How long an id or key counts as unknown. */
  readonly negativeMs?: number
  /** How long after its last read an active tenant is still served while the Registry is down. */
  readonly staleMs?: number
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number
  readonly metrics?: TenantCacheMetrics
}

/** Called on the slow path only; a hit costs nothing. */
export interface TenantCacheMetrics {
  /** `ok`, `absent`, `error`: one look-up in the Registry. */
  onLoad?(outcome: 'ok' | 'absent' | 'error', ms: number): void
  /** An answer from a row that is no longer fresh. */
  onStale?(): void
  /** A look-up whose row was changed while it was read, and that is done again. */
  onOvertaken?(): void
}

/** See `look`. */
export interface CacheLook {
  readonly state: 'cached' | 'absent' | 'unknown'
  readonly tenant: Tenant | null
  /** Milliseconds since it was read. */
  readonly ageMs: number | null
  /** False: the next request reads it anew. */
  readonly isFresh: boolean
}

interface Entry {
  readonly tenant: Tenant
  readonly readAtMs: number
  /** Tick at which its read was complete: a read that began later knows better, whatever its version. */
  readonly readTick: number
  epoch: number
  /** After a failed refresh: until then the stale row is served without asking again. */
  retryAtMs: number
}

interface Notice {
  readonly version: number
  readonly isDeleted: boolean
  readonly tick: number
}

/** Unknown ids and keys, each; they come from attackers and must not push tenants out. */
export const ABSENT_MAX = 4096
/** Look-ups at one time; beyond it the Registry is as good as down. */
const FLIGHTS_MAX = 1024
/**
 * The same by issuer. Anybody can make up an `iss`, and no signature is checked before its keys are known: a
 * flood of them may hold a few of the Registry's connections for a moment each, and no more.
 */
const ISSUER_FLIGHTS_MAX = 16
/** Notices remembered for look-ups that are under way. */
const NOTICES_MAX = 1024
/** How often a look-up is repeated because its row changed meanwhile. */
const RELOADS_MAX = 5
/** Of no time: epochs only grow from 0. */
const SUSPECT_EPOCH = -1
/** Pause between attempts to refresh a stale row: one request waits for a dead Registry, not all. */
const STALE_RETRY_MS = 1000

/**
 * The tenants that this gateway knows, by id, by key and by issuer, one entry per tenant. A row that is not active
 * is known like any other; what to do with it is the caller's.
 *
 * A change notice wins over a look-up that was under way when it came: the row read is given out only if it is
 * at least as new as the notice. Nothing here waits for time to pass, except through `now`.
 */
export class TenantCache {
  readonly #load: TenantCacheOptions['load']
  readonly #log: Log
  readonly #now: () => number
  readonly #metrics: TenantCacheMetrics
  readonly #freshMs: number
  readonly #watchedFreshMs: number
  readonly #negativeMs: number
  readonly #staleMs: number

  readonly #entries: LRUCache<TenantId, Entry>
  /** Kept in step with `#entries` by its dispose, so bounded by it. */
  readonly #idByKey = new Map<TenantKey, TenantId>()
  /** The same for tenants with an identity provider of their own. */
  readonly #idByIssuer = new Map<Issuer, TenantId>()
  readonly #absentIds = new LRUCache<TenantId, number>({ max: ABSENT_MAX })
  readonly #absentKeys = new LRUCache<TenantKey, number>({ max: ABSENT_MAX })
  readonly #absentIssuers = new LRUCache<Issuer, number>({ max: ABSENT_MAX })
  readonly #flightsById = new Map<TenantId, Promise<Tenant | null>>()
  readonly #flightsByKey = new Map<TenantKey, Promise<Tenant | null>>()
  readonly #flightsByIssuer = new Map<Issuer, Promise<Tenant | null>>()
  readonly #noticesById = new LRUCache<TenantId, Notice>({ max: NOTICES_MAX })
  readonly #noticesByKey = new LRUCache<TenantKey, Notice>({ max: NOTICES_MAX })

  #currentFreshMs: number
  /** Moves with every read begun or ended and every notice: their order, where clocks are too coarse. */
  #tick = 0
  /** Tick of the latest notice: it does not say whose issuer it may have changed. */
  #noticedTick = 0
  /** Ticks of the latest notices dropped from memory; a look-up begun before it must be repeated. */
  #forgottenTick = 0
  /** Entries of an earlier epoch are suspect. */
  #epoch = 0

  constructor(options: TenantCacheOptions) {
    this.#load = options.load
    this.#log = options.log
    this.#now = options.now ?? (() => performance.now())
    this.#metrics = options.metrics ?? {}
    this.#freshMs = options.freshMs ?? 60_000
    this.#watchedFreshMs = Math.max(this.#freshMs, options.watchedFreshMs ?? 300_000)
    this.#negativeMs = options.negativeMs ?? 5_000
    this.#staleMs = options.staleMs ?? 300_000
    this.#currentFreshMs = this.#freshMs
    this.#entries = new LRUCache<TenantId, Entry>({
      max: options.entriesMax ?? 16_384,
      dispose: ({ tenant }, id) => {
        if (this.#idByKey.get(tenant.key) === id) this.#idByKey.delete(tenant.key)
        const issuer = tenant.tokenIssuer?.issuer
        if (issuer !== undefined && this.#idByIssuer.get(issuer) === id) {
          this.#idByIssuer.delete(issuer)
        }
      },
      noDisposeOnSet: false,
    })
  }

  get size(): number {
    return this.#entries.size
  }

  /** Ids, keys and issuers known to be absent, for the gauge. */
  get absentSize(): number {
    return this.#absentIds.size + this.#absentKeys.size + this.#absentIssuers.size
  }

  /** True while a healthy watch announces changes, so that rows stay fresh for longer. */
  set isWatched(isWatched: boolean) {
    this.#currentFreshMs = isWatched ? this.#watchedFreshMs : this.#freshMs
  }

  /** The hot path: a tenant, null where there is certainly none, undefined where `get` must look. */
  peek(ref: TenantQuery): Tenant | null | undefined {
    const id = this.#idOf(ref)
    const entry = id === undefined ? undefined : this.#entries.get(id)
    if (entry !== undefined) {
      const nowMs = this.#now()
      if (entry.epoch === this.#epoch && nowMs - entry.readAtMs < this.#currentFreshMs) {
        return entry.tenant
      }
      if (nowMs >= entry.retryAtMs || !this.#mayServeStale(entry, nowMs)) return undefined
      this.#metrics.onStale?.()
      return entry.tenant
    }
    const until = this.#absentUntil(ref)
    return until !== undefined && this.#now() < until ? null : undefined
  }

  /**
   * The tenant, from memory or from the Registry; callers that ask for the same one share one look-up.
   *
   * @throws Fault REGISTRY_UNAVAILABLE where the Registry is down and the tenant is not known from before,
   * TENANT_CONFIG_INVALID where its row is not fit to be served
   */
  get(ref: TenantQuery): Promise<Tenant | null> {
    const known = this.peek(ref)
    if (known !== undefined) return Promise.resolve(known)
    if (ref.by === 'id') return this.#share(this.#flightsById, FLIGHTS_MAX, ref.id, ref)
    return ref.by === 'key'
      ? this.#share(this.#flightsByKey, FLIGHTS_MAX, ref.key, ref)
      : this.#share(this.#flightsByIssuer, ISSUER_FLIGHTS_MAX, ref.issuer, ref)
  }

  /** A tenant was inserted, changed or deleted. Late and repeated notices do no harm. */
  invalidate(change: TenantChange): void {
    const { id, version } = change
    const key = parseTenantKey(change.key)
    const notice = { version, isDeleted: change.op === 'delete', tick: ++this.#tick }
    this.#remember(this.#noticesById, id, notice)
    if (key !== null) this.#remember(this.#noticesByKey, key, notice)
    this.#absentIds.delete(id)
    if (key !== null) this.#absentKeys.delete(key)
    this.#noticedTick = this.#tick
    if (this.#absentIssuers.size > 0) this.#absentIssuers.clear()
    const entry = this.#entries.peek(id)
    if (entry === undefined) return
    // Not even as a stale row: it is known to be wrong, and the change may be a suspension.
    if (entry.tenant.configVersion < version) this.#entries.delete(id)
  }

  /**
   * Changes may have been missed: nothing counts as fresh until it was read again. Known active tenants go
   * on being served if the Registry cannot be asked.
   */
  suspectAll(): void {
    this.#epoch += 1
    this.#tick += 1
    // Look-ups under way may have read before the gap.
    this.#forgottenTick = this.#tick
    this.#noticesById.clear()
    this.#noticesByKey.clear()
    this.#absentIds.clear()
    this.#absentKeys.clear()
    this.#absentIssuers.clear()
  }

  /**
   * What was read of this tenant may be wrong, as where its database refuses the password: it is read
   * anew at the next request, and served on from memory if the Registry cannot be asked.
   */
  suspect(id: TenantId): void {
    const entry = this.#entries.peek(id)
    if (entry !== undefined) entry.epoch = SUSPECT_EPOCH
  }

  /** Active tenants that are cached, the latest used first, out of the last `max`. */
  recentlyServed(max: number): Tenant[] {
    const served: Tenant[] = []
    let seen = 0
    for (const { tenant } of this.#entries.values()) {
      if (++seen > max) break
      if (tenant.status === 'active') served.push(tenant)
    }
    return served
  }

  /** What is known of a tenant, for an operator: asking changes nothing of it. */
  look(id: TenantId): CacheLook {
    const entry = this.#entries.peek(id)
    const nowMs = this.#now()
    if (entry === undefined) {
      const isAbsent = nowMs < (this.#absentIds.peek(id) ?? 0)
      return {
        state: isAbsent ? 'absent' : 'unknown',
        tenant: null,
        ageMs: null,
        isFresh: isAbsent,
      }
    }
    const ageMs = nowMs - entry.readAtMs
    const isFresh = entry.epoch === this.#epoch && ageMs < this.#currentFreshMs
    return { state: 'cached', tenant: entry.tenant, ageMs, isFresh }
  }

  #idOf(ref: TenantQuery): TenantId | undefined {
    if (ref.by === 'id') return ref.id
    return ref.by === 'key' ? this.#idByKey.get(ref.key) : this.#idByIssuer.get(ref.issuer)
  }

  #absentUntil(ref: TenantQuery): number | undefined {
    if (ref.by === 'id') return this.#absentIds.get(ref.id)
    return ref.by === 'key' ? this.#absentKeys.get(ref.key) : this.#absentIssuers.get(ref.issuer)
  }

  #share<K>(flights: Map<K, Promise<Tenant | null>>, max: number, name: K, ref: TenantQuery) {
    const shared = flights.get(name)
    if (shared !== undefined) return shared
    const flight = this.#fetchOrStale(ref, flights.size >= max).finally(() => {
      if (flights.get(name) === flight) flights.delete(name)
    })
    flights.set(name, flight)
    return flight
  }

  async #fetchOrStale(ref: TenantQuery, isFull: boolean): Promise<Tenant | null> {
    try {
      if (isFull) throw new Fault('REGISTRY_UNAVAILABLE', 'too many tenant look-ups at once')
      return await this.#fetch(ref)
    } catch (error) {
      const stale = isRegistryDown(error) ? this.#stale(ref) : null
      if (stale === null) throw error
      this.#metrics.onStale?.()
      this.#log.warn({ tenantId: stale.id }, 'Registry unavailable, serving a tenant from memory')
      return stale
    }
  }

  async #fetch(ref: TenantQuery): Promise<Tenant | null> {
    for (let reload = 0; reload <= RELOADS_MAX; reload++) {
      const startTick = ++this.#tick
      const { epoch, row, startedAtMs } = await this.#read(ref)
      if (this.#isOvertaken(ref, row, startTick)) {
        this.#metrics.onOvertaken?.()
        continue
      }
      return row === null
        ? this.#storeAbsent(ref, startTick)
        : this.#store(row, startTick, startedAtMs, epoch)
    }
    throw new Fault('REGISTRY_UNAVAILABLE', 'the tenant changes faster than it can be read')
  }

  async #read(ref: TenantQuery) {
    const startedAtMs = this.#now()
    const epoch = this.#epoch
    try {
      const row = await this.#load(ref)
      this.#metrics.onLoad?.(row === null ? 'absent' : 'ok', this.#now() - startedAtMs)
      return { epoch, row, startedAtMs }
    } catch (error) {
      this.#metrics.onLoad?.('error', this.#now() - startedAtMs)
      throw error
    }
  }

  /** True where a notice came during the read and the row does not show what it announced. */
  #isOvertaken(ref: TenantQuery, row: Tenant | null, startTick: number): boolean {
    if (this.#forgottenTick > startTick) return true
    if (row !== null) {
      const notice = this.#noticesById.get(row.id)
      return notice !== undefined && notice.tick > startTick && row.configVersion < notice.version
    }
    // No notice names an issuer: such an answer stands for this once, and is not kept.
    if (ref.by === 'issuer') return false
    const notice = ref.by === 'id' ? this.#noticesById.get(ref.id) : this.#noticesByKey.get(ref.key)
    return notice !== undefined && notice.tick > startTick && !notice.isDeleted
  }

  /** Keeps `row` unless a read that may be newer was kept meanwhile; gives out what is kept. */
  #store(row: Tenant, startTick: number, startedAtMs: number, epoch: number): Tenant {
    const present = this.#entries.peek(row.id)
    const isOlder =
      present !== undefined &&
      present.tenant.configVersion > row.configVersion &&
      present.readTick > startTick
    if (isOlder) return present.tenant
    this.#absentIds.delete(row.id)
    this.#absentKeys.delete(row.key)
    // Another tenant under this key lost it, or there would not be this row.
    const former = this.#idByKey.get(row.key)
    if (former !== undefined && former !== row.id) this.#entries.delete(former)
    const issuer = row.tokenIssuer?.issuer
    if (issuer !== undefined) this.#giveIssuer(issuer, row.id)
    const entry = {
      tenant: row,
      readAtMs: startedAtMs,
      readTick: ++this.#tick,
      epoch,
      retryAtMs: 0,
    }
    this.#entries.set(row.id, entry)
    this.#idByKey.set(row.key, row.id)
    if (issuer !== undefined) this.#idByIssuer.set(issuer, row.id)
    return row
  }

  /** The same for an issuer, which one tenant alone can have. */
  #giveIssuer(issuer: Issuer, id: TenantId): void {
    this.#absentIssuers.delete(issuer)
    const former = this.#idByIssuer.get(issuer)
    if (former !== undefined && former !== id) this.#entries.delete(former)
  }

  #storeAbsent(ref: TenantQuery, startTick: number): Tenant | null {
    const id = this.#idOf(ref)
    const present = id === undefined ? undefined : this.#entries.peek(id)
    if (id !== undefined && present !== undefined) {
      // Read by another look-up while this one was under way, which proves neither right.
      if (present.readTick > startTick) return present.tenant
      this.#entries.delete(id)
    }
    const untilMs = this.#now() + this.#negativeMs
    if (ref.by === 'id') this.#absentIds.set(ref.id, untilMs)
    else if (ref.by === 'key') this.#absentKeys.set(ref.key, untilMs)
    else if (this.#noticedTick < startTick) this.#absentIssuers.set(ref.issuer, untilMs)
    return null
  }

  #stale(ref: TenantQuery): Tenant | null {
    const id = this.#idOf(ref)
    const entry = id === undefined ? undefined : this.#entries.get(id)
    const nowMs = this.#now()
    if (entry === undefined || !this.#mayServeStale(entry, nowMs)) return null
    entry.retryAtMs = nowMs + STALE_RETRY_MS
    return entry.tenant
  }

  #mayServeStale(entry: Entry, nowMs: number): boolean {
    return entry.tenant.status === 'active' && nowMs - entry.readAtMs < this.#staleMs
  }

  #remember<K extends TenantId | TenantKey>(
    notices: LRUCache<K, Notice>,
    name: K,
    notice: Notice,
  ): void {
    const known = notices.peek(name)
    // An older notice that comes late must not lower the bar.
    if (known !== undefined && known.version > notice.version) return
    if (known === undefined && notices.size >= NOTICES_MAX) this.#forgottenTick = notice.tick
    notices.set(name, notice)
  }
}

function isRegistryDown(error: unknown): boolean {
  return error instanceof Fault && error.code === 'REGISTRY_UNAVAILABLE'
}
