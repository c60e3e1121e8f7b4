import t from 'tap'
import { parseIssuer, type Tenant, type TenantId, type TenantQuery } from '../../registry/tenant.ts'
import { newTenant, silent } from '../../registry/test-kit.ts'
import { Issuers, type IssuersOptions } from './issuers.ts'
import {
  codeOf,
  hmacToken,
  makeSigner,
  type Provider,
  signToken,
  startProvider,
} from './test-kit.ts'

const rsa = makeSigner('RS256', 'rsa')
const ec = makeSigner('ES256', 'ec')
const ed = makeSigner('EdDSA', 'ed')
const PLATFORM = 'https://id.platform.example'
const AUDIENCE = 'https://api.example'
const TIMES = { refreshMs: 300_000, staleMs: 3_600_000 }

/** A tenant with a provider of its own, which only the fields of a cached row matter of. */
function tenantOf(issuer: string, jwksUrl: string, over: object = {}): Tenant {
  const at = new Date(0)
  return {
    ...newTenant(),
    ...{ configVersion: 1, appUrl: null, plan: null, limits: {}, tokensValidAfterMs: null },
    ...{ schemaVersion: null, debugUntilMs: 0, createdAt: at, updatedAt: at },
    tokenIssuer: { issuer: parseIssuer(issuer) as never, jwksUrl, audience: 'of-tenant' },
    ...over,
  }
}

function setUp(platform: Provider, tenants: Tenant[], over: Partial<IssuersOptions> = {}) {
  const lookups: TenantQuery[] = []
  const clock = { nowMs: 1_000_000 }
  const find = (ref: TenantQuery) =>
    tenants.find(({ id, tokenIssuer }) =>
      ref.by === 'id' ? id === ref.id : ref.by === 'issuer' && tokenIssuer?.issuer === ref.issuer,
    ) ?? null
  const issuers = new Issuers({
    tenants: {
      peek: () => undefined,
      get: async ref => {
        lookups.push(ref)
        return find(ref)
      },
    },
    platform: {
      issuer: PLATFORM,
      keys: { audience: AUDIENCE, read: async () => (await fetch(platform.jwksUrl)).text() },
    },
    times: TIMES,
    isHttpsRequired: false,
    addressPolicy: null,
    log: silent,
    now: () => clock.nowMs,
    ...over,
  })
  const code = (token: string) => codeOf(() => issuers.verify(token))
  return { issuers, lookups, clock, code }
}

const TENANT_ID = '0b8e7c1e-7d0c-4c43-9a3b-0f6f5a0e7a11' as TenantId
const nowS = Math.floor(Date.now() / 1000)
const platformClaims = {
  iss: PLATFORM,
  aud: AUDIENCE,
  sub: 'auth0|7',
  tenant_id: TENANT_ID,
  iat: nowS,
  exp: nowS + 900,
}

t.test('tokens of the platform’s issuer', async t => {
  const provider = await startProvider([rsa.jwk, ec.jwk, ed.jwk])
  t.teardown(() => provider.close())
  const { issuers, code, lookups } = setUp(provider, [])
  const token = (claims = {}, header = {}, signer = ec) =>
    signToken(signer, { ...platformClaims, ...claims }, header)

  t.test('RS256, ES256 and EdDSA, naming any tenant', async t => {
    for (const signer of [rsa, ec, ed]) {
      const { verdict, proof } = await issuers.verify(token({}, {}, signer))
      t.match(verdict, {
        tenantId: TENANT_ID,
        principal: { sub: 'auth0|7' },
        issuedAtS: nowS,
        expiresAtS: nowS + 900,
      })
      t.equal(proof.key.algorithm, signer.alg)
      t.ok(proof.keySet.vouches(proof.key))
      t.equal(proof.tenantIssuer, null)
    }
    t.equal(provider.requests, 1)
    t.equal((await issuers.verify(token({ id: 7 }))).verdict.principal.sub, '7', 'id before sub')
    t.equal(await code(token({ aud: ['other', AUDIENCE] })), 'nothing thrown')
    t.equal(await code(token({ tenant_id: undefined })), 'TOKEN_TENANT_MISSING')
    t.strictSame(lookups, [])
  })

  t.test('a key verifies by its own algorithm, whatever the header says', async t => {
    const spki = rsa.publicKey.export({ type: 'spki', format: 'pem' })
    const der = rsa.publicKey.export({ type: 'spki', format: 'der' })
    const n = Buffer.from(String(rsa.jwk.n), 'base64url')
    for (const secret of [spki, der, n, JSON.stringify(rsa.jwk)]) {
      for (const alg of ['HS256', 'RS256', 'none']) {
        const forged = hmacToken(secret, platformClaims, { alg, kid: 'rsa' })
        t.equal(await code(forged), 'TOKEN_INVALID', `${alg} with the public key as secret`)
      }
    }
    const unsigned = token({}, { alg: 'none' })
    t.equal(await code(unsigned), 'TOKEN_INVALID')
    t.equal(await code(unsigned.replace(/[^.]+$/, '')), 'TOKEN_INVALID')
    for (const signer of [rsa, ec, ed]) {
      for (const alg of ['RS256', 'ES256', 'EdDSA', 'PS256', 'RS512', 'rs256', 'Ed25519']) {
        if (alg === signer.alg) continue
        t.equal(await code(token({}, { alg }, signer)), 'TOKEN_INVALID', `${signer.alg} as ${alg}`)
      }
      for (const { kid } of [rsa, ec, ed]) {
        if (kid === signer.kid) continue
        t.equal(await code(token({}, { kid }, signer)), 'TOKEN_INVALID', `${signer.kid} as ${kid}`)
      }
    }
  })

  t.test('the token brings no key, no place of one, and no extension', async t => {
    const stranger = makeSigner('ES256', 'stranger')
    const headers = [
      { jwk: stranger.jwk },
      { jku: provider.jwksUrl },
      { x5u: provider.jwksUrl },
      { x5c: ['MIIB'] },
      { x5t: 'x' },
      { crit: ['exp'] },
      { crit: [] },
      { zip: 'DEF' },
      { b64: false },
      { b64: true },
    ]
    for (const header of headers) {
      t.equal(await code(token({}, header)), 'TOKEN_INVALID', JSON.stringify(header))
      t.equal(await code(token({}, { ...header, kid: 'stranger' }, stranger)), 'TOKEN_INVALID')
    }
    t.equal(await code(token({}, { kid: 'ec' }, stranger)), 'TOKEN_INVALID')
  })

  t.test('the kid must be exactly that of a key', async t => {
    for (const kid of [undefined, '', null, 1, ['ec'], 'EC', 'ec ', ' ec', 'ec\u0000', '__proto__'])
      t.equal(await code(token({}, { kid })), 'TOKEN_INVALID', String(kid))
    t.equal(provider.requests, 1, 'and none of them leads to a fetch so soon after another')
  })

  t.test('iss, aud and the times are checked', async t => {
    const cases: [object, string][] = [
      [{ iss: `${PLATFORM}/` }, 'TOKEN_INVALID'],
      [{ iss: undefined }, 'TOKEN_INVALID'],
      [{ iss: [PLATFORM] }, 'TOKEN_INVALID'],
      [{ iss: 'with blank' }, 'TOKEN_INVALID'],
      [{ iss: 'x'.repeat(300) }, 'TOKEN_INVALID'],
      [{ aud: undefined }, 'TOKEN_INVALID'],
      [{ aud: 'other' }, 'TOKEN_INVALID'],
      [{ aud: [] }, 'TOKEN_INVALID'],
      [{ aud: { 0: AUDIENCE } }, 'TOKEN_INVALID'],
      [{ aud: `${AUDIENCE}/` }, 'TOKEN_INVALID'],
      [{ exp: undefined }, 'TOKEN_INVALID'],
      [{ exp: '9999999999' }, 'TOKEN_INVALID'],
      [{ exp: nowS - 31 }, 'TOKEN_EXPIRED'],
      [{ nbf: nowS + 60 }, 'TOKEN_INVALID'],
      [{ iat: nowS + 60 }, 'TOKEN_INVALID'],
      [{ sub: 'x'.repeat(400) }, 'TOKEN_INVALID'],
    ]
    for (const [claims, expected] of cases) {
      t.equal(await code(token(claims)), expected, JSON.stringify(claims))
    }
    t.equal(await code(token({ pad: 'x'.repeat(9000) })), 'TOKEN_INVALID', 'over 8 KiB')
  })

  t.test('a refresh, ID or 2FA token is no access token', async t => {
    for (const claims of [
      { type: 'refresh' },
      { type: '2fa_pending' },
      { type: 0 },
      { typ: 'ID' },
      { typ: 'Refresh' },
      { token_use: 'id' },
    ]) {
      t.equal(await code(token(claims)), 'TOKEN_INVALID', JSON.stringify(claims))
    }
    for (const typ of ['logout+jwt', 'dpop+jwt', 'secevent+jwt', 'id_token', 1]) {
      t.equal(await code(token({}, { typ })), 'TOKEN_INVALID', String(typ))
    }
    for (const claims of [{ type: 'access' }, { typ: 'Bearer' }, { token_use: 'access' }]) {
      t.equal(await code(token(claims)), 'nothing thrown', JSON.stringify(claims))
    }
    for (const typ of ['JWT', 'at+jwt', 'application/at+jwt', undefined]) {
      t.equal(await code(token({}, { typ })), 'nothing thrown', String(typ))
    }
  })

  t.test('a changed character anywhere is refused', async t => {
    const text = token()
    for (let i = 0; i < text.length; i += 3) {
      const changed = text.slice(0, i) + (text[i] === 'A' ? 'B' : 'A') + text.slice(i + 1)
      t.equal(await code(changed), 'TOKEN_INVALID', String(i))
    }
    const last = text.at(-1) as string
    const twin = String.fromCharCode(last.charCodeAt(0) + 1)
    t.equal(await code(text.slice(0, -1) + twin), 'TOKEN_INVALID', 'nor another spelling of it')
  })

  t.test(
    'beyond the bound of verifications under way the answer is 503, and then it goes on',
    async t => {
      const [head, body] = token().split('.')
      const garbage = `${head}.${body}.${'A'.repeat(86)}`
      const codes = await Promise.all(Array.from({ length: 400 }, () => code(garbage)))
      const busy = codes.filter(found => found === 'TOKEN_CHECKS_BUSY').length
      t.equal(busy, 400 - 128)
      t.equal(codes.filter(found => found === 'TOKEN_INVALID').length, 128)
      t.equal(issuers.verifying, 0)
      t.equal(await code(token()), 'nothing thrown')
    },
  )
})

t.test('tokens of tenants’ own issuers', async t => {
  const platform = await startProvider([ec.jwk])
  const own = await startProvider([rsa.jwk])
  const other = await startProvider([ed.jwk])
  t.teardown(() => Promise.all([platform, own, other].map(provider => provider.close())))
  const acme = tenantOf('https://id.acme.example', own.jwksUrl)
  const globex = tenantOf('https://id.globex.example', other.jwksUrl)
  const initech = tenantOf('https://id.initech.example', own.jwksUrl, { status: 'archived' })
  const usurper = tenantOf(PLATFORM, other.jwksUrl)
  const { issuers, code, lookups } = setUp(platform, [acme, globex, initech, usurper])
  const claimsOf = (tenant: Tenant) => ({
    ...{ iss: tenant.tokenIssuer?.issuer, aud: 'of-tenant', sub: 'u', iat: nowS, exp: nowS + 900 },
  })

  t.test('need not name their tenant', async t => {
    const { verdict, proof } = await issuers.verify(signToken(rsa, claimsOf(acme)))
    t.equal(verdict.tenantId, acme.id)
    t.equal(proof.tenantIssuer, acme.tokenIssuer)
    t.equal((await issuers.verify(signToken(ed, claimsOf(globex)))).verdict.tenantId, globex.id)
  })

  t.test('are refused where they name another one', async t => {
    const naming = (tenant_id: unknown) => signToken(rsa, { ...claimsOf(acme), tenant_id })
    t.equal(await code(naming(acme.id)), 'nothing thrown')
    t.equal(await code(naming(acme.id.toUpperCase())), 'nothing thrown')
    for (const id of [globex.id, TENANT_ID, 'acme', '', 0, {}, [acme.id]]) {
      t.equal(await code(naming(id)), 'TOKEN_INVALID', JSON.stringify(id))
    }
  })

  t.test('last no longer than a revoked one would be kept', async t => {
    const until = (days: number) => ({ exp: nowS + days * 86_400 })
    t.equal(await code(signToken(rsa, { ...claimsOf(acme), ...until(30) })), 'nothing thrown')
    t.equal(await code(signToken(rsa, { ...claimsOf(acme), ...until(32) })), 'TOKEN_INVALID')
    const ours = signToken(ec, { ...platformClaims, ...until(365) })
    t.equal(await code(ours), 'nothing thrown', 'the platform’s own provider is the operator’s')
  })

  t.test('are verified by their own keys alone', async t => {
    t.equal(await code(signToken(ed, { ...claimsOf(acme) })), 'TOKEN_INVALID')
    t.equal(await code(signToken(rsa, { ...claimsOf(globex) })), 'TOKEN_INVALID')
    t.equal(await code(signToken(ec, { ...claimsOf(acme) })), 'TOKEN_INVALID', 'the platform’s key')
    const asPlatform = { ...platformClaims, tenant_id: acme.id }
    t.equal(await code(signToken(rsa, asPlatform)), 'TOKEN_INVALID')
    t.equal(await code(signToken(rsa, { ...claimsOf(acme), aud: AUDIENCE })), 'TOKEN_INVALID')
  })

  t.test('a tenant that claims the platform’s issuer gains nothing', async t => {
    // Just what its own provider would sign, were the name its own.
    const token = signToken(ed, claimsOf(usurper))
    const reserved = setUp(platform, [usurper], { platform: { issuer: PLATFORM, keys: null } })
    for (const set of [{ code, lookups }, reserved]) {
      set.lookups.length = 0
      t.equal(await set.code(token), 'TOKEN_INVALID')
      t.equal(await set.code(signToken(ed, platformClaims)), 'TOKEN_INVALID')
      t.strictSame(set.lookups, [], 'it is not even looked for')
    }
    const nobody = setUp(platform, [usurper], { platform: null })
    t.equal(await nobody.code(token), 'nothing thrown', 'where no platform has the name')
  })

  t.test('an unknown issuer and one of an archived tenant are refused without a fetch', async t => {
    const before = own.requests
    t.equal(await code(signToken(rsa, claimsOf(initech))), 'TOKEN_INVALID')
    t.equal(await code(signToken(rsa, { ...claimsOf(acme), iss: 'https://x' })), 'TOKEN_INVALID')
    t.equal(own.requests, before)
  })
})

t.test('a tenant’s provider that hangs: 503 for its users in time, nobody else waits', async t => {
  const platform = await startProvider([ec.jwk])
  const hung = await startProvider()
  hung.respond = () => {}
  t.teardown(() => Promise.all([platform, hung].map(provider => provider.close())))
  const acme = tenantOf('https://id.acme.example', hung.jwksUrl)
  const { code } = setUp(platform, [acme])
  const claims = { iss: 'https://id.acme.example', aud: 'of-tenant', sub: 'u', exp: nowS + 900 }
  const waiting = Promise.all(Array.from({ length: 20 }, () => code(signToken(rsa, claims))))
  let isWaiting = true
  void waiting.then(() => {
    isWaiting = false
  })
  for (let i = 0; i < 20; i++) t.equal(await code(signToken(ec, platformClaims)), 'nothing thrown')
  t.ok(isWaiting, 'the others were served meanwhile')
  t.strictSame([...new Set(await waiting)], ['TENANT_ISSUER_UNAVAILABLE'])
  t.equal(hung.requests, 1)
})

t.test('another JWKS URL is read at once, and what the first one proved is over', async t => {
  const [first, second] = await Promise.all([startProvider([rsa.jwk]), startProvider([ed.jwk])])
  t.teardown(() => Promise.all([first, second].map(provider => provider.close())))
  const tenants = [tenantOf('https://id.acme.example', first.jwksUrl)]
  const { issuers, code } = setUp(first, tenants)
  const claims = { iss: 'https://id.acme.example', aud: 'of-tenant', sub: 'u', exp: nowS + 900 }
  const { proof } = await issuers.verify(signToken(rsa, claims))
  t.ok(proof.keySet.vouches(proof.key))
  const [acme] = tenants as [Tenant]
  const tokenIssuer = { ...acme.tokenIssuer, jwksUrl: second.jwksUrl } as never
  tenants[0] = { ...acme, tokenIssuer }
  t.equal(await code(signToken(ed, claims)), 'nothing thrown')
  t.equal(await code(signToken(rsa, claims)), 'TOKEN_INVALID')
  t.notOk(proof.keySet.vouches(proof.key))
})

t.test('a provider of the machine itself is not asked where tenants may not be there', async t => {
  const provider = await startProvider([rsa.jwk])
  t.teardown(() => provider.close())
  const claims = { iss: 'https://id.acme.example', aud: 'of-tenant', sub: 'u', exp: nowS + 900 }
  const acme = tenantOf(claims.iss, provider.jwksUrl)
  const refuseAll = { mayConnect: () => false }
  for (const over of [{ addressPolicy: refuseAll }, { isHttpsRequired: true }]) {
    const { code } = setUp(provider, [acme], over)
    t.equal(await code(signToken(rsa, claims)), 'TENANT_ISSUER_UNAVAILABLE')
  }
  t.equal(provider.requests, 0)
})
