import { openConnections } from '../registry/connection.ts'
import {
  CONTEXT_HEADER,
  type ContextMinter,
  type MintedContext,
  REQUEST_HEADER,
  signRequest,
} from '../registry/context.ts'
import type { Keyring } from '../registry/envelope.ts'
import type { Tenant } from '../registry/tenant.ts'
import type { Exchange } from './exchange.ts'
import { RecentCache } from './recent.ts'

/** A context is not used in its last 30 s, so that clocks may differ by as much. */
const RENEW_BEFORE_MS = 30_000
/**
 * Up to so much earlier, at random, a new one is minted beside the one in use: no request waits for
 * it, and the contexts of many tenants that came at once do not end at once.
 */
const RENEW_AHEAD_MS = 15_000

interface HeldContext {
  readonly version: number
  readonly minted: MintedContext
  /** `Date.now()` milliseconds. */
  readonly renewAtMs: number
}

/**
 * The minted context of each tenant: reused until shortly before it ends or until the tenant's version
 * moves. Decrypting and signing so happen once per tenant and half minute.
 */
export class ContextHolder {
  readonly #minter: ContextMinter
  readonly #keyring: Keyring
  readonly #poolMaxOf: (tenant: Tenant) => number | null
  readonly #held: RecentCache<HeldContext>
  readonly #minting = new Map<string, Promise<MintedContext>>()

  /** @param poolMaxOf `pool_max` of a tenant's context: its connections on one replica */
  constructor(
    minter: ContextMinter,
    keyring: Keyring,
    entriesMax: number,
    poolMaxOf: (tenant: Tenant) => number | null,
  ) {
    this.#poolMaxOf = poolMaxOf
    this.#minter = minter
    this.#keyring = keyring
    this.#held = new RecentCache(entriesMax)
  }

  /** Contexts that are held. */
  get size(): number {
    return this.#held.size
  }

  /** The context at hand, or undefined where `get` has to mint one. */
  peek(tenant: Tenant, nowMs: number): MintedContext | undefined {
    const held = this.#held.get(tenant.id)
    if (held === undefined || held.version !== tenant.configVersion) return undefined
    if (nowMs >= held.renewAtMs) {
      if (held.minted.expiresAtMs - nowMs <= RENEW_BEFORE_MS) return undefined
      // Should it fail, the request that can no longer do without says why.
      this.get(tenant, nowMs).catch(() => {})
    }
    return held.minted
  }

  /** @throws Fault TENANT_CONFIG_INVALID when a secret does not open or the context is over 4 KiB */
  get(tenant: Tenant, nowMs: number): Promise<MintedContext> {
    // Single flight per version: a mint of an older one must not serve a request of a newer one.
    const flight = `${tenant.id}:${tenant.configVersion}`
    const under = this.#minting.get(flight)
    if (under !== undefined) return under
    const minting = this.#mint(tenant, nowMs).finally(() => this.#minting.delete(flight))
    this.#minting.set(flight, minting)
    return minting
  }

  async #mint(tenant: Tenant, nowMs: number): Promise<MintedContext> {
    const { db, bucket } = openConnections(this.#keyring, tenant)
    const connections = { db: { ...db, pool_max: this.#poolMaxOf(tenant) }, bucket }
    const minted = await this.#minter.mint(tenant, connections, nowMs)
    const held = this.#held.get(tenant.id)
    // A version may go back where the Registry was restored: what has ended gives way all the same.
    const isNewer = held === undefined || held.version <= tenant.configVersion
    if (isNewer || held.minted.expiresAtMs <= nowMs) {
      const lastMs = minted.expiresAtMs - RENEW_BEFORE_MS
      const renewAtMs = lastMs - Math.random() * RENEW_AHEAD_MS
      this.#held.set(tenant.id, { version: tenant.configVersion, minted, renewAtMs })
    }
    return minted
  }
}

/**
 * Adds the two headers of the tenant context to `headers`.
 *
 * The signed request id is unique for each attempt, for the app refuses one that it saw before: ids
 * that a client chose may come twice, and a retry is a second attempt.
 */
export function addContextHeaders(
  headers: string[],
  exchange: Exchange,
  context: MintedContext,
  attemptId: string,
  nowMs: number,
): void {
  headers.push(
    CONTEXT_HEADER,
    context.token,
    REQUEST_HEADER,
    signRequest(
      context.mac,
      exchange.method,
      exchange.target,
      exchange.principalText,
      attemptId,
      nowMs,
    ),
  )
}
