import type { TenantId } from './tenant.ts'
import type { Revocation } from './token-id.ts'

export interface RevokedTokensOptions {
  /** Tokens and tenants remembered, together (REVOKED_TOKENS_MAX). */
  readonly entriesMax: number
  /** Single tokens gave way to floors, since there were too many: of how many tenants, or of all. */
  readonly onFold?: (tenants: number | 'all') => void
}

/** Stands for tokens that are no longer remembered one by one: all that fit both lines are refused. */
interface Floor {
  readonly expiresAtS: number
  readonly issuedAtS: number
}

interface OfTenant {
  /** Token id → `exp` in seconds. */
  readonly tokens: Map<string, number>
  floor: Floor | null
}

/** How long after `exp` an entry is kept: longer than any clock tolerance of who verifies tokens. */
const GRACE_S = 60
/** A token is accepted though its `iat` is up to 30 s ahead; so far ahead one that is forgotten may be. */
const ISSUED_AHEAD_S = 30
/** A fold goes on until so much of the bound is in use, so that it is rare. */
const FOLDED_SHARE = 0.75

/**
 * The revoked tokens that this process knows. It only ever refuses more, until the tokens have expired by
 * themselves: what is told twice, late or in another order leads to the same refusals.
 *
 * Bounded, and at the bound on the safe side: of the tenants with the most entries, those that expire
 * first give way to a floor, "every token of this tenant that was issued until now and expires no later".
 * No revoked token comes back by that. Users whose token has as little time left are asked to renew
 * it earlier than they would have been; the new token lies above the floor. Others do not notice.
 */
export class RevokedTokens {
  readonly #entriesMax: number
  readonly #onFold: (tenants: number | 'all') => void
  readonly #tenants = new Map<TenantId, OfTenant>()
  #everyone: Floor | null = null
  #tokens = 0

  /** Moves when a token may have become revoked: who saw a token pass at this version need not ask. */
  version = 0

  constructor(options: RevokedTokensOptions) {
    this.#entriesMax = options.entriesMax
    this.#onFold = options.onFold ?? (() => {})
  }

  /** Tokens and tenants remembered. */
  get size(): number {
    return this.#tokens + this.#tenants.size
  }

  /**
   * @param issuedAtS claim `iat` or earlier (the sign-in that a rotated token descends from), 0 where there
   * is none: the earlier, the more is refused
   * @param expiresAtS claim `exp`
   */
  has(tenant: TenantId, tokenId: string, issuedAtS: number, expiresAtS: number): boolean {
    if (this.#everyone !== null && isBelow(this.#everyone, issuedAtS, expiresAtS)) return true
    const known = this.#tenants.get(tenant)
    if (known === undefined) return false
    if (known.tokens.has(tokenId)) return true
    return known.floor !== null && isBelow(known.floor, issuedAtS, expiresAtS)
  }

  /** @returns true where it is news: the token was not refused one by one already */
  add({ tenantId, tokenId, expiresAtS }: Revocation, nowMs: number): boolean {
    if (isOver(expiresAtS, nowMs)) return false
    let known = this.#tenants.get(tenantId)
    if (known === undefined) {
      known = { tokens: new Map(), floor: null }
      this.#tenants.set(tenantId, known)
    }
    const before = known.tokens.get(tokenId)
    if (before !== undefined) {
      if (before < expiresAtS) known.tokens.set(tokenId, expiresAtS)
      return false
    }
    known.tokens.set(tokenId, expiresAtS)
    this.#tokens += 1
    this.version += 1
    if (this.size > this.#entriesMax) this.#shrink(nowMs)
    return true
  }

  /** Forgets what expired. To be called about once a minute. */
  sweep(nowMs: number): void {
    for (const [tenant, known] of this.#tenants) {
      for (const [tokenId, expiresAtS] of known.tokens) {
        if (!isOver(expiresAtS, nowMs)) continue
        known.tokens.delete(tokenId)
        this.#tokens -= 1
      }
      if (known.floor !== null && isOver(known.floor.expiresAtS, nowMs)) known.floor = null
      if (known.tokens.size === 0 && known.floor === null) this.#tenants.delete(tenant)
    }
    if (this.#everyone !== null && isOver(this.#everyone.expiresAtS, nowMs)) this.#everyone = null
  }

  /** The largest first: a tenant that floods is not paid for by the others. */
  #shrink(nowMs: number): void {
    this.sweep(nowMs)
    if (this.size <= this.#entriesMax) return
    const target = this.#entriesMax * FOLDED_SHARE
    const bySize = [...this.#tenants.values()].sort((a, b) => b.tokens.size - a.tokens.size)
    const folded = new Set<OfTenant>()
    while (this.size > target && this.#tokens > 0) {
      for (const known of bySize) {
        if (this.size <= target) break
        if (known.tokens.size === 0) continue
        this.#fold(known, nowMs)
        folded.add(known)
      }
    }
    // More tenants than the bound has room for.
    if (this.size > target) this.#foldAll(nowMs)
    this.version += 1
    this.#onFold(this.#tenants.size === 0 ? 'all' : folded.size)
  }

  /** The half of its tokens that expires first, or more where many expire in the same second. */
  #fold(known: OfTenant, nowMs: number): void {
    const ends = Float64Array.from(known.tokens.values()).sort()
    const median = ends[(ends.length - 1) >> 1] as number
    for (const [tokenId, expiresAtS] of known.tokens) {
      if (expiresAtS > median) continue
      known.tokens.delete(tokenId)
      this.#tokens -= 1
    }
    known.floor = raised(known.floor, median, nowMs)
  }

  #foldAll(nowMs: number): void {
    let last = 0
    for (const { floor } of this.#tenants.values()) last = Math.max(last, floor?.expiresAtS ?? 0)
    this.#everyone = raised(this.#everyone, last, nowMs)
    this.#tenants.clear()
  }
}

function raised(floor: Floor | null, expiresAtS: number, nowMs: number): Floor {
  return {
    expiresAtS: Math.max(floor?.expiresAtS ?? 0, expiresAtS),
    issuedAtS: nowMs / 1000 + ISSUED_AHEAD_S,
  }
}

function isBelow(floor: Floor, issuedAtS: number, expiresAtS: number): boolean {
  return expiresAtS <= floor.expiresAtS && issuedAtS <= floor.issuedAtS
}

function isOver(expiresAtS: number, nowMs: number): boolean {
  return (expiresAtS + GRACE_S) * 1000 <= nowMs
}
