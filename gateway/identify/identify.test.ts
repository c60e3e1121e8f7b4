import { createHmac } from 'node:crypto'
import t from 'tap'
import { Fault } from '../../registry/lib/errors.ts'
import { RevokedTokens } from '../../registry/revoked-tokens.ts'
import { parseIssuer, type Tenant, type TenantId } from '../../registry/tenant.ts'
import { newTenant, silent } from '../../registry/test-kit.ts'
import type { Exchange } from '../exchange.ts'
import { until } from '../test-kit.ts'
import { makeIdentifier } from './identify.ts'
import { Issuers } from './issuers.ts'
import { codeOf, hmacToken, makeSigner, signToken, startProvider } from './test-kit.ts'
import { secretKey } from './token.ts'

const SECRET = 'a secret of at least thirty-two bytes'
const signer = makeSigner('RS256', 'k1')
const PLATFORM = 'https://id.platform.example'
const nowS = Math.floor(Date.now() / 1000)

/** An identifier between a real key set and a tenant that the test changes. */
async function setUp() {
  const provider = await startProvider([signer.jwk])
  const at = new Date(0)
  const world = {
    provider,
    nowMs: 1_000_000,
    gets: 0,
    isRegistryDown: false,
    /** False: the cached row is no longer fresh. */
    isFresh: true,
    tenant: {
      ...newTenant(),
      ...{ configVersion: 1, appUrl: null, plan: null, limits: {}, tokensValidAfterMs: null },
      ...{ schemaVersion: null, debugUntilMs: 0, createdAt: at, updatedAt: at },
      tokenIssuer: {
        issuer: parseIssuer('https://id.acme.example') as never,
        jwksUrl: provider.jwksUrl,
        audience: 'acme',
      },
    } as Tenant,
  }
  const tenants = {
    peek: () => (world.isFresh ? world.tenant : undefined),
    get: async () => {
      world.gets++
      if (world.isRegistryDown) throw new Fault('REGISTRY_UNAVAILABLE', 'down')
      return world.tenant
    },
  }
  const read = async () => (await fetch(provider.jwksUrl)).text()
  const revoked = new RevokedTokens({ entriesMax: 100 })
  const identifier = makeIdentifier({
    accessSecrets: [secretKey(SECRET)],
    refreshSecrets: [secretKey(SECRET)],
    issuers: new Issuers({
      tenants,
      platform: { issuer: PLATFORM, keys: { audience: 'api', read } },
      times: { refreshMs: 300_000, staleMs: 3_600_000 },
      isHttpsRequired: false,
      addressPolicy: null,
      log: silent,
      now: () => world.nowMs,
    }),
    tenants,
    revoked,
    verdictsMax: 100,
    loginBodyBytesMax: 1000,
    loginBodyDeadlineMs: 1000,
    appDomain: null,
  })
  /** What a request with this token is taken for, and whether that was known at once. */
  const ask = async (token: string) => {
    const exchange = {
      route: { credential: 'access_token' },
      head: { authorization: `Bearer ${token}` },
      tokenIssuer: null,
    } as unknown as Exchange
    const atOnce = identifier.identifyNow(exchange)
    if (!atOnce) await identifier.identify(exchange)
    return { atOnce, exchange }
  }
  const own = { iss: 'https://id.acme.example', aud: 'acme', sub: 'u', iat: nowS, exp: nowS + 900 }
  /** Whether a request with it would be taken for one of nobody known. */
  const knows = (token: string, credential = 'access_token') =>
    identifier.knows({
      route: { credential },
      head: { authorization: `Bearer ${token}` },
    } as unknown as Exchange)
  return { world, ask, knows, revoked, own, provider }
}

const TENANT_ID = '0b8e7c1e-7d0c-4c43-9a3b-0f6f5a0e7a11' as TenantId
const platform = { iss: PLATFORM, aud: 'api', tenant_id: TENANT_ID, id: 'u1', exp: nowS + 900 }

t.test('a token by our secret is judged at once, one of an issuer once it is known', async t => {
  const { ask, provider, own, world } = await setUp()
  t.teardown(() => provider.close())
  const ours = hmacToken(SECRET, { ...platform, iss: undefined }, { alg: 'HS256' })
  t.match(await ask(ours), { atOnce: true, exchange: { tokenIssuer: null } })
  for (const [claims, tenant] of [
    [platform, TENANT_ID],
    [own, world.tenant.id],
  ] as const) {
    const token = signToken(signer, claims)
    const seen = []
    for (let i = 0; i < 4; i++) {
      const { atOnce, exchange } = await ask(token)
      seen.push(atOnce)
      t.match(exchange, { tenantRef: { by: 'id', id: tenant }, tokenIssuedAtS: Number })
    }
    t.strictSame(seen, [false, false, true, true])
  }
  t.equal(provider.requests, 2, 'one of each key set')
})

t.test('a revoked token is nobody known, however often it comes', async t => {
  const { ask, knows, provider, revoked } = await setUp()
  t.teardown(() => provider.close())
  const tokenOf = (jti: string) =>
    hmacToken(SECRET, { ...platform, iss: undefined, jti }, { alg: 'HS256' })
  const [good, bad] = [tokenOf('good'), tokenOf('bad')]
  for (let i = 0; i < 2; i++) {
    for (const token of [good, bad]) {
      t.notOk(knows(token), 'not before it was seen twice')
      await ask(token)
    }
  }
  t.ok(knows(good) && knows(bad))
  t.notOk(knows(good, 'login'), 'at login nobody is known')
  const { exchange } = await ask(bad)
  const tokenId = exchange.tokenId as string
  revoked.add({ tenantId: TENANT_ID, tokenId, expiresAtS: nowS + 900 }, Date.now())
  t.ok(knows(good), 'the revocation of another one changes nothing')
  for (let i = 0; i < 3; i++) {
    t.equal(await codeOf(() => ask(bad)), 'TOKEN_INVALID')
    t.notOk(knows(bad))
  }
  await ask(good)
  t.ok(knows(good))
  t.notOk(knows(hmacToken('another secret of thirty-two bytes', platform, { alg: 'HS256' })))
})

t.test('a cached verdict ends with its key', async t => {
  const { ask, provider, own, world } = await setUp()
  t.teardown(() => provider.close())
  const tokens = [platform, own].map(claims => signToken(signer, claims))
  for (const token of tokens) for (let i = 0; i < 2; i++) await ask(token)
  provider.keys = [makeSigner('RS256', 'k2').jwk]
  world.nowMs += 300_000
  for (const token of tokens) t.equal((await ask(token)).atOnce, true, 'until the keys are read')
  for (const token of tokens) {
    await until(async () => (await codeOf(() => ask(token))) === 'TOKEN_INVALID')
  }
})

t.test('a cached verdict ends when its keys could not be confirmed for too long', async t => {
  const { ask, provider, own, world } = await setUp()
  const token = signToken(signer, own)
  for (let i = 0; i < 2; i++) await ask(token)
  await provider.close()
  world.nowMs += 3_599_000
  t.equal((await ask(token)).atOnce, false)
  t.equal((await ask(token)).atOnce, true, 'stale keys count for a while')
  world.nowMs += 1000
  t.equal(await codeOf(() => ask(token)), 'TENANT_ISSUER_UNAVAILABLE')
})

t.test('a cached verdict ends with the tenant’s issuer settings', async t => {
  const { ask, provider, own, world } = await setUp()
  t.teardown(() => provider.close())
  const token = signToken(signer, own)
  for (let i = 0; i < 3; i++) await ask(token)
  const before = world.tenant
  const issuer = before.tokenIssuer as NonNullable<Tenant['tokenIssuer']>
  const changed = (tokenIssuer: object | null) => {
    world.tenant = { ...before, tokenIssuer } as Tenant
  }
  for (const tokenIssuer of [
    null,
    { ...issuer, audience: 'x' },
    { ...issuer, issuer: 'https://x' },
  ]) {
    changed(tokenIssuer)
    t.equal(await codeOf(() => ask(token)), 'TOKEN_INVALID', JSON.stringify(tokenIssuer))
  }
  changed({ ...issuer })
  for (let i = 0; i < 2; i++) t.equal((await ask(token)).atOnce, i === 1, 'it is verified anew')
  changed({ ...issuer, jwksUrl: `${provider.origin}/other` })
  t.equal(
    (await ask(token)).atOnce,
    false,
    'also for other keys, though they turn out to be the same',
  )
  t.equal(provider.requests, 2)
})

t.test('a tenant that must be read again keeps its verdicts, if it is the same', async t => {
  const { ask, provider, own, world } = await setUp()
  t.teardown(() => provider.close())
  const token = signToken(signer, own)
  for (let i = 0; i < 2; i++) await ask(token)
  world.isFresh = false
  world.gets = 0
  t.equal((await ask(token)).atOnce, false)
  t.equal(world.gets, 1, 'by its id, and the token is not verified again')
  world.isRegistryDown = true
  t.equal(await codeOf(() => ask(token)), 'REGISTRY_UNAVAILABLE')
})

t.test('garbage is refused, whichever way it takes', async t => {
  const { ask, provider } = await setUp()
  t.teardown(() => provider.close())
  const forged = createHmac('sha256', SECRET).update('a.b').digest('base64url')
  for (const token of [
    'x',
    '..',
    'a.b',
    `a.b.${forged}`,
    `a.b.${'A'.repeat(86)}`,
    'x'.repeat(9000),
  ]) {
    t.equal(await codeOf(() => ask(token)), 'TOKEN_INVALID', token.slice(0, 20))
  }
  const mixed = hmacToken(SECRET, platform, { alg: 'RS256', kid: 'k1' })
  t.equal(await codeOf(() => ask(mixed)), 'TOKEN_INVALID', 'a secret is no RSA key')
  t.equal(provider.requests, 0)
})
