import { Fault } from '../../registry/lib/errors.ts'
import type { Log } from '../../registry/lib/log.ts'
import type { Tenant, TenantId } from '../../registry/tenant.ts'
import { RecentCache } from '../recent.ts'
import { type Breaker, closeBreaker, makeBreaker, noteTenantFault } from './breaker.ts'
import { chooseAmong, chooseForSocket, isOverloaded } from './choose.ts'
import { noteFailure, noteSuccess } from './outliers.ts'
import { hashText, rank } from './rendezvous.ts'
import { isHealthy, makeReplica, type Replica, weightInSlowStart } from './replica.ts'
import { moveSpread, type SpreadState } from './spread.ts'
import { connectionBudget, spreadOf } from './tenant-spread.ts'

export interface FleetOptions {
  /** The members of APP_UPSTREAMS as they are now. */
  readonly members: () => readonly Replica[]
  /** Replicas of a tenant (TENANT_SPREAD). */
  readonly spread: number
  /** A joining replica reaches its full weight after it (REPLICA_SLOW_START_MS). */
  readonly slowStartMs: number
  /** Requests of one tenant in flight per replica of its own. */
  readonly inFlightPerReplicaMax: number
  /** Homes kept: as many as tenants. */
  readonly homesMax: number
  readonly log: Log
}

/** The replicas of one tenant, and how it fares on them. */
export interface Home {
  /** Best first. */
  replicas: readonly Replica[]
  /** Of the fleet when they were ranked. */
  generation: number
  /** `config_version` of the tenant then. */
  version: number
  readonly spread: SpreadState
  breakers: Map<Replica, Breaker> | null
  /** Requests of the tenant in this process. */
  inFlight: number
}

export interface FleetFigures {
  ejections: number
  /** Requests that were served by another replica than the tenant's first. */
  spills: number
  breakersOpened: number
  /** Times that a tenant got one more replica, or gave one back. */
  respread: number
}

/** How one attempt ended, for health. */
export type Outcome = 'ok' | 'fault' | 'tenant-fault' | 'unreachable'

/** How long a replica that could not be reached is passed over, unless the active checks know better. */
const REST_MS = 2000
const TICK_MS = 250
/** Dedicated deployments (`app_url`) known at a time. */
const OWN_REPLICAS_MAX = 1024
export const SPREAD_LIMITS = { growAfterMs: 3_000, shrinkAfterMs: 60_000, extraMax: 14 }
/** A tenant is no trouble to a replica with fewer requests in flight, whatever the shares are. */
export const OVERLOAD_IN_FLIGHT_MIN = 16

/**
 * Who serves whom. A tenant's home is the first k replicas of its own ranking among the healthy ones
 * (`rendezvous.ts`); load decides within the home (`choose.ts`); health decides who is ranked
 * (`active-checks.ts`, `outliers.ts`). Where none is healthy all are ranked: a wrong judgement must
 * not turn a bad hour into an outage.
 */
export class Fleet {
  readonly #options: FleetOptions
  readonly #homes: RecentCache<Home>
  readonly #own = new RecentCache<Replica>(OWN_REPLICAS_MAX)
  #ranked: readonly Replica[] = []
  #weights = ''
  #generation = 0
  /** What `choose` compares with; kept up to date by `begin` and `end`. */
  readonly #load = { inFlight: 0, weight: 1 }
  #timer: NodeJS.Timeout | null = null
  /** Since the start, for the metrics. */
  readonly figures: FleetFigures = { ejections: 0, spills: 0, breakersOpened: 0, respread: 0 }

  constructor(options: FleetOptions) {
    this.#options = options
    this.#homes = new RecentCache(options.homesMax)
    this.refresh(Date.now())
  }

  start(): void {
    this.#timer = setInterval(() => this.refresh(Date.now()), TICK_MS)
    this.#timer.unref()
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  /** Replicas that tenants are ranked on. */
  get ranked(): readonly Replica[] {
    return this.#ranked
  }

  /** Ranks anew where membership, health or a weight has changed since. */
  refresh(nowMs: number): void {
    const members = this.#options.members()
    const healthy = members.filter(replica => isHealthy(replica, nowMs))
    const ranked = healthy.length > 0 ? healthy : members
    for (const replica of ranked) {
      replica.weight = weightInSlowStart(replica, this.#options.slowStartMs, nowMs)
    }
    const weights = ranked.map(({ origin, weight }) => `${origin} ${weight}`).join('\n')
    if (weights === this.#weights) return
    this.#weights = weights
    this.#ranked = ranked
    this.#generation++
    this.#load.weight = ranked.reduce((sum, { weight }) => sum + weight, 0)
  }

  /** The tenant's home as it is now. */
  homeOf(tenant: Tenant): Home {
    const known = this.#homes.get(tenant.id)
    if (
      known !== undefined &&
      known.generation === this.#generation &&
      known.version === tenant.configVersion
    ) {
      return known
    }
    return this.#rank(tenant, known)
  }

  /** The same where it was asked for of late, as it was then. */
  knownHome(tenant: TenantId): Home | null {
    return this.#homes.get(tenant) ?? null
  }

  /**
   * The replica for the next attempt.
   *
   * @param failed the one tried before
   * @throws Fault UPSTREAM_UNREACHABLE where no replica is known
   */
  choose(tenant: Tenant, home: Home, failed: Replica | null, nowMs: number): Replica {
    // A retry: what failed may have left the ranking by that, and a home of one would lead back to it.
    if (home.generation !== this.#generation) this.#rank(tenant, home)
    const { replicas } = home
    if (replicas[0]?.isOwn === true) return replicas[0]
    const extraMax = connectionBudget(tenant) === null ? SPREAD_LIMITS.extraMax : 0
    const isOver = isOverloaded(replicas, this.#load, OVERLOAD_IN_FLIGHT_MIN)
    if (isOver || home.spread.extra > 0 || home.spread.overSinceMs > 0) {
      if (moveSpread(home.spread, isOver, nowMs, { ...SPREAD_LIMITS, extraMax })) {
        this.figures.respread++
        this.#rank(tenant, home)
      }
    }
    const chosen = chooseAmong(home.replicas, this.#load, failed, isShut(home, nowMs))
    if (chosen === null) throw new Fault('UPSTREAM_UNREACHABLE', 'no replica is known')
    if (chosen !== home.replicas[0]) this.figures.spills++
    return chosen
  }

  chooseForSocket(home: Home, failed: Replica | null, nowMs: number): Replica {
    const chosen = chooseForSocket(home.replicas, failed, isShut(home, nowMs))
    if (chosen === null) throw new Fault('UPSTREAM_UNREACHABLE', 'no replica is known')
    return chosen
  }

  /**
   * Counts a request of the tenant until `leave`.
   *
   * @throws Fault TENANT_BUSY where the tenant holds its share of its replicas already
   */
  enter(home: Home): void {
    const max = this.#options.inFlightPerReplicaMax * Math.max(1, home.replicas.length)
    if (home.inFlight >= max) throw new Fault('TENANT_BUSY', `${max} requests in flight`)
    home.inFlight++
  }

  leave(home: Home): void {
    home.inFlight--
  }

  /** Requests of the tenant that are counted now. One whose home was forgotten meanwhile is not. */
  inFlightOf(tenant: TenantId): number {
    return this.#homes.get(tenant)?.inFlight ?? 0
  }

  begin(replica: Replica): void {
    replica.inFlight++
    if (!replica.isOwn) this.#load.inFlight++
  }

  end(replica: Replica): void {
    replica.inFlight--
    if (!replica.isOwn) this.#load.inFlight--
  }

  /** What an attempt says of the replica, and of this tenant on it. */
  note(home: Home, tenant: TenantId, replica: Replica, outcome: Outcome, nowMs: number): void {
    switch (outcome) {
      case 'ok':
        noteSuccess(replica)
        if (home.breakers !== null) closeFor(home.breakers, replica)
        return
      case 'tenant-fault':
        noteSuccess(replica)
        if (noteTenantFault(breakerOf(home, replica), nowMs)) this.figures.breakersOpened++
        return
      case 'unreachable':
        replica.restsUntilMs = nowMs + REST_MS
        return this.refresh(nowMs)
      case 'fault':
        // Nobody else could serve its tenant.
        if (replica.isOwn) return
        if (!noteFailure(replica, tenant, this.#options.members(), nowMs)) return
        this.figures.ejections++
        this.#options.log.warn({ upstream: replica.origin }, 'replica ejected: it keeps failing')
        this.refresh(nowMs)
    }
  }

  #rank(tenant: Tenant, known: Home | undefined): Home {
    const own = this.#ownReplica(tenant)
    const isSame = known !== undefined && known.version === tenant.configVersion
    const home: Home = known ?? {
      replicas: [],
      generation: 0,
      version: 0,
      spread: { extra: 0, overSinceMs: 0, lastOverMs: 0 },
      breakers: null,
      inFlight: 0,
    }
    // New connection details start with a clean record.
    if (!isSame) home.breakers = null
    const k = spreadOf(tenant, this.#options.spread) + home.spread.extra
    home.replicas = own === null ? rank(hashText(tenant.id), this.#ranked, k) : [own]
    if (home.breakers !== null) {
      for (const replica of home.breakers.keys()) {
        if (!home.replicas.includes(replica)) home.breakers.delete(replica)
      }
    }
    home.generation = this.#generation
    home.version = tenant.configVersion
    if (known === undefined) this.#homes.set(tenant.id, home)
    return home
  }

  /** A dedicated tenant's own deployment, or null. */
  #ownReplica(tenant: Tenant): Replica | null {
    if (tenant.mode !== 'dedicated' || tenant.appUrl === null) return null
    const url = URL.parse(tenant.appUrl)
    if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
      throw new Fault('TENANT_CONFIG_INVALID', `app_url of tenant ${tenant.id} is no http(s) URL`)
    }
    const known = this.#own.get(url.origin)
    if (known !== undefined) return known
    const replica = { ...makeReplica(url.origin), isOwn: true }
    this.#own.set(url.origin, replica)
    return replica
  }
}

function breakerOf(home: Home, replica: Replica): Breaker {
  home.breakers ??= new Map()
  const known = home.breakers.get(replica)
  if (known !== undefined) return known
  const breaker = makeBreaker()
  home.breakers.set(replica, breaker)
  return breaker
}

function closeFor(breakers: Map<Replica, Breaker>, replica: Replica): void {
  const breaker = breakers.get(replica)
  if (breaker !== undefined) closeBreaker(breaker)
}

const NEVER = () => false

function isShut({ breakers }: Home, nowMs: number): (replica: Replica) => boolean {
  if (breakers === null || breakers.size === 0) return NEVER
  return replica => (breakers.get(replica)?.openUntilMs ?? 0) > nowMs
}
