import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import {
  CompactEncrypt,
  CompactSign,
  calculateJwkThumbprint,
  compactDecrypt,
  decodeJwt,
  type JWK,
  SignJWT,
} from 'jose'
import t from 'tap'
import { until } from '../../gateway/test-kit.ts'
import { encodePrincipal, makeContextMinter, signRequest } from '../../registry/context.ts'
import { HmacSha256 } from '../../registry/lib/hmac.ts'
import type { Tenant, TenantId, TenantKey } from '../../registry/tenant.ts'
import { publicKeys } from '../local/keys.ts'
import { call } from './call.ts'
import type { Recorder } from './recorder.ts'
import { type Binary, startWorld, type WorldTenant } from './test-kit.ts'

/** One replica behind a thief on the wire, another that no gateway sends to, and two gateways. */
const world = await startWorld({ apps: 1, isRecorded: true })
t.teardown(world.close)
const { acme, globex, keys } = world
const recorder = world.recorder as Recorder
const app = world.apps[0] as Binary
const [otherApp, otherGateway] = await Promise.all([world.startApp(), world.startGateway()])
const atAcme = await world.login(acme)
const atGlobex = await world.login(globex)
const WHOAMI = '/api/whoami'
const REFUSED = { status: 401, code: 'CONTEXT_INVALID' }

interface Pair {
  readonly 'x-tenant-context': string
  readonly 'x-tenant-request': string
}

t.test(
  'contexts of two gateways are good side by side, and their request headers do not mix',
  async t => {
    const one = await steal(world.gateway, atAcme.accessToken)
    const two = await steal(otherGateway, atAcme.accessToken)
    t.not(one['x-tenant-context'], two['x-tenant-context'])
    t.not(macOf(await openContext(one)), macOf(await openContext(two)), 'each has a key of its own')
    for (const [context, request] of [
      [one, two],
      [two, one],
    ] as const) {
      const mixed = { ...context, 'x-tenant-request': request['x-tenant-request'] }
      t.match(await present(app, mixed), REFUSED)
    }
    for (const pair of [one, two]) {
      t.match(await present(app, pair), { status: 200, result: { database: acme.database } })
    }
  },
)

t.test('a context of one tenant is worth nothing with the request header of another', async t => {
  const acmes = await steal(world.gateway, atAcme.accessToken)
  const globexs = await steal(world.gateway, atGlobex.accessToken)
  for (const [context, request] of [
    [acmes, globexs],
    [globexs, acmes],
  ] as const) {
    const mixed = { ...context, 'x-tenant-request': request['x-tenant-request'] }
    const answer = await present(app, mixed)
    t.match(answer, REFUSED)
    t.notMatch(answer.text, 'tenant_')
  }
})

t.test(
  'each replica remembers for itself: a pair serves once on each, whatever its body',
  async t => {
    const name = randomUUID()
    const options = { method: 'POST', token: atAcme.accessToken, json: { name } }
    t.equal((await world.call('/api/projects', options)).status, 201)
    const pair = recorder.seen.at(-1)?.headers as unknown as Pair
    const replay = (replica: Binary, as: string) =>
      call(replica.origin, '/api/projects', {
        method: 'POST',
        headers: pairOf(pair),
        json: { name: as },
      })
    t.match(await replay(app, name), REFUSED)
    // The limit that SECURITY.md states: who reads the wire can do this for 30 s, once for each replica.
    t.equal((await replay(otherApp, `${name} again`)).status, 201)
    for (const replica of [app, otherApp]) t.match(await replay(replica, `${name} third`), REFUSED)
    const rows = 'SELECT name FROM projects WHERE name LIKE $1 ORDER BY name'
    const made = await world.sql(acme.database, rows, [`${name}%`])
    t.strictSame(made, [{ name }, { name: `${name} again` }])
  },
)

t.test('a replica cannot change a context that it was sent, nor make one', async t => {
  // All that an app replica holds: a context with its pair, the content key, the public keys.
  const pair = await steal(world.gateway, atAcme.accessToken)
  const signed = await openContext(pair)
  const claims = decodeJwt(signed)
  const [head = '', , signature = ''] = signed.split('.')
  const later = Number(claims.exp) + 3600
  const withClaims = (change: object) =>
    `${head}.${base64url(JSON.stringify({ ...claims, ...change }))}.${signature}`
  const { x = '' } = keys.contextSigning
  const { d: _private, ...publicJwk } = keys.contextSigning
  const own = generateKeyPairSync('ed25519').privateKey
  const header = { kid: String(publicJwk.kid), typ: 'tenant-context+jwt' }
  const body = new TextEncoder().encode(JSON.stringify({ ...claims, tid: globex.id }))
  const inner: Record<string, string> = {
    'a later end': withClaims({ exp: later }),
    'a later end and beginning': withClaims({ exp: later, iat: later - 60 }),
    'another tenant': withClaims({ tid: globex.id, key: globex.key }),
    'another database': withClaims({ db: { ...(claims.db as object), name: globex.database } }),
    'another mac': withClaims({ mac: randomBytes(32).toString('base64url') }),
    'a version of tomorrow': withClaims({ ver: Number(claims.ver) + 1 }),
    'no signature': `${base64url('{"alg":"none"}')}.${signed.split('.')[1]}.`,
    'the public key as an HMAC secret': await new CompactSign(body)
      .setProtectedHeader({ alg: 'HS256', ...header })
      .sign(Buffer.from(x, 'base64url')),
    'a key of its own under the right kid': await new CompactSign(body)
      .setProtectedHeader({ alg: 'EdDSA', ...header })
      .sign(own),
    'a key of its own, sent along': await new SignJWT({ ...claims, tid: globex.id })
      .setProtectedHeader({
        alg: 'EdDSA',
        typ: header.typ,
        jwk: own.export({ format: 'jwk' }) as JWK,
      })
      .sign(own),
  }
  const control = await present(otherApp, await forge(signed, macOf(signed)))
  t.equal(control.status, 200, 'what it was sent it may encrypt anew')
  for (const [name, jws] of Object.entries(inner)) {
    const answer = await present(otherApp, await forge(jws, macOf(jws)))
    t.match(answer, REFUSED, name)
    t.notMatch(answer.text, 'tenant_', name)
  }
  t.match(
    await present(otherApp, { ...pair, 'x-tenant-context': signed }),
    REFUSED,
    'not encrypted',
  )

  // Its mac opens no context of another tenant, and none of its own tenant that it was not sent.
  const mac = new HmacSha256(Buffer.from(macOf(signed), 'base64url'))
  for (const [gateway, token] of [
    [world.gateway, atGlobex.accessToken],
    [otherGateway, atAcme.accessToken],
  ] as const) {
    const foreign = await steal(gateway, token)
    const request = signRequest(mac, 'GET', WHOAMI, base64url('{}'), randomUUID(), Date.now())
    t.match(await present(otherApp, { ...foreign, 'x-tenant-request': request }), REFUSED)
  }
})

t.test(
  'what a replica can make of a context it was sent are requests of that tenant, until its end',
  async t => {
    // The limit that SECURITY.md states. The clock cannot be moved: this one has 4 s left.
    const minter = await makeContextMinter(keys.contextSigning as JWK, [keys.contextContent])
    const subject = {
      id: acme.id as TenantId,
      key: acme.key as TenantKey,
      mode: 'shared',
      configVersion: await versionOf(acme),
    } as Tenant
    const { database: name, password } = acme
    const place = { host: '127.0.0.1', port: world.postgres.port, ssl: null, pool_max: null }
    const connections = { db: { ...place, name, user: name, password }, bucket: null }
    const sent = await minter.mint(subject, connections, Date.now() - 56_000)
    const forged = () => {
      const who = encodePrincipal({ sub: atAcme.id })
      const request = signRequest(sent.mac, 'GET', WHOAMI, who, randomUUID(), Date.now())
      return present(otherApp, { 'x-tenant-context': sent.token, 'x-tenant-request': request })
    }
    t.match(await forged(), { status: 200, result: { database: acme.database } })
    await until(async () => (await forged()).status !== 200, 10_000)
    t.ok(Date.now() >= sent.expiresAtMs, 'it was good to its end')
    t.match(await forged(), REFUSED, 'and a replica that knew it refuses it after')
  },
)

t.test(
  'rotation: while keys overlap both gateways are served; what is removed is refused',
  async t => {
    const { privateKey } = generateKeyPairSync('ed25519')
    const signing = { ...privateKey.export({ format: 'jwk' }), kid: randomUUID() } as JWK
    const { d: _private, ...open } = signing
    const content = randomBytes(32).toString('base64url')
    const both = { keys: [...JSON.parse(publicKeys(keys)).keys, open] }
    const [overlap, after, gateway] = await Promise.all([
      world.startApp({
        TENANT_CONTEXT_PUBLIC_KEYS: JSON.stringify(both),
        TENANT_CONTEXT_ENCRYPTION_KEY: `${keys.contextContent},${content}`,
      }),
      world.startApp({
        TENANT_CONTEXT_PUBLIC_KEYS: JSON.stringify({ keys: [open] }),
        TENANT_CONTEXT_ENCRYPTION_KEY: content,
      }),
      world.startGateway({
        TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(signing),
        TENANT_CONTEXT_ENCRYPTION_KEY: `${content},${keys.contextContent}`,
      }),
    ])
    const fine = { status: 200, result: { database: acme.database } }
    const old = await steal(world.gateway, atAcme.accessToken)
    const fresh = await steal(gateway, atAcme.accessToken)
    t.match(await present(after, old), REFUSED, 'both keys removed')
    for (const pair of [old, fresh]) t.match(await present(overlap, pair), fine)
    t.match(await present(after, fresh), fine)
    t.match(await present(app, await steal(gateway, atAcme.accessToken)), REFUSED, 'not yet known')

    const signed = await openContext(await steal(world.gateway, atAcme.accessToken))
    const contentMoved = await forge(signed, macOf(signed), content)
    t.match(await present(after, contentMoved), REFUSED, 'the old signature in the new encryption')
    const next = await openContext(fresh, content)
    const keptContent = await forge(next, macOf(next), keys.contextContent)
    t.match(await present(after, keptContent), REFUSED, 'the new signature in the old encryption')
    t.match(await present(overlap, await forge(next, macOf(next), content)), fine)
  },
)

/** Sends a request through `gateway`, and takes its pair of headers before the app sees it. */
async function steal(gateway: Binary, token: string): Promise<Pair> {
  const before = recorder.seen.length
  recorder.isStealing = true
  const { status } = await call(gateway.origin, WHOAMI, { token })
  recorder.isStealing = false
  t.equal(status, 502)
  return pairOf(recorder.seen[before]?.headers as unknown as Pair)
}

function pairOf(headers: Pair): Pair & Record<string, string> {
  const { 'x-tenant-context': context, 'x-tenant-request': request } = headers
  return { 'x-tenant-context': context, 'x-tenant-request': request }
}

function present(replica: Binary, pair: Pair) {
  return call(replica.origin, WHOAMI, { headers: pairOf(pair) })
}

/** The signed token within, as every app replica can see it. */
async function openContext(pair: Pair, content = keys.contextContent): Promise<string> {
  const key = Buffer.from(content, 'base64url')
  const { plaintext } = await compactDecrypt(pair['x-tenant-context'], key)
  return new TextDecoder().decode(plaintext)
}

function macOf(signed: string): string {
  return String(decodeJwt(signed).mac)
}

/** A pair around `signed`, made with what a replica holds. */
async function forge(signed: string, mac: string, content = keys.contextContent): Promise<Pair> {
  const key = Buffer.from(content, 'base64url')
  const kid = await thumbprintOf(content)
  const context = await new CompactEncrypt(new TextEncoder().encode(signed))
    .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', kid, cty: 'JWT' })
    .encrypt(key)
  const hmac = new HmacSha256(Buffer.from(mac, 'base64url'))
  const who = encodePrincipal({ sub: atAcme.id })
  const request = signRequest(hmac, 'GET', WHOAMI, who, randomUUID(), Date.now())
  return { 'x-tenant-context': context, 'x-tenant-request': request }
}

function thumbprintOf(content: string): Promise<string> {
  return calculateJwkThumbprint({ kty: 'oct', k: content })
}

function base64url(text: string): string {
  return Buffer.from(text).toString('base64url')
}

async function versionOf({ id }: WorldTenant): Promise<number> {
  const [row] = await world.registrySql('SELECT config_version FROM tenants WHERE id = $1', [id])
  return Number(row?.config_version)
}
