import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import { CONTEXT_HEADER, REQUEST_HEADER } from '../registry/context.ts'
import type { Issuer, Tenant } from '../registry/tenant.ts'
import { writeIssuer, writeStatus } from '../registry/tenant-write.ts'
import { makeSigner, type Signer, signToken, startProvider } from './identify/test-kit.ts'
import { makeToken, startGateway, startUpstream, startWorld, until } from './test-kit.ts'

const PLATFORM = 'https://id.platform.example'
const nowS = Math.floor(Date.now() / 1000)

t.test('identity providers through the real gateway', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const platformKey = makeSigner('RS256', 'p1')
  const ownKey = makeSigner('ES256', 'o1')
  const platform = await startProvider([platformKey.jwk])
  const own = await startProvider([ownKey.jwk])
  const acme = await world.createTenant('acme')
  const globex = await world.createTenant('globex')
  const gateway = await startGateway({
    ...world.env,
    APP_UPSTREAMS: upstream.origin,
    JWT_JWKS_URL: platform.jwksUrl,
    JWT_ISSUER: PLATFORM,
    JWT_AUDIENCE: 'doorman',
  })
  t.teardown(async () => {
    await gateway.stop('SIGKILL')
    upstream.close()
    await Promise.all([platform.close(), own.close()])
    await world.close()
  })

  const platformToken = (tenant: Tenant, claims: object = {}, signer: Signer = platformKey) =>
    signToken(signer, {
      ...{ iss: PLATFORM, aud: 'doorman', tenant_id: tenant.id, id: 'u1', email: 'a@b.c' },
      ...{ iat: nowS, exp: nowS + 900, ...claims },
    })
  const issuerOf = (tenant: Tenant) => `https://id.${tenant.key}.example`
  const ownToken = (tenant: Tenant, claims: object = {}, signer: Signer = ownKey) =>
    signToken(signer, {
      ...{ iss: issuerOf(tenant), aud: 'api', sub: 'auth0|u-7', iat: nowS, exp: nowS + 900 },
      ...claims,
    })
  const giveIssuer = async (tenant: Tenant, change: object | null = {}) => {
    const { configVersion } = (await world.store.findById(tenant.id)) as Tenant
    const issuer = { issuer: issuerOf(tenant) as Issuer, jwksUrl: own.jwksUrl, audience: 'api' }
    const settings = change === null ? null : { ...issuer, ...change }
    await writeIssuer(world.store, tenant.id, settings, configVersion)
  }
  const get = (token: string, path = '/api/x') =>
    fetch(`${gateway.url}${path}`, { headers: { authorization: `Bearer ${token}` } })
  const codeOf = async (token: string) => {
    const response = await get(token)
    const { code } = (await response.json()) as { code?: string }
    return `${response.status} ${code ?? 'ok'}`
  }
  /** Whose context the app got for this token, and for which user. */
  const servedAs = async (token: string) => {
    upstream.requests.length = 0
    const response = await get(token)
    if (response.status !== 200) return `${response.status}`
    const headers = upstream.requests[0]?.headers ?? {}
    const context = await world.verifier.verify(headers[CONTEXT_HEADER] as string, Date.now())
    const [, principal = ''] = String(headers[REQUEST_HEADER]).split('.')
    const { sub } = JSON.parse(Buffer.from(principal, 'base64url').toString()) as { sub: string }
    return `${context.key} ${sub}`
  }
  const within1s = (token: string, wanted: string) =>
    until(async () => (await codeOf(token)) === wanted, 1000)

  t.test('the platform’s provider names any tenant, beside our own secret', async t => {
    for (let i = 0; i < 3; i++) {
      t.equal(await servedAs(platformToken(acme)), 'acme u1')
      t.equal(await servedAs(platformToken(globex)), 'globex u1')
      t.equal(await servedAs(world.token(acme)), 'acme u1')
    }
    t.equal(platform.requests, 1, 'its keys are read once')
    t.equal(await codeOf(platformToken(acme, { exp: nowS - 60 })), '401 TOKEN_EXPIRED')
    t.equal(await codeOf(platformToken(acme, { aud: 'other' })), '401 TOKEN_INVALID')
    t.equal(await codeOf(platformToken(acme, {}, makeSigner('RS256', 'p1'))), '401 TOKEN_INVALID')
    const spki = String(platformKey.publicKey.export({ type: 'spki', format: 'pem' }))
    const claims = { iss: PLATFORM, aud: 'doorman', tenant_id: acme.id, exp: nowS + 900 }
    for (const alg of ['HS256', 'RS256']) {
      t.equal(await codeOf(makeToken(spki, claims, { alg, kid: 'p1' })), '401 TOKEN_INVALID')
    }
  })

  t.test('a tenant’s own provider speaks for that tenant alone', async t => {
    t.equal(await codeOf(ownToken(acme)), '401 TOKEN_INVALID', 'before it is in the Registry')
    await giveIssuer(acme)
    const token = ownToken(acme)
    await within1s(token, '200 ok')
    for (let i = 0; i < 3; i++) t.equal(await servedAs(token), 'acme auth0|u-7')
    t.equal(await servedAs(ownToken(acme, { tenant_id: acme.id })), 'acme auth0|u-7')
    upstream.requests.length = 0
    t.equal(await codeOf(ownToken(acme, { tenant_id: globex.id })), '401 TOKEN_INVALID')
    t.equal(await codeOf(ownToken(globex)), '401 TOKEN_INVALID')
    t.equal(await codeOf(ownToken(acme, {}, platformKey)), '401 TOKEN_INVALID')
    t.equal(await codeOf(platformToken(acme, {}, ownKey)), '401 TOKEN_INVALID')
    t.equal(upstream.requests.length, 0)
    t.equal(await servedAs(platformToken(acme)), 'acme u1', 'the platform still speaks for it too')
  })

  t.test(
    'a change of a tenant’s issuer ends its cached tokens and sockets in under a second',
    async t => {
      const apps = new WebSocketServer({ noServer: true })
      upstream.server.on('upgrade', (req, socket, head) =>
        apps.handleUpgrade(req, socket, head, () => {}),
      )
      t.teardown(() => {
        for (const socket of apps.clients) socket.terminate()
      })
      const token = ownToken(acme)
      const open = async (bearer: string) => {
        const headers = { authorization: `Bearer ${bearer}` }
        const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/api/ws`, { headers })
        socket.on('error', () => {})
        await once(socket, 'open')
        return socket
      }
      for (const change of [{ audience: 'other' }, { issuer: 'https://new.example' }, null]) {
        await giveIssuer(acme)
        await within1s(token, '200 ok')
        for (let i = 0; i < 3; i++) t.equal(await codeOf(token), '200 ok')
        const [socket, ours] = [await open(token), await open(world.token(acme))]
        const closed = once(socket, 'close')
        const changedAt = performance.now()
        await giveIssuer(acme, change)
        await within1s(token, '401 TOKEN_INVALID')
        await closed
        t.ok(performance.now() - changedAt < 1000)
        t.equal(ours.readyState, WebSocket.OPEN, 'a socket by our own secret is not touched')
        ours.terminate()
      }
      await giveIssuer(acme, { jwksUrl: `${platform.origin}/keys` })
      await within1s(token, '401 TOKEN_INVALID')
      await giveIssuer(acme)
      await within1s(token, '200 ok')
    },
  )

  t.test('a suspended tenant and tokens_valid_after count for its own provider too', async t => {
    const token = ownToken(acme)
    t.equal(await codeOf(token), '200 ok')
    await writeStatus(world.store, acme.id, 'suspended', 'test')
    await within1s(token, '403 TENANT_SUSPENDED')
    await writeStatus(world.store, acme.id, 'active', null)
    await within1s(token, '200 ok')
    t.equal(await codeOf(ownToken(acme, { iat: undefined })), '200 ok')
  })

  t.test(
    'a provider that hangs is 503 with Retry-After for its tenant, and nobody else waits',
    async t => {
      const hung = await startProvider()
      hung.respond = () => {}
      t.teardown(() => hung.close())
      await giveIssuer(globex, { jwksUrl: hung.jwksUrl })
      const token = ownToken(globex)
      await until(() => {
        void get(token).catch(() => {})
        return hung.requests > 0
      })
      const startedAt = performance.now()
      const waiting = get(token)
      for (let i = 0; i < 10; i++) t.equal(await codeOf(ownToken(acme, { jti: `${i}` })), '200 ok')
      const othersMs = performance.now() - startedAt
      const response = await waiting
      t.equal(response.status, 503)
      t.ok(Number(response.headers.get('retry-after')) > 0)
      t.match(await response.json(), { code: 'TENANT_ISSUER_UNAVAILABLE', result: null })
      t.ok(othersMs < performance.now() - startedAt, `others took ${othersMs} ms`)
      t.equal(await codeOf(token), '503 TENANT_ISSUER_UNAVAILABLE', 'and at once from then on')
      t.equal(hung.requests, 1)
      await giveIssuer(globex, null)
    },
  )

  t.test('floods of made-up kids and issuers fetch nothing and leave the others alone', async t => {
    const before = [platform.requests, own.requests]
    const flood = await Promise.all(
      Array.from({ length: 300 }, (_, i) =>
        codeOf(
          i % 2 === 0
            ? ownToken(acme, {}, { ...ownKey, kid: `made-up-${i}` })
            : ownToken(acme, { iss: `https://made-up-${i}.example` }),
        ),
      ),
    )
    const codes = new Set(flood)
    codes.delete('401 TOKEN_INVALID')
    codes.delete('503 REGISTRY_UNAVAILABLE')
    t.strictSame([...codes], [])
    t.ok(own.requests - Number(before[1]) <= 1, 'one fetch at most')
    t.equal(platform.requests, before[0])
    t.equal(await codeOf(ownToken(acme)), '200 ok')
    t.equal(await codeOf(platformToken(globex)), '200 ok')
  })

  t.test('a logout ends an issuer’s token, with a jti and without one', async t => {
    for (const token of [
      ownToken(acme, { jti: 'j-1' }),
      ownToken(acme, { n: 1 }),
      platformToken(acme, { n: 1 }),
    ]) {
      for (let i = 0; i < 3; i++) t.equal(await codeOf(token), '200 ok')
      t.equal((await get(token, '/api/auth/logout')).status, 200)
      t.equal(await codeOf(token), '401 TOKEN_INVALID')
    }
  })

  t.test('refresh tokens and 2FA tokens are ours alone', async t => {
    const post = (path: string, body: object) =>
      fetch(`${gateway.url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
    const refreshToken = platformToken(acme, { type: 'refresh' })
    t.equal((await post('/api/auth/refresh-token', { refreshToken })).status, 401)
    const tempToken = platformToken(acme, { type: '2fa_pending' })
    t.equal((await post('/api/auth/verify-2fa', { tempToken })).status, 401)
    t.equal(await codeOf(refreshToken), '401 TOKEN_INVALID')
  })

  t.test('the figures tell how reading keys went', async t => {
    const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
    t.match(text, /^doorman_token_key_reads_total\{whose="platform",outcome="ok"\} 1$/m)
    t.match(text, /^doorman_token_key_reads_total\{whose="tenant",outcome="error"\} 1$/m)
    t.match(text, /^doorman_token_verifications 0$/m)
  })

  t.test(
    'keys from a file, and in production nothing in the clear or from the machine itself',
    async t => {
      const folder = await mkdtemp(join(tmpdir(), 'doorman-jwks-'))
      const file = join(folder, 'jwks.json')
      const key = makeSigner('EdDSA', 'f1')
      const inside = await startProvider([key.jwk])
      await writeFile(file, JSON.stringify({ keys: [key.jwk] }))
      const production = await startGateway({
        ...world.env,
        NODE_ENV: 'production',
        APP_UPSTREAMS: upstream.origin,
        JWT_JWKS_FILE: file,
        JWT_ISSUER: PLATFORM,
        JWT_AUDIENCE: 'doorman',
      })
      t.teardown(async () => {
        await production.stop('SIGKILL')
        await inside.close()
        await rm(folder, { recursive: true })
      })
      const statusOf = async (claims: object) => {
        const token = signToken(key, { aud: 'doorman', iat: nowS, exp: nowS + 900, ...claims })
        const headers = { authorization: `Bearer ${token}` }
        return (await fetch(`${production.url}/api/x`, { headers })).status
      }
      t.equal(await statusOf({ iss: PLATFORM, tenant_id: acme.id }), 200)
      for (const [scheme, reason] of [
        ['https', /refused address/],
        ['http', /https: is required/],
      ] as const) {
        const jwksUrl = inside.jwksUrl.replace('http', scheme)
        await giveIssuer(acme, { issuer: `${scheme}://own`, jwksUrl, audience: 'doorman' })
        await until(async () => (await statusOf({ iss: `${scheme}://own` })) === 503)
        await until(() => production.log.some(entry => reason.test(String(entry.reason))))
      }
      t.equal(inside.requests, 0)
    },
  )
})
