import type {
  ShareGrants,
  ShareKind,
  ShareRow,
  ShareTurn,
  Wish,
} from '../../registry/admission-shares.ts'
import type { Log } from '../../registry/lib/log.ts'
import { HEARTBEAT_MS } from '../../registry/membership.ts'
import type { TenantId } from '../../registry/tenant.ts'
import { divide, type Part, RESERVE } from './share.ts'

/** How a tenant stands to one of its limits here. */
export interface Demand {
  readonly tenant: TenantId
  readonly kind: ShareKind
  /** What its clients ask this process for, in parts of the limit. */
  readonly demand: number
  /** What it holds and cannot give back at once (requests in flight, sockets), the same way. */
  readonly held: number
}

export interface SharesOptions {
  readonly exchange: (turn: ShareTurn) => Promise<ShareGrants | null>
  readonly instance: () => string
  /** All tenants that are near a limit here, the nearest first, and those of `keep`. */
  readonly demands: (isNear: (demand: Demand) => boolean) => Iterable<Demand>
  /** Parts have changed: of one tenant, or (null) of all. */
  readonly onChange: (tenant: TenantId | null) => void
  readonly log: Log
}

/** A limit of a tenant of which this process has another part than of all others. */
interface Own {
  readonly tenant: TenantId
  readonly kind: ShareKind
  share: number
  ahead: number
  demand: number
  held: number
  /** Demands of the other processes by their place; of those without a row 0. */
  others: readonly ShareRow[]
}

/** From one turn to the next where something waits for it. */
const SOON_MS = 250
/** Of a larger fleet turns are as many together as of so many processes: they go one after the other. */
const SOON_PROCESSES = 8
/** What is wanted moves all the time: a part is not given up for so little of it. */
const KEEP = 0.03
/** Turns in a row that are hurried because too little was granted; then the heartbeat is soon enough. */
const HURRIES_MAX = 12
/** A tenant that is asked of for more than this share of its part gets a part by demand. */
const NEAR = 0.8
/** Where nobody is asked for more than this share of an even part, the even parts do. */
const CALM = 0.5
/** Limits of tenants with parts by demand, in one turn. */
const WISHES_MAX = 256

/**
 * This process's parts of the fleet's limits: an even one of all, and another of the tenants whose load comes unevenly.
 * Parts are exchanged through the Registry with the heartbeat, and a little sooner where a tenant is refused: who needs
 * more asks first and uses it when it is granted; who needs less uses less first and then says so. So the
 * parts of all live processes are never more than the whole, whatever is lost or late on the way. With the Registry
 * down the parts stay as they are.
 */
export class Shares {
  readonly #options: SharesOptions
  readonly #own = new Map<string, Own>()
  #live = 1
  #at = 0
  #base: readonly number[] = [0]
  #even: Part = { share: 0, ahead: 0 }
  #timer: NodeJS.Timeout | null = null
  #soon: NodeJS.Timeout | null = null
  #turn: Promise<void> | null = null
  #lastMs = 0
  #hurries = 0
  #isFailing = false
  #isClosed = false
  /** Turns taken and failed since the start. */
  readonly turns = { done: 0, failed: 0 }

  constructor(options: SharesOptions) {
    this.#options = options
  }

  /** Live processes, this one included. */
  get live(): number {
    return this.#live
  }

  /** What is used of every limit, and of how many limits another part. */
  get figures(): { readonly even: number; readonly byDemand: number } {
    return { even: this.#even.share, byDemand: this.#own.size }
  }

  /** Before the first tenant is served. @throws Fault REGISTRY_UNAVAILABLE */
  async join(): Promise<void> {
    await this.takeTurn()
    this.#timer ??= setInterval(() => this.#takeTurnQuietly(), HEARTBEAT_MS).unref()
  }

  close(): void {
    this.#isClosed = true
    if (this.#timer !== null) clearInterval(this.#timer)
    if (this.#soon !== null) clearTimeout(this.#soon)
  }

  partOf(tenant: TenantId, kind: ShareKind): Part {
    const own = this.#own.size === 0 ? undefined : this.#own.get(keyOf(tenant, kind))
    const part = own ?? this.#even
    // Nobody is at nothing for ever, also where it has joined just now and the others have not made room yet.
    const least = RESERVE / this.#live
    return part.share >= least ? part : { share: least, ahead: part.ahead }
  }

  /** A tenant was refused here that may have something left elsewhere. Cheap, and to be called at each refusal. */
  hurry(tenant: TenantId, kind: ShareKind): void {
    if (this.#live === 1 || this.#soon !== null || this.#own.size >= WISHES_MAX) return
    if (this.#own.has(keyOf(tenant, kind))) return
    this.#takeTurnSoon()
  }

  /** Another process waits for parts that this one may not need. */
  onWanted(): void {
    this.#takeTurnSoon()
  }

  /** One exchange. The timer calls it; tests may. */
  async takeTurn(): Promise<void> {
    this.#lastMs = performance.now()
    const wishes = this.#wishes()
    const grants = await this.#options.exchange({
      instance: this.#options.instance(),
      present: this.#even.share,
      isUrgent: this.#hurries < HURRIES_MAX,
      wishes: wishes.map(({ wish }) => wish),
    })
    if (grants === null || this.#isClosed) return
    this.turns.done++
    const hasLowered = this.#takeEven(grants)
    this.#takeGrants(wishes, grants)
    const mustLower = this.#readRows(grants)
    this.#hurries = grants.isShort ? this.#hurries + 1 : 0
    const isWaiting = grants.isShort && this.#hurries < HURRIES_MAX
    // What was given up is told at once: somebody waits for it.
    if (hasLowered || mustLower || isWaiting) this.#takeTurnSoon()
  }

  #takeTurnQuietly(): void {
    if (this.#turn !== null || this.#isClosed) return
    this.#turn = this.takeTurn()
      .then(
        () => {
          this.#isFailing = false
        },
        error => {
          this.turns.failed++
          if (!this.#isFailing) this.#options.log.warn({ err: error }, 'shares not exchanged')
          this.#isFailing = true
        },
      )
      .finally(() => {
        this.#turn = null
      })
  }

  #takeTurnSoon(): void {
    if (this.#timer === null || this.#soon !== null || this.#isClosed) return
    const soonMs = SOON_MS * Math.max(1, this.#live / SOON_PROCESSES)
    const waitMs = Math.max(0, this.#lastMs + soonMs - performance.now())
    this.#soon = setTimeout(() => {
      this.#soon = null
      this.#takeTurnQuietly()
    }, waitMs).unref()
  }

  /** What to ask for. What is to be given up is given up before it is told. */
  #wishes(): { readonly own: Own; readonly wish: Wish }[] {
    this.#lookAround()
    const wishes: { own: Own; wish: Wish }[] = []
    for (const own of this.#own.values()) {
      if (wishes.length === WISHES_MAX) break
      const wanted = this.#wanted(own)
      const target = this.#target(own, wanted)
      if (own.share > target) this.#use(own, target)
      const wish = {
        ...{ t: own.tenant, k: own.kind, d: own.demand },
        ...{ u: Math.max(own.share, own.held), w: wanted === null ? null : target },
      }
      wishes.push({ own, wish })
    }
    return wishes
  }

  /** Demands as they are now; a tenant that comes near one of its limits gets a part of its own. */
  #lookAround(): void {
    for (const own of this.#own.values()) {
      own.demand = 0
      own.held = 0
    }
    const isNear = ({ tenant, kind, demand }: Demand) =>
      this.#own.has(keyOf(tenant, kind)) || (this.#live > 1 && demand > NEAR * this.#even.share)
    for (const { tenant, kind, demand, held } of this.#options.demands(isNear)) {
      const key = keyOf(tenant, kind)
      let own = this.#own.get(key)
      if (own === undefined) {
        if (this.#own.size >= WISHES_MAX) continue
        own = { tenant, kind, ...this.#even, demand, held, others: [] }
        this.#own.set(key, own)
      }
      own.demand = demand
      own.held = held
    }
  }

  /** null: the even part does, for everybody. */
  #wanted({ demand, others }: Own): number | null {
    const demands = this.#base.map((_, at) => (at === this.#at ? demand : 0))
    for (const row of others) if (row.at !== this.#at) demands[row.at] = row.demand
    if (demands.every(one => one <= CALM / this.#live)) return null
    return divide(demands)[this.#at] as number
  }

  /** @param wanted null: the even part */
  #target({ share }: Own, wanted: number | null): number {
    if (wanted === null) return this.#even.share
    return wanted < share && share - wanted < KEEP * share ? share : wanted
  }

  #takeEven({ grant, live, at, base }: ShareGrants): boolean {
    const ahead = sumBefore(base, at)
    const { share } = this.#even
    const isOther = grant !== share || ahead !== this.#even.ahead || live !== this.#live
    this.#live = live
    this.#at = at
    this.#base = base
    if (!isOther) return false
    this.#even = { share: grant, ahead }
    this.#options.onChange(null)
    return grant < share
  }

  #takeGrants(wishes: readonly { own: Own; wish: Wish }[], { grants }: ShareGrants): void {
    for (const [i, { own, wish }] of wishes.entries()) {
      const grant = grants[i]
      if (grant === null || grant === undefined) {
        this.#own.delete(keyOf(own.tenant, own.kind))
        this.#options.onChange(own.tenant)
      } else if (grant > own.share)
        this.#use(own, wish.w === null ? grant : Math.min(grant, wish.w))
    }
  }

  /** @returns whether something is to be given up for another process */
  #readRows({ rows, base, at }: ShareGrants): boolean {
    const byKey = new Map<string, ShareRow[]>()
    for (const row of rows) {
      const key = keyOf(row.tenant, row.kind)
      const known = byKey.get(key)
      if (known === undefined) byKey.set(key, [row])
      else known.push(row)
    }
    for (const [key, [row]] of byKey) {
      if (row === undefined || this.#own.has(key) || this.#own.size >= WISHES_MAX) continue
      const { tenant, kind } = row
      this.#own.set(key, { tenant, kind, ...this.#even, demand: 0, held: 0, others: [] })
    }
    let mustLower = false
    for (const [key, own] of this.#own) {
      own.others = byKey.get(key) ?? []
      const shares = [...base]
      for (const row of own.others) shares[row.at] = row.share
      const ahead = sumBefore(shares, at)
      if (ahead !== own.ahead) {
        own.ahead = ahead
        this.#options.onChange(own.tenant)
      }
      const target = this.#target(own, this.#wanted(own))
      if (target >= own.share) continue
      this.#use(own, target)
      mustLower = true
    }
    return mustLower
  }

  #use(own: Own, share: number): void {
    own.share = share
    this.#options.onChange(own.tenant)
  }
}

function keyOf(tenant: TenantId, kind: ShareKind): string {
  return `${tenant} ${kind}`
}

function sumBefore(parts: readonly number[], at: number): number {
  let sum = 0
  for (let i = 0; i < at; i++) sum += parts[i] as number
  return sum
}
