import type { TenantId } from '../registry/tenant.ts'

/** Tenants counted at one time; one that comes beyond them is not shed by its share until others are forgotten. */
const FLOWS_MAX = 4096
/**
 * Strangers (logins, tokens seen for the first time, what fits no route) have this part of what is served for certain,
 * however many tenants there are: those who sign in are many people and one count.
 */
const STRANGERS_SHARE = 0.2
/** Some of them are always let through: by those it is seen when they are few again. */
const STRANGERS_PART_MAX = 0.95
/** A tenant with fewer requests in a window, on the average of the last ones, is forgotten. */
const RATE_MIN = 0.5
/** Of an interval that holds the level: what is left of it is a millionth. */
const HALVINGS = 20

interface Flow {
  /** Of the window that runs. */
  requests: number
  /** Requests in a window, each window counting half of the one after it. */
  rate: number
  weight: number
  /** Part of its requests that is shed. */
  part: number
}

/**
 * Whose requests are shed while the event loop is late: those of tenants that send most, by their weights. What is
 * served is divided as max-min fairness does (Bertsekas and Gallager 1992, section 6.5.2), by requests as they come, refused
 * ones included: who is shed and sends on regains nothing (as in Approximate Fair Dropping, Pan et al. 2003).
 *
 * It counts only while it is asked to. A tenant is charged with what its own credentials prove; all else is one count,
 * strangers, so that nobody can make another look big.
 */
export class FairShed {
  readonly #flows = new Map<TenantId, Flow>()
  readonly #weightOf: (tenant: TenantId) => number
  /** Of the window that runs: requests that were not shed as strangers, and those that turned out to be a tenant's. */
  #passed = 0
  #charged = 0
  #strangers = 0
  #strangersPart = 0

  constructor(weightOf: (tenant: TenantId) => number) {
    this.#weightOf = weightOf
  }

  /** Tenants that are counted. */
  get size(): number {
    return this.#flows.size
  }

  /** Part of the strangers' requests that is shed. */
  get strangersPart(): number {
    return this.#strangersPart
  }

  /** Part of the tenant's requests that is shed. */
  partOf(tenant: TenantId): number {
    return this.#flows.get(tenant)?.part ?? 0
  }

  /** A request whose tenant is not known yet goes on. */
  pass(): void {
    this.#passed++
  }

  /** One of those turned out to be the tenant's. */
  charge(tenant: TenantId): void {
    this.#charged++
    const flow = this.#flows.get(tenant)
    if (flow !== undefined) flow.requests++
    else if (this.#flows.size < FLOWS_MAX) {
      this.#flows.set(tenant, { requests: 1, rate: 0, weight: 1, part: 0 })
    }
  }

  /** Ends a window. @param share of all requests that is to be shed from now on */
  settle(share: number): void {
    // Of those that were shed as strangers nobody knows what they were: as many as of the others.
    const seen = Math.max(0, this.#passed - this.#charged) / (1 - this.#strangersPart)
    this.#strangers = average(this.#strangers, seen)
    this.#passed = 0
    this.#charged = 0
    let total = this.#strangers
    for (const [tenant, flow] of this.#flows) {
      flow.rate = average(flow.rate, flow.requests)
      flow.requests = 0
      if (flow.rate < RATE_MIN) this.#flows.delete(tenant)
      else {
        flow.weight = this.#weightOf(tenant)
        total += flow.rate
      }
    }
    const served = (1 - share) * total
    const strangersMin = STRANGERS_SHARE * served
    const level = share === 0 ? Number.POSITIVE_INFINITY : this.#levelOf(served, strangersMin)
    for (const flow of this.#flows.values()) flow.part = excess(flow.rate, level * flow.weight)
    const strangersPart = excess(this.#strangers, Math.max(level, strangersMin))
    this.#strangersPart = Math.min(STRANGERS_PART_MAX, strangersPart)
  }

  /** Forgets all, for counting ends. */
  clear(): void {
    this.#flows.clear()
    this.#passed = 0
    this.#charged = 0
    this.#strangers = 0
    this.#strangersPart = 0
  }

  /** Requests in a window that each weight may have, so that those who want more make it `served` in all. */
  #levelOf(served: number, strangersMin: number): number {
    let low = 0
    let high = this.#strangers
    for (const { rate, weight } of this.#flows.values()) high = Math.max(high, rate / weight)
    for (let i = 0; i < HALVINGS; i++) {
      const level = (low + high) / 2
      let sum = Math.min(this.#strangers, Math.max(level, strangersMin))
      for (const { rate, weight } of this.#flows.values()) sum += Math.min(rate, level * weight)
      if (sum < served) low = level
      else high = level
    }
    return high
  }
}

/** One that comes new counts in full at once: a flood is to be seen in its first window. */
function average(rate: number, now: number): number {
  return rate === 0 ? now : (rate + now) / 2
}

function excess(rate: number, allowed: number): number {
  return rate > allowed ? 1 - allowed / rate : 0
}
