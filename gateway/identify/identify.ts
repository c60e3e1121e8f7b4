import { encodePrincipal, NO_PRINCIPAL } from '../../registry/context.ts'
import { Fault } from '../../registry/lib/errors.ts'
import type { HmacSha256 } from '../../registry/lib/hmac.ts'
import type { RevokedTokens } from '../../registry/revoked-tokens.ts'
import {
  isSameIssuer,
  parseTenantKey,
  type TenantKey,
  type TenantRef,
} from '../../registry/tenant.ts'
import { tokenIdOf } from '../../registry/token-id.ts'
import type { Exchange } from '../exchange.ts'
import { canonicalAccount } from '../login/subject.ts'
import { RecentCache } from '../recent.ts'
import type { TenantSource } from '../tenant-source.ts'
import { readBody, readFields } from './body.ts'
import { isIssuedToken } from './issued-token.ts'
import type { Issuers, Proof } from './issuers.ts'
import { Sightings } from './sightings.ts'
import { type Verdict, verifyToken } from './token.ts'

export interface IdentifyOptions {
  /** Current and previous secrets (JWT_SECRET_ACCESS_TOKEN, _PREVIOUS). */
  readonly accessSecrets: readonly HmacSha256[]
  readonly refreshSecrets: readonly HmacSha256[]
  readonly revoked: RevokedTokens
  /** For access tokens that an identity provider signed. */
  readonly issuers: Issuers
  readonly tenants: TenantSource
  /** Verdicts kept (JWT_CACHE_ENTRIES). */
  readonly verdictsMax: number
  readonly loginBodyBytesMax: number
  readonly loginBodyDeadlineMs: number
  /** Subdomains of it name a tenant; null: off. */
  readonly appDomain: string | null
}

interface KnownToken {
  readonly verdict: Verdict
  readonly principalText: string
  readonly tokenId: string
  /** `version` of the revoked tokens at which this one was not among them; -1: it never was looked for, or was found. */
  passedAtVersion: number
  readonly tenantRef: TenantRef
  /** null: one of our secrets, which stay for as long as the process. */
  readonly proof: Proof | null
}

/** Finds the tenant and the user of an exchange, by the credential that its route asks for. */
export interface Identifier {
  /**
   * True where it could be done at once: an access token by our secret, or one that is known. False:
   * `identify` has to wait, for the body or for an issuer's keys.
   */
  identifyNow(exchange: Exchange): boolean
  identify(exchange: Exchange): Promise<void>
  /** Whether the exchange is one with an access token that was found good before. Proves nothing: it may have ended since. */
  knows(exchange: Exchange): boolean
  /** Exchanges whose body is awaited: they cost a connection each, which have caps of their own. */
  readonly awaiting: number
  /** Verdicts that are kept. */
  readonly knownTokens: number
}

/** 512 KiB: tokens between a first and a second sighting. */
const SIGHTINGS = 1 << 17

/** Types of an access token: tokens of the API that Doorman replaces carry none (DESIGN 4.1). */
const ACCESS_TYPES = [null, 'access']
const REFRESH_TYPES = [null, 'refresh']
const TEMP_TYPES = ['2fa_pending']

export function makeIdentifier(options: IdentifyOptions): Identifier {
  // By the whole field value, so that a hit is one look-up and no parsing at all.
  const known = new RecentCache<KnownToken>(options.verdictsMax)
  const sightings = new Sightings(SIGHTINGS)
  let awaiting = 0
  const awaitedBytes = { bytes: 0 }

  /** False: an issuer's token that is not known, or whose tenant is not. */
  function identifyByAccessToken(exchange: Exchange): boolean {
    const { authorization } = exchange.head
    if (authorization === null) throw new Fault('TOKEN_MISSING', 'no Authorization field')
    const nowMs = Date.now()
    let token = known.get(authorization)
    if (token === undefined) {
      const bearer = bearerOf(authorization)
      if (isIssuedToken(bearer)) return false
      const verdict = verifyToken(bearer, options.accessSecrets, ACCESS_TYPES, nowMs)
      token = know(bearer, verdict, null)
      if (sightings.isSecond(bearer)) known.set(ownCopy(authorization), token)
    } else if (token.verdict.expiresAtS * 1000 <= nowMs) {
      // Within the clock tolerance a token is verified again each time, and never out of the cache.
      known.delete(authorization)
      return identifyByAccessToken(exchange)
    } else if (token.proof !== null && !stillStands(token, token.proof)) {
      return false
    }
    admit(exchange, token)
    return true
  }

  /** False also where the tenant's issuer of today is not at hand. */
  function stillStands({ tenantRef }: KnownToken, { keySet, key, tenantIssuer }: Proof): boolean {
    if (!keySet.vouches(key)) return false
    if (tenantIssuer === null) return true
    const tenant = options.tenants.peek(tenantRef)
    return tenant != null && isSameIssuer(tenant.tokenIssuer, tenantIssuer)
  }

  /** A token that `identifyByAccessToken` could not judge at once. */
  async function identifyByIssuedToken(exchange: Exchange): Promise<void> {
    const authorization = exchange.head.authorization as string
    const held = known.get(authorization)
    const proof = held?.proof ?? null
    if (held !== undefined && proof !== null) {
      // Read again, the tenant may turn out to be the same: then the verdict is as good as before.
      if (proof.keySet.vouches(proof.key) && proof.tenantIssuer !== null) {
        const tenant = await options.tenants.get(held.tenantRef)
        const today = tenant?.tokenIssuer ?? null
        if (isSameIssuer(today, proof.tenantIssuer)) return admit(exchange, held)
      }
      known.delete(authorization)
    }
    const bearer = bearerOf(authorization)
    const verified = await options.issuers.verify(bearer)
    const token = know(bearer, verified.verdict, verified.proof)
    if (sightings.isSecond(bearer)) known.set(ownCopy(authorization), token)
    admit(exchange, token)
  }

  function admit(exchange: Exchange, token: KnownToken): void {
    // On a hit this compare is all that revocation costs, until another token is revoked.
    if (token.passedAtVersion !== options.revoked.version) refuseRevoked(token, options.revoked)
    const { verdict, principalText, tokenId, tenantRef, proof } = token
    exchange.tenantRef = tenantRef
    exchange.principal = verdict.principal
    exchange.principalText = principalText
    exchange.tokenIssuedAtS = verdict.issuedAtS
    exchange.tokenId = tokenId
    exchange.tokenIssuer = proof === null ? null : proof.tenantIssuer
  }

  async function readCredentialBody(exchange: Exchange, names: readonly string[]) {
    const { loginBodyBytesMax, loginBodyDeadlineMs } = options
    awaiting++
    const reading = readBody(exchange.body, loginBodyBytesMax, loginBodyDeadlineMs, awaitedBytes)
    const body = await reading.finally(() => awaiting--)
    exchange.bufferedBody = body
    exchange.bytesIn = body.length
    const { contentType, contentEncoding } = exchange.head
    return readFields(body, contentType, contentEncoding, names)
  }

  async function identifyByBodyToken(
    exchange: Exchange,
    name: string,
    secrets: readonly HmacSha256[],
    types: readonly (string | null)[],
  ): Promise<void> {
    const token = (await readCredentialBody(exchange, [name])).get(name)
    if (token === undefined) throw new Fault('TOKEN_MISSING', `no ${name} in the body`)
    if (typeof token !== 'string') throw new Fault('TOKEN_INVALID', `${name} is not a string`)
    admit(exchange, know(token, verifyToken(token, secrets, types, Date.now()), null))
  }

  async function identifyByTenantKey(exchange: Exchange): Promise<void> {
    const accountFields = exchange.route?.account ?? []
    const fields = await readCredentialBody(exchange, ['tenant_key', ...accountFields])
    const named = accountFields.find(name => fields.has(name))
    exchange.account = canonicalAccount(named === undefined ? null : fields.get(named))
    exchange.tenantRef = { by: 'key', key: findTenantKey(exchange, fields, options.appDomain) }
    exchange.principalText = NO_PRINCIPAL
  }

  return {
    get awaiting() {
      return awaiting
    },
    get knownTokens() {
      return known.size
    },

    identifyNow(exchange) {
      return exchange.route?.credential === 'access_token' && identifyByAccessToken(exchange)
    },

    knows({ route, head: { authorization } }) {
      if (route?.credential !== 'access_token' || authorization === null) return false
      const token = known.get(authorization)
      return token !== undefined && token.passedAtVersion >= 0
    },

    async identify(exchange) {
      switch (exchange.route?.credential) {
        case 'login':
          return identifyByTenantKey(exchange)
        case 'refresh_token':
          return identifyByBodyToken(
            exchange,
            'refreshToken',
            options.refreshSecrets,
            REFRESH_TYPES,
          )
        case 'temp_token':
          return identifyByBodyToken(exchange, 'tempToken', options.accessSecrets, TEMP_TYPES)
        default:
          return identifyByIssuedToken(exchange)
      }
    },
  }
}

/** A field's value is a slice of its whole head, which it would keep in memory as long as the token. */
function ownCopy(value: string): string {
  return Buffer.from(value, 'latin1').toString('latin1')
}

/** What fits the app's limit of 4 KiB for the request header, with room for the other parts. */
const PRINCIPAL_CHARS_MAX = 3500

function know(token: string, verdict: Verdict, proof: Proof | null): KnownToken {
  const principalText = encodePrincipal(verdict.principal)
  if (principalText.length > PRINCIPAL_CHARS_MAX) {
    throw new Fault('TOKEN_INVALID', 'the claims are too long')
  }
  const tokenId = tokenIdOf(verdict.principal.jti, token)
  const tenantRef = { by: 'id', id: verdict.tenantId } as const
  return { verdict, principalText, tokenId, tenantRef, proof, passedAtVersion: -1 }
}

/** @throws Fault TOKEN_INVALID */
function refuseRevoked(token: KnownToken, revoked: RevokedTokens): void {
  const { tenantId, issuedAtS, expiresAtS } = token.verdict
  const { version } = revoked
  if (revoked.has(tenantId, token.tokenId, issuedAtS, expiresAtS)) {
    token.passedAtVersion = -1
    throw new Fault('TOKEN_INVALID', 'revoked')
  }
  token.passedAtVersion = version
}

function bearerOf(authorization: string): string {
  const bearer = /^bearer +([^\s]+)$/i.exec(authorization)?.[1]
  if (bearer === undefined) throw new Fault('TOKEN_MISSING', 'no bearer token')
  return bearer
}

/** Body, else header, else query, else subdomain (DESIGN 4.1). */
function findTenantKey(
  exchange: Exchange,
  fields: Map<string, unknown>,
  appDomain: string | null,
): TenantKey {
  const given =
    fields.get('tenant_key') ??
    exchange.head.tenantKey ??
    queryTenantKey(exchange.target) ??
    subdomain(exchange.head.host, appDomain)
  if (given === null || given === '') throw new Fault('TENANT_KEY_MISSING', 'nowhere given')
  const key = parseTenantKey(given)
  if (key === null) throw new Fault('TENANT_KEY_INVALID', 'not of the form of a key')
  return key
}

function queryTenantKey(target: string): string | null {
  const query = target.indexOf('?')
  if (query === -1) return null
  const given = new URLSearchParams(target.slice(query + 1)).getAll('tenant_key')
  if (given.length > 1) throw new Fault('BAD_REQUEST', 'duplicate tenant_key in the query')
  return given[0] ?? null
}

function subdomain(host: string | null, appDomain: string | null): string | null {
  if (host === null || appDomain === null) return null
  const name = host.toLowerCase().replace(/:\d+$/, '')
  const suffix = `.${appDomain.toLowerCase()}`
  if (!name.endsWith(suffix)) return null
  const label = name.slice(0, -suffix.length)
  return label.includes('.') ? null : label
}
