import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import type { JWK } from 'jose'
import t from 'tap'
import { WebSocket } from 'ws'
import { claimsOf, makeToken, rawExchange, until } from '../../gateway/test-kit.ts'
import type { TenantConnections } from '../../registry/connection.ts'
import { encodePrincipal, makeContextMinter, signRequest } from '../../registry/context.ts'
import type { Tenant, TenantId, TenantKey } from '../../registry/tenant.ts'
import { DEMO_PASSWORD } from '../local/demo-tenants.ts'
import { type Answer, type CallOptions, call } from './call.ts'
import type { Captured } from './recorder.ts'
import { type Binary, startWorld, type WorldTenant } from './test-kit.ts'

/** acme and globex, and two more whose rows are damaged here. One app replica: it sees all requests. */
const world = await startWorld({ tenants: 4, apps: 1, isRecorded: true })
t.teardown(world.close)
const { acme, globex } = world
const app = world.apps[0] as Binary
const SECRET = 'only-globex-knows-this'

const atAcme = await world.login(acme)
const atGlobex = await world.login(globex)
const globexProject = await world.call('/api/projects', {
  method: 'POST',
  token: atGlobex.accessToken,
  json: { name: SECRET },
})
const globexProjectId = String(globexProject.result.id)
await world.call('/api/files/globex-secret.txt', {
  method: 'PUT',
  token: atGlobex.accessToken,
  body: SECRET,
})

t.test('a token of acme with ids of globex finds nothing and changes nothing', async t => {
  const token = atAcme.accessToken
  const project = `/api/projects/${globexProjectId}`
  for (const options of [
    {},
    { method: 'PATCH', json: { name: 'stolen' } },
    { method: 'PUT', json: { name: 'stolen' } },
    { method: 'DELETE' },
  ]) {
    const answer = await world.call(project, { ...options, token })
    t.match(answer, { status: 404, code: 'NOT_FOUND' }, options.method ?? 'GET')
    t.notMatch(answer.text, SECRET)
  }
  const list = await world.call('/api/projects', { token })
  t.match(list.result, { total: 0, items: [] })
  const mine = await world.call(project, { token: atGlobex.accessToken })
  t.match(mine, { status: 200, result: { name: SECRET } }, 'and globex has it as it was')
})

t.test('a token of acme never reaches a file of globex, however it is named', async t => {
  const token = atAcme.accessToken
  const plain = await world.call('/api/files/globex-secret.txt', { token })
  t.match(plain, { status: 404, code: 'NOT_FOUND' })
  for (const name of [
    'globex%2Fglobex-secret.txt',
    '..%2Fshared%2Fglobex%2Fglobex-secret.txt',
    '%2e%2e%2fglobex%2fglobex-secret.txt',
    'x/../../globex/globex-secret.txt',
    '..%5cglobex%5cglobex-secret.txt',
    'globex%252Fglobex-secret.txt',
  ]) {
    for (const method of ['GET', 'PUT', 'DELETE']) {
      const options = method === 'PUT' ? { body: 'overwritten' } : {}
      const answer = await world.call(`/api/files/${name}`, { ...options, method, token })
      t.match(answer.status, /^40[04]$/, `${method} ${name}: ${answer.status}`)
      t.notMatch(answer.text, SECRET)
    }
  }
  t.strictSame((await world.call('/api/files', { token })).result.items, [])
  const mine = await world.call('/api/files/globex-secret.txt', { token: atGlobex.accessToken })
  t.match(mine, { status: 200, text: SECRET }, 'and globex has it as it was')
})

t.test('tenants of one shared bucket do not meet', async t => {
  const neighbour = world.tenants[2] as WorldTenant
  t.equal(neighbour.bucket, globex.bucket)
  const { accessToken: token } = await world.login(neighbour)
  t.match(await world.call('/api/files/globex-secret.txt', { token }), { status: 404 })
  t.strictSame((await world.call('/api/files', { token })).result.items, [])
})

t.test('the token decides: a tenant key beside it changes nothing', async t => {
  const token = atAcme.accessToken
  for (const [path, options] of [
    ['/api/whoami', { headers: { 'x-tenant-key': 'globex' } }],
    ['/api/whoami', { headers: { X_Tenant_Key: 'globex', 'x-tenant-id': globex.id } }],
    ['/api/whoami?tenant_key=globex', {}],
    ['/api/whoami', { headers: { host: 'globex.example' } }],
  ] as const) {
    const answer = await world.call(path, { ...options, token })
    t.match(answer.result, { database: acme.database, tenant: { key: 'acme' } }, path)
  }
  const created = await world.call('/api/projects', {
    method: 'POST',
    token,
    json: { name: 'in acme', tenant_key: 'globex', tenant_id: globex.id },
  })
  const id = created.result.id
  t.equal((await world.sql(acme.database, 'SELECT 1 FROM projects WHERE id = $1', [id])).length, 1)
  t.equal(
    (await world.sql(globex.database, 'SELECT 1 FROM projects WHERE id = $1', [id])).length,
    0,
  )
})

t.test('at login the body decides, and credentials of acme open nothing at globex', async t => {
  const login = (json: object, headers = {}, query = '') =>
    world.call(`/api/auth/login${query}`, { method: 'POST', json, headers })
  const { email } = acme
  t.match(await login({ tenant_key: 'globex', email, password: DEMO_PASSWORD }), {
    status: 401,
    code: 'INVALID_CREDENTIALS',
  })
  const own = await login(
    { tenant_key: 'acme', email, password: DEMO_PASSWORD },
    { 'x-tenant-key': 'globex' },
    '?tenant_key=globex',
  )
  t.equal(own.status, 200)
  const profile = await world.call('/api/auth/profile', { token: String(own.result.accessToken) })
  t.match(profile.result, { tenant: { id: acme.id } })
})

t.test('a refresh token of acme is worth nothing at globex', async t => {
  const refresh = (refreshToken: string, headers = {}) =>
    world.call('/api/auth/refresh-token', { method: 'POST', json: { refreshToken }, headers })
  const session = await world.login(acme)
  const [head, body = '', tag] = session.refreshToken.split('.')
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString())
  const moved = Buffer.from(JSON.stringify({ ...claims, tenant_id: globex.id }))
  const edited = await refresh(`${head}.${moved.toString('base64url')}.${tag}`)
  t.match(edited, { status: 401, code: 'TOKEN_INVALID' }, 'an edited one')
  const stolenSecret = makeToken(world.keys.jwtRefresh, { ...claims, tenant_id: globex.id })
  const forged = await refresh(stolenSecret)
  t.match(forged, { status: 401, code: 'TOKEN_INVALID' }, 'one of acme’s user, rightly signed')
  t.match(await refresh(session.accessToken), { status: 401, code: 'TOKEN_INVALID' })
  const asAccess = await world.call('/api/whoami', { token: session.refreshToken })
  t.match(asAccess, { status: 401, code: 'TOKEN_INVALID' })
  const own = await refresh(session.refreshToken, { 'x-tenant-key': 'globex' })
  t.equal(own.status, 200, 'where a header says globex, it is still acme')
  const whoami = await world.call('/api/whoami', { token: String(own.result.accessToken) })
  t.match(whoami.result, { database: acme.database })
})

t.test('a user of acme is nobody at globex, even in a rightly signed token', async t => {
  const token = makeToken(world.keys.jwtAccess, { ...claimsOf(globex), id: atAcme.id })
  const answer = await world.call('/api/auth/profile', { token })
  t.match(answer, { status: 401, code: 'TOKEN_INVALID' })
})

t.test('ciphertexts swapped between rows or columns do not open', async t => {
  const [one, two] = world.tenants.slice(2) as [WorldTenant, WorldTenant]
  const sessions = [await world.login(one), await world.login(two)]
  const statusOf = async (i: number) =>
    (await world.call('/api/whoami', { token: sessions[i]?.accessToken ?? '' })).status
  const swap = (column: string) =>
    world.registrySql(
      `UPDATE tenants a SET ${column} = b.${column} FROM tenants b
       WHERE a.id = ANY($1) AND b.id = ANY($1) AND a.id <> b.id`,
      [[one.id, two.id]],
    )
  for (const column of ['db_password_encrypted', 'bucket_secret_key_encrypted']) {
    await swap(column)
    for (const [i, tenant] of [one, two].entries()) {
      await until(async () => (await statusOf(i)) === 503)
      const token = sessions[i]?.accessToken ?? ''
      const answer = await world.call('/api/whoami', { token })
      t.match(answer, { status: 503, code: 'TENANT_CONFIG_INVALID' }, `${column} of ${tenant.key}`)
      t.match(answer.headers, { 'retry-after': /^\d+$/ })
      t.notMatch(answer.text, /tenant_demo|v1\./)
      await t.rejects(world.login(tenant), /503 .*TENANT_CONFIG_INVALID/)
    }
    t.equal((await world.call('/api/whoami', { token: atAcme.accessToken })).status, 200)
    await swap(column)
    await until(async () => (await statusOf(0)) === 200 && (await statusOf(1)) === 200)
  }
  await world.registrySql(
    'UPDATE tenants SET db_password_encrypted = bucket_secret_key_encrypted WHERE id = $1',
    [one.id],
  )
  await until(async () => (await statusOf(0)) === 503)
  t.equal(await statusOf(1), 200)
})

t.test('the app refuses what does not come through the gateway', async t => {
  const { accessToken: token } = atAcme
  for (const [path, options] of [
    ['/api/whoami', {}],
    ['/api/projects', {}],
    [`/api/projects/${globexProjectId}`, { method: 'DELETE' }],
    ['/api/files/globex-secret.txt', {}],
    ['/api/files/x', { method: 'PUT', body: 'x' }],
    ['/api/events', {}],
    ['/api/auth/profile', {}],
    ['/api/no-such-route', {}],
    ['/api/auth/login', { method: 'POST', json: loginBody(acme) }],
  ] as [string, CallOptions][]) {
    for (const headers of [{}, { 'x-tenant-key': 'acme', 'x-tenant-id': acme.id }]) {
      const answer = await call(app.origin, path, { ...options, token, headers })
      t.match(answer, { status: 401, code: 'CONTEXT_INVALID' }, path)
      t.notMatch(answer.text, SECRET)
    }
  }
  const socket = new WebSocket(`${app.origin.replace('http', 'ws')}/api/ws`, {
    headers: { authorization: `Bearer ${token}` },
  })
  const refusal = await new Promise<string>(resolve => socket.on('error', e => resolve(e.message)))
  t.match(refusal, /401/)
  t.equal((await call(app.origin, '/readyz')).status, 200, 'health tells nothing and needs nothing')
})

t.test('a context that is forged in any part is refused by the app', async t => {
  const right = await minter()
  const whoami = '/api/whoami'
  const good = await forge(right, globex, whoami)
  t.match(await call(app.origin, whoami, { headers: good }), {
    status: 200,
    result: { database: globex.database },
  })

  const { privateKey } = generateKeyPairSync('ed25519')
  const kid = world.keys.contextSigning.kid as string
  const stranger = { ...privateKey.export({ format: 'jwk' }), kid }
  const nowMs = Date.now()
  const other = await forge(right, acme, whoami)
  const fresh = await forge(right, globex, whoami)
  const context = fresh['x-tenant-context']
  const middle = Math.floor(context.length / 2)
  const flipped = context[middle] === 'A' ? 'B' : 'A'
  const cases: Record<string, Headers> = {
    'signed by another key under our kid': await forge(await minter(stranger), globex, whoami),
    'signed by another key under its own kid': await forge(
      await minter({ ...stranger, kid: 'stranger' }),
      globex,
      whoami,
    ),
    'encrypted with another key': await forge(
      await minter(undefined, randomBytes(32).toString('base64url')),
      globex,
      whoami,
    ),
    'expired a second ago': await forge(right, globex, whoami, { mintedAtMs: nowMs - 61_000 }),
    'minted in an hour': await forge(right, globex, whoami, { mintedAtMs: nowMs + 3_600_000 }),
    'a request of 31 s ago': await forge(right, globex, whoami, { signedAtMs: nowMs - 31_000 }),
    // Further off than the tolerance by more than a busy machine takes to come to it.
    'a request of in 60 s': await forge(right, globex, whoami, { signedAtMs: nowMs + 60_000 }),
    'one byte changed': {
      ...fresh,
      'x-tenant-context': context.slice(0, middle) + flipped + context.slice(middle + 1),
    },
    'the request header of another tenant': {
      ...fresh,
      'x-tenant-request': other['x-tenant-request'],
    },
    'another user put into the request header': {
      ...fresh,
      'x-tenant-request': fresh['x-tenant-request'].replace(
        /^v1\.[^.]*/,
        `v1.${encodePrincipal({ sub: atAcme.id })}`,
      ),
    },
    'no request header': { 'x-tenant-context': context } as Headers,
    'no context': { 'x-tenant-request': fresh['x-tenant-request'] } as Headers,
    'not a context at all': { ...fresh, 'x-tenant-context': 'globex' },
  }
  for (const [name, headers] of Object.entries(cases)) {
    const answer = await call(app.origin, whoami, { headers: { ...headers } })
    t.match(answer, { status: 401, code: 'CONTEXT_INVALID' }, name)
    t.notMatch(answer.text, globex.database, name)
  }
  const untouched = await call(app.origin, whoami, { headers: { ...fresh } })
  t.equal(untouched.status, 200, 'the same pair, untouched, would have been good')
})

t.test('a login body that names another tenant than the context is a wrong password', async t => {
  const headers = await forge(await minter(), acme, '/api/auth/login', { method: 'POST' })
  const options = { method: 'POST', headers: { ...headers }, json: loginBody(globex) }
  const answer = await call(app.origin, '/api/auth/login', options)
  t.match(answer, { status: 401, code: 'INVALID_CREDENTIALS' })
})

t.test(
  'a context that a client sends through the gateway is dropped in every spelling',
  async t => {
    const forged = await forge(await minter(), globex, '/api/whoami')
    const spellings = [
      'x-tenant-context',
      'X-Tenant-Context',
      'X-TENANT-CONTEXT',
      'x_tenant_context',
      'X-Tenant_Context',
      'x-tenant-request',
      'X_TENANT_REQUEST',
    ]
    const forgedFor = (name: string) =>
      /request/i.test(name) ? forged['x-tenant-request'] : forged['x-tenant-context']
    const all = spellings.slice(0, 6).map(name => `${name}: ${forgedFor(name)}\r\n`)
    const heads = [
      ...spellings.map(name => `${name}: ${forgedFor(name)}\r\n`),
      `x-tenant-context: ${forgedFor('context')}\r\nx-tenant-context: ${forgedFor('context')}\r\n`,
      `Connection: x-tenant-context, x-tenant-request\r\n`,
      `Connection: close, X_Tenant_Context\r\nx-tenant-context: ${forgedFor('context')}\r\n`,
      all
        .join('')
        .slice(0, 12_000)
        .replace(/\r\n[^\n]*$/, '\r\n'),
    ]
    const send = (fields: string, token: string | null) =>
      rawExchange(
        world.gateway.port,
        `GET /api/whoami HTTP/1.1\r\nHost: gateway\r\n${fields}` +
          `${token === null ? '' : `Authorization: Bearer ${token}\r\n`}Connection: close\r\n\r\n`,
      )
    for (const fields of heads) {
      const name = fields.slice(0, 40)
      const answer = await send(fields, atAcme.accessToken)
      t.match(answer, /^HTTP\/1\.1 (200|4\d\d) /, name)
      if (answer.startsWith('HTTP/1.1 200')) t.match(answer, `"database":"${acme.database}"`)
      t.notMatch(answer, globex.database, name)
      t.notMatch(answer, /x-tenant-(context|request)/i, 'nothing of ours comes back')
      const alone = await send(fields, null)
      t.match(alone, /^HTTP\/1\.1 40[01] /, `without a token: ${name}`)
      t.notMatch(alone, globex.database)
    }
    const passed = await send(`${spellings[1]}: ${forgedFor('context')}\r\n`, atAcme.accessToken)
    t.match(passed, /^HTTP\/1\.1 200 /, 'dropped, not refused')
    const last = world.recorder?.seen.at(-1)
    t.not(last?.headers['x-tenant-context'], forgedFor('context'), 'the app got the gateway’s own')
  },
)

t.test('a pair taken off the wire is good for the one request it was made for', async t => {
  const token = atAcme.accessToken
  const stolen = await steal('/api/projects?limit=1', { token })
  const take = (method: string, target: string, options: CallOptions = {}) =>
    call(app.origin, target, { ...options, method, headers: pairOf(stolen) })
  for (const [method, target, options] of [
    ['GET', '/api/projects?limit=2', {}],
    ['GET', '/api/projects', {}],
    ['GET', '/api/whoami', {}],
    ['GET', '//api/projects?limit=1', {}],
    ['DELETE', '/api/projects?limit=1', {}],
    ['POST', '/api/projects?limit=1', { json: { name: 'planted' } }],
    ['GET', '/api/files', {}],
  ] as [string, string, CallOptions][]) {
    const answer = await take(method, target, options)
    t.match(answer, { status: 401, code: 'CONTEXT_INVALID' }, `${method} ${target}`)
  }
  t.equal((await take('GET', stolen.target)).status, 200, 'what it was made for')
  const again = await take('GET', stolen.target)
  t.match(again, { status: 401, code: 'CONTEXT_INVALID' }, 'but once')
  t.notMatch(again.text, acme.key)
})

t.test('a request that went through is not done again, with the same body or another', async t => {
  const name = `once ${randomUUID()}`
  const { seen } = world.recorder as NonNullable<typeof world.recorder>
  const options = { method: 'POST', token: atAcme.accessToken }
  t.equal((await world.call('/api/projects', { ...options, json: { name } })).status, 201)
  const captured = seen.at(-1) as Captured
  t.match(captured, { method: 'POST', target: '/api/projects' })
  for (const json of [{ name }, { name: `${name} planted` }]) {
    const headers = pairOf(captured)
    const replay = await call(app.origin, '/api/projects', { method: 'POST', headers, json })
    t.match(replay, { status: 401, code: 'CONTEXT_INVALID' })
  }
  const rows = 'SELECT name FROM projects WHERE name LIKE $1'
  t.strictSame(await world.sql(acme.database, rows, [`${name}%`]), [{ name }])

  const login = { method: 'POST', json: loginBody(acme) }
  t.equal((await world.call('/api/auth/login', login)).status, 200)
  const atLogin = pairOf(seen.at(-1) as Captured)
  for (const tenant of [acme, globex]) {
    const json = loginBody(tenant)
    const replay = await call(app.origin, '/api/auth/login', { ...login, headers: atLogin, json })
    t.match(replay, { status: 401, code: 'CONTEXT_INVALID' })
    t.notMatch(replay.text, 'accessToken')
  }
})

t.test('what was stolen before a suspension is refused after it, and after its life', async t => {
  const token = atGlobex.accessToken
  const stolen = await steal('/api/whoami', { token })
  const take = (headers: Headers) => call(app.origin, '/api/whoami', { headers: { ...headers } })
  t.equal((await world.cli(['suspend', 'globex'])).code, 0)
  await until(async () => (await world.call('/api/whoami', { token })).status === 403)
  // The clock cannot be moved: these pairs are what a thief would hold 31 and 61 s from now.
  const right = await minter()
  const heldMs = [31_000, 61_000] as const
  for (const agoMs of heldMs) {
    const at = Date.now() - agoMs
    const held = await forge(right, globex, '/api/whoami', { mintedAtMs: at, signedAtMs: at })
    const answer = await take(held)
    t.match(answer, { status: 401, code: 'CONTEXT_INVALID' }, `${agoMs} ms after the theft`)
    t.notMatch(answer.text, globex.database)
  }
  t.equal((await world.cli(['activate', 'globex'])).code, 0)
  await until(async () => (await world.call('/api/whoami', { token })).status === 200)
  const late = await take(pairOf(stolen) as unknown as Headers)
  t.match(late, { status: 503, code: 'TENANT_UNAVAILABLE' }, 'the version has moved')
  t.notMatch(late.text, globex.database)
})

type Headers = Readonly<Record<'x-tenant-context' | 'x-tenant-request', string>>
type Minter = Awaited<ReturnType<typeof makeContextMinter>>

function minter(
  signing: object = world.keys.contextSigning,
  content = world.keys.contextContent,
): Promise<Minter> {
  return makeContextMinter(signing as JWK, [content])
}

/** What the gateway would send for `tenant`, made by whoever holds the keys of `using`. */
async function forge(
  using: Minter,
  tenant: WorldTenant,
  target: string,
  {
    method = 'GET',
    mintedAtMs = Date.now(),
    signedAtMs = Date.now(),
  }: { method?: string; mintedAtMs?: number; signedAtMs?: number } = {},
): Promise<Headers> {
  const db = {
    host: '127.0.0.1',
    port: world.postgres.port,
    name: tenant.database,
    user: tenant.database,
    password: tenant.password,
    ssl: null,
    pool_max: null,
  }
  const connections: TenantConnections = { db, bucket: null }
  const subject = {
    id: tenant.id as TenantId,
    key: tenant.key as TenantKey,
    mode: 'shared',
    configVersion: await versionOf(tenant),
  }
  const minted = await using.mint(subject as Tenant, connections, mintedAtMs)
  const principal = encodePrincipal({ sub: atGlobex.id })
  return {
    'x-tenant-context': minted.token,
    'x-tenant-request': signRequest(
      minted.mac,
      method,
      target,
      principal,
      randomUUID(),
      signedAtMs,
    ),
  }
}

async function versionOf({ id }: WorldTenant): Promise<number> {
  const [row] = await world.registrySql('SELECT config_version FROM tenants WHERE id = $1', [id])
  return Number(row?.config_version)
}

/** Sends a request through the gateway and keeps it from the app. */
async function steal(target: string, options: CallOptions): Promise<Captured> {
  const recorder = world.recorder as NonNullable<typeof world.recorder>
  const before = recorder.seen.length
  recorder.isStealing = true
  const answer: Answer = await world.call(target, options)
  recorder.isStealing = false
  t.equal(answer.status, 502, 'the gateway’s request is lost')
  const captured = recorder.seen.slice(before).find(request => request.target === target)
  if (captured === undefined) throw new Error('nothing was stolen')
  return captured
}

function pairOf({ headers }: Captured): Record<string, string> {
  const { 'x-tenant-context': context = '', 'x-tenant-request': request = '' } = headers
  return { 'x-tenant-context': context, 'x-tenant-request': request }
}

function loginBody({ key, email }: WorldTenant) {
  return { tenant_key: key, email, password: DEMO_PASSWORD }
}
