import { LRUCache } from 'lru-cache'
import type { AddressPolicy } from '../../registry/lib/address.ts'
import { Fault } from '../../registry/lib/errors.ts'
import type { Log } from '../../registry/lib/log.ts'
import {
  parseIssuer,
  type Tenant,
  type TenantId,
  type TenantIssuer,
} from '../../registry/tenant.ts'
import type { TenantSource } from '../tenant-source.ts'
import {
  type ClaimRules,
  checkSignature,
  type IssuedToken,
  readIssuedClaims,
  readIssuedToken,
} from './issued-token.ts'
import { type PublicKey, readJwks } from './jwks.ts'
import { fetchJwks, JWKS_BYTES_MAX, JWKS_DEADLINE_MS } from './jwks-fetch.ts'
import { KeySet, type KeySetTimes } from './key-set.ts'
import { invalid, type Verdict } from './token.ts'

export interface IssuersOptions {
  readonly tenants: TenantSource
  /** The platform's own issuer; null: its tokens are HS256 alone. */
  readonly platform: PlatformIssuer | null
  readonly times: KeySetTimes
  /** Production: no keys over plain HTTP. */
  readonly isHttpsRequired: boolean
  /** Where tenants' identity providers may be; null outside production: anywhere. */
  readonly addressPolicy: AddressPolicy | null
  readonly log: Log
  /** Of each read of a key set. */
  readonly onLoad?: (whose: 'platform' | 'tenant', isOk: boolean) => void
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number
}

export interface PlatformIssuer {
  /** JWT_ISSUER: no tenant's tokens may carry it. */
  readonly issuer: string
  /** null: the name is taken, and it signs no tokens. */
  readonly keys: {
    readonly audience: string
    /** The text of the JWKS. */
    readonly read: () => Promise<string>
  } | null
}

/** What a verdict stands on; with any of it gone it counts no more. */
export interface Proof {
  readonly keySet: KeySet
  readonly key: PublicKey
  /** The settings that the token was checked by, where its issuer is a tenant's own. */
  readonly tenantIssuer: TenantIssuer | null
}

/** Tenants' key sets in memory, a few KB each. */
const KEY_SETS_MAX = 1024
/** Reads of tenants' key sets at one time. */
const READS_MAX = 64
/**
 * Verifications under way, in all and for one issuer. Anybody can send tokens with a signature that does not fit:
 * at 30 to 90 µs each (ARCHITECTURE.md, decisions) this is a few milliseconds of the thread pool, and one
 * issuer's are half of it.
 */
const VERIFICATIONS_MAX = 256
const VERIFICATIONS_PER_ISSUER_MAX = 128

/** One issuer as tokens are checked by it. */
interface Source {
  readonly keySet: KeySet
  /** Where the keys of a tenant's issuer come from; another address is another source. */
  readonly jwksUrl: string | null
  verifying: number
}

/** Verifies tokens that an identity provider signed: the platform's own, or a tenant's. */
export class Issuers {
  readonly #options: IssuersOptions
  readonly #now: () => number
  readonly #platform: { readonly source: Source; readonly rules: ClaimRules } | null
  readonly #byTenant = new LRUCache<TenantId, Source>({
    max: KEY_SETS_MAX,
    dispose: ({ keySet }) => keySet.close(),
  })
  #verifying = 0
  #reads = 0

  constructor(options: IssuersOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
    const { platform } = options
    const keys = platform?.keys ?? null
    this.#platform =
      platform === null || keys === null
        ? null
        : {
            source: {
              keySet: this.#makeKeySet('platform', null, keys.read),
              jwksUrl: null,
              verifying: 0,
            },
            rules: { issuer: platform.issuer, audience: keys.audience, tenant: null },
          }
  }

  get verifying(): number {
    return this.#verifying
  }

  /** Reads the platform's keys ahead of the first token. */
  warm(): void {
    this.#platform?.source.keySet.warm()
  }

  /**
   * @throws Fault TOKEN_INVALID, TOKEN_EXPIRED, TOKEN_TENANT_MISSING; where nobody can say: ISSUER_UNAVAILABLE,
   * TENANT_ISSUER_UNAVAILABLE, TOKEN_CHECKS_BUSY, REGISTRY_UNAVAILABLE
   */
  async verify(text: string): Promise<{ verdict: Verdict; proof: Proof }> {
    const token = readIssuedToken(text)
    const { source, rules, tenantIssuer } = await this.#issuerOf(token)
    const key = await source.keySet.find(token.kid, token.algorithm)
    await this.#check(token, key, source)
    const verdict = readIssuedClaims(token.claims, rules, Date.now())
    return { verdict, proof: { keySet: source.keySet, key, tenantIssuer } }
  }

  async #issuerOf({ issuer }: IssuedToken): Promise<{
    source: Source
    rules: ClaimRules
    tenantIssuer: TenantIssuer | null
  }> {
    const { platform, tenants } = this.#options
    if (issuer === platform?.issuer) {
      // Never looked up among the tenants: none of them can claim it.
      if (this.#platform === null) throw invalid('the platform has no keys of this kind')
      return { ...this.#platform, tenantIssuer: null }
    }
    const name = parseIssuer(issuer)
    if (name === null) throw invalid('iss is no name of an issuer')
    const ref = { by: 'issuer', issuer: name } as const
    const tenant = tenants.peek(ref) ?? (await tenants.get(ref))
    const tenantIssuer = tenant?.tokenIssuer ?? null
    if (tenant === null || tenant.status === 'archived' || tenantIssuer?.issuer !== name) {
      throw invalid('unknown issuer')
    }
    const rules = { issuer: name, audience: tenantIssuer.audience, tenant: tenant.id }
    return { source: this.#sourceOf(tenant, tenantIssuer), rules, tenantIssuer }
  }

  #sourceOf({ id }: Tenant, { jwksUrl }: TenantIssuer): Source {
    const known = this.#byTenant.get(id)
    if (known?.jwksUrl === jwksUrl) return known
    const { isHttpsRequired, addressPolicy } = this.#options
    const fetchOptions = {
      ...{ deadlineMs: JWKS_DEADLINE_MS, bytesMax: JWKS_BYTES_MAX },
      ...{ isHttpsRequired, addressPolicy },
    }
    const read = () => this.#readOneOfMany(() => fetchJwks(jwksUrl, fetchOptions))
    // Setting it closes the one before.
    const source = { keySet: this.#makeKeySet('tenant', id, read), jwksUrl, verifying: 0 }
    this.#byTenant.set(id, source)
    return source
  }

  async #readOneOfMany(read: () => Promise<string>): Promise<string> {
    if (this.#reads >= READS_MAX) throw new Error('too many key sets are read at once')
    this.#reads++
    try {
      return await read()
    } finally {
      this.#reads--
    }
  }

  #makeKeySet(
    whose: 'platform' | 'tenant',
    tenantId: TenantId | null,
    read: () => Promise<string>,
  ): KeySet {
    const { log, onLoad, times } = this.#options
    const code = whose === 'platform' ? 'ISSUER_UNAVAILABLE' : 'TENANT_ISSUER_UNAVAILABLE'
    let lastFailure: string | null = null
    return new KeySet({
      load: async () => {
        const keys = await readJwks(await read())
        onLoad?.(whose, true)
        lastFailure = null
        return keys
      },
      unavailable: reason => new Fault(code, reason),
      onFailure: reason => {
        onLoad?.(whose, false)
        // Once, and not every ten seconds for as long as an identity provider is down.
        if (reason !== lastFailure) log.warn({ tenantId, reason }, 'token keys cannot be read')
        lastFailure = reason
      },
      times,
      now: this.#now,
    })
  }

  async #check(token: IssuedToken, key: PublicKey, source: Source): Promise<void> {
    const isFull =
      this.#verifying >= VERIFICATIONS_MAX || source.verifying >= VERIFICATIONS_PER_ISSUER_MAX
    if (isFull) throw new Fault('TOKEN_CHECKS_BUSY', 'too many verifications under way')
    this.#verifying++
    source.verifying++
    try {
      await checkSignature(token, key)
    } finally {
      this.#verifying--
      source.verifying--
    }
  }
}
