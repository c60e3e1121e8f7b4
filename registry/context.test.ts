import { randomBytes } from 'node:crypto'
import {
  CompactEncrypt,
  calculateJwkThumbprint,
  compactDecrypt,
  decodeJwt,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
  type JWK,
  SignJWT,
} from 'jose'
import t from 'tap'
import type { TenantConnections } from './connection.ts'
import * as context from './context.ts'
import { HmacSha256 } from './lib/hmac.ts'
import type { Tenant } from './tenant.ts'
import { newTenant } from './test-kit.ts'

const NOW = 1_800_000_000_000
const tenant: Tenant = {
  ...newTenant(),
  ...{ configVersion: 7, appUrl: null, plan: null, limits: {}, tokensValidAfterMs: null },
  ...{
    tokenIssuer: null,
    schemaVersion: null,
    debugUntilMs: 0,
    createdAt: new Date(0),
    updatedAt: new Date(0),
  },
}
const connections: TenantConnections = {
  db: { host: 'h', port: 5432, name: 'd', user: 'u', password: 'MARKER', ssl: null, pool_max: 3 },
  bucket: null,
}

async function makeKeys() {
  const { privateKey, publicKey } = await generateKeyPair('EdDSA', { extractable: true })
  const [signing, open] = [await exportJWK(privateKey), await exportJWK(publicKey)]
  const kid = await calculateJwkThumbprint(open)
  return {
    privateKey,
    kid,
    signing,
    open: { ...open, kid } as JWK,
    content: randomBytes(32).toString('base64url'),
  }
}
const keys = await makeKeys()
const foreign = await makeKeys()
const minter = await context.makeContextMinter(keys.signing, [keys.content])
const verifier = await context.makeContextVerifier({ keys: [keys.open] }, [keys.content])

async function contentKid(content: string) {
  return calculateJwkThumbprint({ kty: 'oct', k: content })
}

interface Forge {
  claims?: Record<string, unknown>
  inner?: Record<string, unknown>
  outer?: Record<string, unknown>
  from?: typeof keys
}

/** A context by hand: well-formed unless `forge` says otherwise. */
async function forge({ claims = {}, inner = {}, outer = {}, from = keys }: Forge = {}) {
  const iat = NOW / 1000
  const payload: Record<string, unknown> = {
    ...{ iss: 'doorman', aud: 'app', iat, exp: iat + 60, tid: tenant.id, key: 'k', mode: 'shared' },
    ...{ ver: 1, mac: randomBytes(32).toString('base64url'), db: connections.db },
    ...claims,
  }
  const signed = await new SignJWT(JSON.parse(JSON.stringify(payload)))
    .setProtectedHeader({ alg: 'EdDSA', kid: from.kid, typ: 'tenant-context+jwt', ...inner })
    .sign(from.privateKey)
  return new CompactEncrypt(new TextEncoder().encode(signed))
    .setProtectedHeader({
      ...{ alg: 'dir', enc: 'A256GCM', cty: 'JWT', kid: await contentKid(keys.content) },
      ...outer,
    })
    .encrypt(Buffer.from(keys.content, 'base64url'))
}

const refused = { code: 'CONTEXT_INVALID' }

t.test('a minted context tells the app all, and shows nobody else the password', async t => {
  const minted = await minter.mint(tenant, connections, NOW)
  const claims = await verifier.verify(minted.token, NOW)
  t.match(claims, { tid: tenant.id, key: tenant.key, mode: 'shared', ver: 7, ...connections })
  t.equal(claims.mac.tag('x'), minted.mac.tag('x'))
  t.equal(minted.expiresAtMs, NOW + 60_000)
  for (const part of minted.token.split('.')) {
    t.notMatch(Buffer.from(part, 'base64url').toString('latin1'), 'MARKER')
  }
  const again = await minter.mint(tenant, connections, NOW)
  t.not(again.mac.tag('x'), minted.mac.tag('x'))
})

t.test('a context ends after 60 s and does not come from the future', async t => {
  const { token } = await minter.mint(tenant, connections, NOW)
  await t.resolves(verifier.verify(token, NOW + 59_000))
  await t.rejects(verifier.verify(token, NOW + 60_000), refused)
  await t.resolves(verifier.verify(token, NOW - 30_000))
  await t.rejects(verifier.verify(token, NOW - 31_000), refused)
  const iat = NOW / 1000
  await t.resolves(verifier.verify(await forge(), NOW))
  await t.rejects(verifier.verify(await forge({ claims: { exp: iat + 61 } }), NOW), refused)
  await t.rejects(verifier.verify(await forge({ claims: { exp: undefined } }), NOW), refused)
  await t.rejects(verifier.verify(await forge({ claims: { iat: undefined } }), NOW), refused)
})

t.test('forged, foreign and malformed contexts are all one opaque refusal', async t => {
  const cases: Record<string, Promise<string> | string> = {
    'signed by another key': forge({ from: foreign }),
    'another key under our kid': forge({ from: { ...foreign, kid: keys.kid } }),
    'another issuer': forge({ claims: { iss: 'other' } }),
    'another audience': forge({ claims: { aud: 'gateway' } }),
    'another type': forge({ inner: { typ: 'JWT' } }),
    'no inner kid': forge({ inner: { kid: undefined } }),
    'no outer kid': forge({ outer: { kid: undefined } }),
    'another cipher': forge({ outer: { enc: 'A128CBC-HS256' } }),
    'tid no UUID': forge({ claims: { tid: 'x' } }),
    'mode unknown': forge({ claims: { mode: 'odd' } }),
    'short mac': forge({ claims: { mac: 'AAAA' } }),
    'no database': forge({ claims: { db: undefined } }),
    'not a token': 'abc',
    empty: '',
    'too long': 'a'.repeat(4097),
  }
  for (const [name, made] of Object.entries(cases)) {
    const error = await Promise.resolve(made).then(
      token =>
        verifier.verify(token, NOW).then(
          () => null,
          e => e,
        ),
      e => (name === 'another cipher' ? { code: 'CONTEXT_INVALID', cannotEvenBeMade: e } : e),
    )
    t.match(error, refused, name)
  }
  const bare = await new SignJWT({ tid: tenant.id })
    .setProtectedHeader({ alg: 'EdDSA', kid: keys.kid, typ: 'tenant-context+jwt' })
    .sign(keys.privateKey)
  await t.rejects(verifier.verify(bare, NOW), refused, 'signed but not encrypted')
})

t.test('every part of a context is covered', async t => {
  const { token } = await minter.mint(tenant, connections, NOW)
  const parts = token.split('.')
  for (const i of [0, 2, 3, 4]) {
    const bytes = Buffer.from(parts[i] as string, 'base64url')
    for (const at of [0, bytes.length >> 1, bytes.length - 1]) {
      const copy = Buffer.from(bytes)
      copy[at] = (copy[at] ?? 0) ^ 1
      const tampered = parts.with(i, copy.toString('base64url')).join('.')
      await t.rejects(verifier.verify(tampered, NOW), refused, `part ${i}, byte ${at}`)
    }
  }
})

t.test('a context says what it is made by, and no two share a nonce', async t => {
  const made = await Promise.all([1, 2].map(() => minter.mint(tenant, connections, NOW)))
  const [first, second] = made.map(({ token }) => token.split('.'))
  t.equal(first?.length, 5)
  t.equal(first?.[1], '', 'dir has no encrypted key')
  t.not(first?.[2], second?.[2])
  t.equal(Buffer.from(first?.[2] ?? '', 'base64url').length, 12)
  const header = { alg: 'dir', enc: 'A256GCM', kid: await contentKid(keys.content), cty: 'JWT' }
  const { plaintext, protectedHeader } = await compactDecrypt(
    made[0]?.token ?? '',
    Buffer.from(keys.content, 'base64url'),
  )
  t.strictSame(protectedHeader, header)
  const inner = decodeProtectedHeader(new TextDecoder().decode(plaintext))
  t.strictSame(inner, { alg: 'EdDSA', kid: keys.kid, typ: 'tenant-context+jwt' })
  const claims = decodeJwt(new TextDecoder().decode(plaintext))
  t.match(claims, { iss: 'doorman', aud: 'app', iat: NOW / 1000, exp: NOW / 1000 + 60 })
})

t.test('a key that cannot sign is refused at the start', async t => {
  await t.rejects(context.makeContextMinter(keys.open, [keys.content]), /no private Ed25519 key/)
})

t.test('rotation: overlapping keys pass, a removed key is refused', async t => {
  const { token } = await minter.mint(tenant, connections, NOW)
  const next = await context.makeContextMinter(foreign.signing, [foreign.content, keys.content])
  const both = await context.makeContextVerifier({ keys: [keys.open, foreign.open] }, [
    keys.content,
    foreign.content,
  ])
  const fresh = (await next.mint(tenant, connections, NOW)).token
  await t.resolves(both.verify(token, NOW))
  await t.resolves(both.verify(fresh, NOW))
  await t.rejects(verifier.verify(fresh, NOW), refused)
  const moved = await context.makeContextVerifier({ keys: [foreign.open] }, [foreign.content])
  await t.rejects(moved.verify(token, NOW), refused)
  await t.rejects(context.makeContextMinter(keys.signing, []))
  await t.rejects(context.makeContextMinter(keys.signing, ['short']), /32 bytes/)
})

t.test('a context over 4 KiB is not sent', async t => {
  const db = { ...connections.db, password: 'x'.repeat(3000) }
  await t.rejects(minter.mint(tenant, { ...connections, db }, NOW), {
    code: 'TENANT_CONFIG_INVALID',
  })
})

t.test(
  'a request header is good for its method, target, user, id, time and tenant alone',
  async t => {
    const mac = new HmacSha256(randomBytes(32))
    const who = context.encodePrincipal({ sub: '7', email: 'a@b', role_id: 1, jti: 'j', exp: 9 })
    const header = context.signRequest(mac, 'GET', '/api/x?y=1', who, 'req-1', NOW)
    t.match(context.verifyRequest(header, mac, 'GET', '/api/x?y=1', NOW), {
      principal: { sub: '7', email: 'a@b', role_id: 1, jti: 'j', exp: 9 },
      requestId: 'req-1',
      issuedAtMs: NOW,
    })
    const verify = (
      text: string,
      over: { key?: HmacSha256; method?: string; target?: string; at?: number },
    ) =>
      context.verifyRequest(
        text,
        over.key ?? mac,
        over.method ?? 'GET',
        over.target ?? '/api/x?y=1',
        over.at ?? NOW,
      )
    t.throws(() => verify(header, { method: 'POST' }), refused)
    t.throws(() => verify(header, { target: '/api/x?y=2' }), refused)
    t.throws(() => verify(header, { target: '/api/x' }), refused)
    t.throws(() => verify(header, { key: new HmacSha256(randomBytes(32)) }), refused)
    for (const off of [30_001, -30_001]) t.throws(() => verify(header, { at: NOW + off }), refused)
    for (const off of [30_000, -30_000]) t.doesNotThrow(() => verify(header, { at: NOW + off }))

    const parts = header.split('.')
    const swaps: [number, string][] = [
      [0, 'v2'],
      [1, context.encodePrincipal({ sub: '8' })],
      [1, context.NO_PRINCIPAL],
      [2, 'req-2'],
      [3, String(NOW + 1)],
      [3, 'NaN'],
      [4, ''],
      [4, randomBytes(32).toString('base64url')],
    ]
    for (const [i, text] of swaps)
      t.throws(() => verify(parts.with(i, text).join('.'), {}), refused)
    for (const text of ['', 'v1', `${header}.x`, 'a'.repeat(5000)])
      t.throws(() => verify(text, {}), refused)
    const anonymous = context.signRequest(mac, 'GET', '/', context.NO_PRINCIPAL, 'r', NOW)
    t.strictSame(context.verifyRequest(anonymous, mac, 'GET', '/', NOW).principal, {})
  },
)

t.test('fields of a signed request cannot be shifted into one another', async t => {
  const mac = new HmacSha256(randomBytes(32))
  const header = context.signRequest(mac, 'GET', '/a', 'e30', 'r', NOW)
  t.throws(() => context.verifyRequest(header, mac, 'GET\n/a', '', NOW), refused)
  t.throws(() => context.verifyRequest(header, mac, 'GE', 'T\n/a', NOW), refused)
  const odd = context.signRequest(
    mac,
    'GET',
    '/a',
    Buffer.from('[1]').toString('base64url'),
    'r',
    NOW,
  )
  t.throws(() => context.verifyRequest(odd, mac, 'GET', '/a', NOW), refused)
})
