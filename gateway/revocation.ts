import type { Log } from '../registry/lib/log.ts'
import { revokedTokens, revokeTokens } from '../registry/revocation-rows.ts'
import { RevokedTokens } from '../registry/revoked-tokens.ts'
import type { RegistryStore } from '../registry/store.ts'
import type { TenantId } from '../registry/tenant.ts'
import type { Revocation } from '../registry/token-id.ts'
import type { Exchange } from './exchange.ts'
import type { OpenSockets } from './open-sockets.ts'
import { RevocationWriter } from './revocation-writer.ts'

export interface RevocationsOptions {
  readonly store: Pick<RegistryStore, 'query'>
  readonly sockets: OpenSockets
  readonly log: Log
  /** REVOKED_TOKENS_MAX. */
  readonly entriesMax: number
}

const SWEEP_MS = 60_000
/** Sockets are looked through once for all revocations of that time, and not once for each. */
const CUT_DELAY_MS = 20
/** The last second of the year 9999: PostgreSQL and Date both know it, and a claim may say anything. */
const EXPIRES_AT_MAX_S = 253_402_300_799

/**
 * Revoked tokens on this gateway: what it learns from the Registry, whose sockets that cuts, and what it
 * revokes itself. While the Registry is down it goes on refusing what it knows.
 */
export class Revocations {
  readonly tokens: RevokedTokens
  readonly #store: RevocationsOptions['store']
  readonly #sockets: OpenSockets
  readonly #writer: RevocationWriter
  readonly #sweeper: NodeJS.Timeout
  #cutter: NodeJS.Timeout | null = null
  /** Tenants with sockets and with revocations that these have not been checked against. */
  readonly #unchecked = new Set<TenantId>()
  /** Other tokens than those named were refused too: all sockets are to be checked. */
  #isFolded = false

  constructor({ store, sockets, log, entriesMax }: RevocationsOptions) {
    this.tokens = new RevokedTokens({
      entriesMax,
      onFold: tenants => {
        this.#isFolded = true
        log.warn(
          { tenants },
          'too many revoked tokens: those with as little time left go with them',
        )
      },
    })
    this.#store = store
    this.#sockets = sockets
    this.#writer = new RevocationWriter({
      write: revocations => revokeTokens(store, revocations),
      log,
    })
    this.#sweeper = setInterval(() => this.tokens.sweep(Date.now()), SWEEP_MS)
    this.#sweeper.unref()
  }

  /** Revocations that no other gateway knows yet. */
  get unwritten(): number {
    return this.#writer.unwritten
  }

  /** Reads all of them. Before it has been once, no token may be served. @throws Fault REGISTRY_UNAVAILABLE */
  async load(): Promise<void> {
    for await (const page of revokedTokens(this.#store)) for (const one of page) this.learn(one)
  }

  learn(revocation: Revocation): void {
    if (!this.tokens.add(revocation, Date.now())) return
    if (this.#sockets.has(revocation.tenantId)) this.#unchecked.add(revocation.tenantId)
    if (this.#unchecked.size === 0 && !this.#isFolded) return
    this.#cutter ??= setTimeout(() => this.#cutSockets(), CUT_DELAY_MS)
  }

  /**
   * Refuses the token of an exchange: here at once, and everywhere when this resolves, unless the Registry
   * could not be written within a second; then as soon as it can be. Never rejects.
   */
  async revokeTokenOf({ tenant, tokenId, principal }: Exchange): Promise<void> {
    if (tenant === null || tokenId === null || principal === null) return
    const expiresAtS = Math.min(Math.ceil(principal.exp ?? EXPIRES_AT_MAX_S), EXPIRES_AT_MAX_S)
    const revocation = { tenantId: tenant.id, tokenId, expiresAtS }
    this.learn(revocation)
    await this.#writer.write(revocation)
  }

  /** For a request that has waited since it was identified. */
  isRevoked({ tenant, tokenId, tokenIssuedAtS, principal }: Exchange): boolean {
    if (tenant === null || tokenId === null) return false
    return this.tokens.has(tenant.id, tokenId, tokenIssuedAtS ?? 0, principal?.exp ?? 0)
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper)
    if (this.#cutter !== null) clearTimeout(this.#cutter)
    await this.#writer.close()
  }

  #cutSockets(): void {
    this.#cutter = null
    const tenants = this.#isFolded ? this.#sockets.tenants() : [...this.#unchecked]
    this.#isFolded = false
    this.#unchecked.clear()
    for (const tenant of tenants) {
      this.#sockets.cutTokens(
        tenant,
        ({ tokenId, issuedAtS, expiresAtS }) =>
          tokenId !== null && this.tokens.has(tenant, tokenId, issuedAtS, expiresAtS ?? 0),
      )
    }
  }
}
