import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { createDatabases } from '../deploy/local/databases.ts'
import { startS3 } from '../deploy/local/s3.ts'
import type { Operation } from '../registry/admin/api/operation.ts'
import { OPERATIONS } from '../registry/admin/api/operations.ts'
import { createAdminKey, revokeAdminKey } from '../registry/admin/keys.ts'
import { makeLog } from '../registry/lib/log.ts'
import type { Tenant } from '../registry/tenant.ts'
import { type RunningGateway, startGateway, startUpstream, startWorld, until } from './test-kit.ts'

/*
 * Through the real gateway: what an operator does at the admin API, and what tenants then see.
 */
const KEY = `marker-key-${randomBytes(16).toString('hex')}`
const dataDir = await mkdtemp(join(tmpdir(), 'doorman-test-admin-api-'))
const [world, s3, upstream] = await Promise.all([
  startWorld(),
  startS3({ dataDir, buckets: ['shared'] }),
  startUpstream(),
])
const env = { ...world.env, APP_UPSTREAMS: upstream.origin, ADMIN_API_KEY: KEY, LOG_LEVEL: 'trace' }
const gateway = await startGateway(env)
const sql = new pg.Pool({ connectionString: world.registryUrl, max: 2 })
sql.on('error', () => {})
t.teardown(async () => {
  await gateway.stop()
  upstream.close()
  await sql.end()
  await world.close()
  await s3.stop()
  await rm(dataDir, { recursive: true, force: true })
})

const owner = { name: 'test', scope: 'own', requestId: null } as const
const deps = { store: world.store, log: makeLog('test', 'silent') }
const reader = await createAdminKey(deps, owner, 'reader', 'read')
const operator = await createAdminKey(deps, owner, 'operator', 'operate')
/** All that was answered, to be searched for secrets. */
const answers: string[] = []
const secrets: string[] = [KEY, reader, operator, s3.secretKey, s3.accessKey]

interface Options {
  readonly key?: string | null
  readonly body?: unknown
  readonly headers?: Record<string, string>
  readonly at?: RunningGateway
}

async function call(method: string, path: string, options: Options = {}) {
  const { key = KEY, body, headers = {}, at = gateway } = options
  const response = await fetch(`${at.internalUrl}/api/admin${path}`, {
    method,
    headers: {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  answers.push(text)
  const json = text === '' ? {} : JSON.parse(text)
  const { status, headers: fields } = response
  return { status, fields, json, result: json.result, code: json.code as string | undefined }
}

async function makeDatabase(name: string) {
  const password = `marker-${randomBytes(12).toString('hex')}`
  secrets.push(password)
  await createDatabases(world.postgres, [{ name, password }])
  const place = { db_host: '127.0.0.1', db_port: world.postgres.port }
  return { ...place, db_name: name, db_user: name, db_password: password }
}

const bucket = {
  ...{ bucket_provider: 's3', bucket_name: 'shared', bucket_endpoint: s3.endpoint },
  ...{ bucket_access_key: s3.accessKey, bucket_secret_key: s3.secretKey },
}

/** A tenant with a real database and bucket, both tested. */
async function create(key: string) {
  const details = await makeDatabase(`db_${key}`)
  return register(key, { ...details, ...bucket, bucket_prefix: `${key}/`, verify: true })
}

/** One whose database nobody looks for. */
async function register(key: string, change: object = {}) {
  secrets.push(`marker-of-${key}`)
  const db = { db_host: 'db.invalid', db_name: key, db_user: key, db_password: `marker-of-${key}` }
  const body = { tenant_key: key, ...db, verify: false, ...change }
  const created = await call('POST', '/tenants', { body })
  t.equal(created.status, 201, `${key}: ${created.json.message}`)
  return created
}

/** The server of these tests, with its own role. */
function hostBody() {
  const { username, password, port } = new URL(world.registryUrl)
  const role = {
    admin_user: decodeURIComponent(username),
    admin_password: decodeURIComponent(password),
  }
  return { name: 'main', host: '127.0.0.1', port: Number(port), ...role }
}

/** What the tenant's users see. */
async function ask(tenant: { id: string }) {
  const token = world.token(tenant as Tenant)
  const headers = { authorization: `Bearer ${token}` }
  const response = await fetch(`${gateway.url}/api/things`, { headers })
  await response.arrayBuffer()
  return response.status
}

t.test('a tenant that is created is served at once, also where it was unknown before', async t => {
  const id = randomUUID()
  t.equal(await ask({ id }), 401)
  const login = async () => {
    const body = JSON.stringify({ tenant_key: 'fresh', email: 'a@b.example', password: 'x' })
    const headers = { 'content-type': 'application/json' }
    const url = `${gateway.url}/api/auth/login`
    return (await fetch(url, { method: 'POST', headers, body })).status
  }
  t.equal(await login(), 401, 'the key is unknown, and remembered as such')
  const { result, fields, json } = await create('fresh')
  t.match(json, { status: true, message: /created/ })
  t.match(result, {
    ...{ tenant_key: 'fresh', mode: 'shared', status: 'active', db_name: 'db_fresh' },
    ...{ bucket_name: 'shared', has_db_password: true, has_bucket_keys: true, problem: null },
    billing_readiness: { shared_billing: true, dedicated_billing: false },
  })
  t.equal(fields.get('location'), `/api/admin/tenants/${result.id}`)
  t.equal(fields.get('etag'), `"${result.config_version}"`)
  await until(async () => (await login()) === 200, 1000)
  t.equal(await ask(result), 200)
})

t.test('a suspended tenant is refused in under a second, and is served again', async t => {
  const { result } = await register('halted')
  t.equal(await ask(result), 200)
  const path = `/tenants/${result.id}`
  const reason = { reason: 'invoice 42' }
  const moves: [string, object | undefined, string, number][] = [
    ['suspend', reason, 'suspended', 403],
    ['activate', undefined, 'active', 200],
    ['maintenance', {}, 'maintenance', 503],
    ['archive', reason, 'archived', 401],
    ['unarchive', undefined, 'suspended', 403],
    ['activate', undefined, 'active', 200],
  ]
  for (const [verb, body, status, seen] of moves) {
    const moved = await call('POST', `${path}/${verb}`, { body })
    t.match(moved, { status: 200, result: { status } }, verb)
    await until(async () => (await ask(result)) === seen, 1000)
  }
  const impossible = await call('PATCH', path, { body: { status: 'provisioning' } })
  t.match(impossible, { status: 409, code: 'CONFLICT' })
})

t.test('an edit reaches the contexts of the tenant without a restart', async t => {
  const { result } = await create('edited')
  const seen = async () => {
    await ask(result)
    const header = upstream.requests.at(-1)?.headers['x-tenant-context']
    return world.verifier.verify(String(header), Date.now())
  }
  const fresh = await makeDatabase('db_edited_anew')
  const body = { ...fresh, db_pool_max: 8, mode: 'dedicated', bucket_prefix: 'edited-anew/' }
  const changed = await call('PATCH', `/tenants/${result.id}`, { body })
  t.match(changed, { status: 200, result: { db_name: 'db_edited_anew', mode: 'dedicated' } })
  await until(async () => (await seen()).ver === changed.result.config_version, 1000)
  t.match(await seen(), {
    ...{ mode: 'dedicated', db: { name: 'db_edited_anew', password: fresh.db_password } },
    bucket: { prefix: 'edited-anew/' },
  })
  const rotated = await call('POST', `/tenants/${result.id}/rotate-credentials`)
  t.equal(rotated.status, 200)
  await until(async () => (await seen()).ver === rotated.result.config_version, 1000)
  const { db } = await seen()
  secrets.push(db.password)
  t.not(db.password, fresh.db_password)
  const url = world.postgres.url('db_edited_anew', 'db_edited_anew', db.password)
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.end()
})

t.test('everyone of a tenant is signed out', async t => {
  const { result } = await register('signed-out')
  const token = world.token(result as Tenant, { iat: Math.floor(Date.now() / 1000) - 60 })
  const use = async () => {
    const headers = { authorization: `Bearer ${token}` }
    return (await fetch(`${gateway.url}/api/things`, { headers })).status
  }
  t.equal(await use(), 200)
  t.equal((await call('POST', `/tenants/${result.id}/revoke-sessions`)).status, 200)
  await until(async () => (await use()) === 401, 1000)
})

t.test('no key, a wrong key and a narrow key are refused, and told apart', async t => {
  const { result } = await register('guarded')
  const path = `/tenants/${result.id}`
  for (const operation of OPERATIONS) {
    const at = operation.path.replace(':id', result.id).replace(':name', 'main')
    const body = operation.method === 'GET' ? undefined : {}
    const none = await call(operation.method, at, { key: null, body })
    t.match(none, { status: 401, code: 'ADMIN_KEY_INVALID' }, operation.name)
    t.equal(none.fields.get('www-authenticate'), 'Bearer')
    if (operation.scope === 'read') continue
    const narrow = await call(operation.method, at, { key: reader, body: body && { x: 1 } })
    t.match(narrow, { status: 403, code: 'ADMIN_SCOPE_TOO_NARROW' }, operation.name)
  }
  for (const key of [`${KEY}x`, KEY.slice(1), 'x', `Bearer ${KEY}`]) {
    t.match(await call('GET', path, { key }), { status: 401, code: 'ADMIN_KEY_INVALID' })
  }
  t.equal((await call('GET', '/no-such-thing', { key: null })).status, 401)
  t.equal((await call('GET', '/openapi.json', { key: null })).status, 401)
  const basic = { headers: { authorization: `Basic ${btoa(`x:${KEY}`)}` }, key: null }
  t.equal((await call('GET', path, basic)).status, 401)
  const own = { headers: { 'x-admin-api-key': KEY }, key: null }
  t.equal((await call('GET', path, own)).status, 200)
  const two = { headers: { 'x-admin-api-key': operator }, key: KEY }
  t.equal((await call('GET', path, two)).status, 401, 'which of the two is meant?')
  t.match((await call('GET', '/whoami', { key: operator })).result, { scope: 'operate' })
  t.equal((await call('GET', '/keys', { key: operator })).status, 403)
  t.match((await call('GET', '/keys')).result.items, [{ name: 'operator' }, { name: 'reader' }])
  const spare = await createAdminKey(deps, owner, 'spare', 'read')
  secrets.push(spare)
  t.equal((await call('GET', path, { key: spare })).status, 200)
  await revokeAdminKey(deps, owner, 'spare')
  t.equal((await call('GET', path, { key: spare })).status, 401, 'revoked: at once')
  t.match((await call('GET', path)).result, { status: 'active' }, 'nothing was changed by any')
})

t.test('what a client sends wrong is refused by a code, and the field is named', async t => {
  const { result } = await register('strict')
  const path = `/tenants/${result.id}`
  const json = { 'content-type': 'application/json' }
  const cases: [string, string, Options, number, string, RegExp][] = [
    ['GET', '/tenants/42', {}, 400, 'VALIDATION_FAILED', /^id: /],
    ['GET', `/tenants/${randomUUID()}`, {}, 404, 'NOT_FOUND', /no such tenant/],
    ['GET', '/tenants?mode=big', {}, 400, 'VALIDATION_FAILED', /^mode: /],
    ['GET', '/tenants?limit=0', {}, 400, 'VALIDATION_FAILED', /^limit: /],
    ['GET', '/tenants?status=active&status=x', {}, 400, 'VALIDATION_FAILED', /^status: /],
    ['GET', '/tenants?colour=red', {}, 400, 'VALIDATION_FAILED', /^colour: no such field/],
    ['GET', '/tenants?page=2&cursor=x', {}, 400, 'VALIDATION_FAILED', /^page: /],
    ['GET', `${path}/usage?month=2026-13`, {}, 400, 'VALIDATION_FAILED', /^month: /],
    ['POST', '/tenants', { body: {} }, 400, 'VALIDATION_FAILED', /tenant_key: is required/],
    ['POST', '/tenants', {}, 400, 'VALIDATION_FAILED', /^body: /],
    ['PATCH', path, { body: [] }, 400, 'VALIDATION_FAILED', /^body: must be a JSON object/],
    ['PATCH', path, { body: { id: 'x' } }, 400, 'VALIDATION_FAILED', /^id: no such field/],
    ['PATCH', path, { body: '{"name":' }, 400, 'BODY_INVALID', /./],
    ['PATCH', path, { body: '{"__proto__":{"a":1}}' }, 400, 'BODY_INVALID', /./],
    ['PATCH', path, { body: { name: 'x'.repeat(70_000) } }, 413, 'BODY_TOO_LARGE', /./],
    [
      ...(['PATCH', path] as const),
      { body: 'name=x', headers: { 'content-type': 'text/plain' } },
      ...([415, 'BODY_TYPE_UNSUPPORTED', /./] as const),
    ],
    ['POST', `${path}/suspend`, { body: { why: 'x' } }, 400, 'VALIDATION_FAILED', /^why: /],
    ['POST', `${path}/suspend`, { body: { reason: 'a\nb' } }, 400, 'VALIDATION_FAILED', /^reason/],
    ['DELETE', path, {}, 400, 'VALIDATION_FAILED', /^confirm: /],
    ['PUT', path, { body: {} }, 404, 'ROUTE_NOT_FOUND', /./],
    ['GET', '/nothing', {}, 404, 'ROUTE_NOT_FOUND', /./],
    ['GET', path.toUpperCase(), {}, 404, 'ROUTE_NOT_FOUND', /./],
  ]
  for (const [method, at, options, status, code, message] of cases) {
    const refused = await call(method, at, options)
    t.match(refused, { status, code }, `${method} ${at}: ${JSON.stringify(refused.json)}`)
    t.match(refused.json, { status: false, result: null, message, request_id: /./ })
    const named = Object.entries((refused.json.fields ?? {}) as object)
    const told = named.map(([field, problem]) => `${field}: ${problem}`).join('; ')
    t.equal(told, code === 'VALIDATION_FAILED' ? refused.json.message : '', 'each by its name')
    t.equal(refused.fields.get('x-content-type-options'), 'nosniff')
    t.equal(refused.fields.get('cache-control'), 'no-store')
    t.equal(refused.fields.get('access-control-allow-origin'), null)
  }
  t.equal(
    (await call('POST', `${path}/activate`, { headers: json })).status,
    200,
    'no body is none',
  )
  t.equal((await call('GET', path.replace(result.id, result.id.toUpperCase()))).status, 200)
})

t.test('If-Match guards a change, and the version of the body does', async t => {
  const { result, fields } = await register('versioned')
  const path = `/tenants/${result.id}`
  const first = { 'if-match': String(fields.get('etag')) }
  const changed = await call('PATCH', path, { body: { name: 'one' }, headers: first })
  t.equal(changed.status, 200)
  t.not(changed.fields.get('etag'), fields.get('etag'))
  const late = await call('PATCH', path, { body: { name: 'two' }, headers: first })
  t.match(late, { status: 412, code: 'PRECONDITION_FAILED' })
  const old = { name: 'three', config_version: result.config_version }
  t.match(await call('PATCH', path, { body: old }), { status: 409, code: 'CONFLICT' })
  for (const verb of ['suspend', 'rotate-credentials', 'revoke-sessions']) {
    const stale = await call('POST', `${path}/${verb}`, { headers: first })
    t.match(stale, { status: 412, code: 'PRECONDITION_FAILED' }, verb)
  }
  const strange = await call('PATCH', path, { body: {}, headers: { 'if-match': 'seven' } })
  t.match(strange, { status: 400, code: 'VALIDATION_FAILED' })
  const weak = { 'if-match': `W/${changed.fields.get('etag')}` }
  t.equal((await call('PATCH', path, { body: { name: 'x' }, headers: weak })).status, 412)
  const any = await call('PATCH', path, { body: { name: 'four' }, headers: { 'if-match': '*' } })
  t.match(any, { status: 200, result: { name: 'four', status: 'active' } })
})

t.test('connections are tested before they are saved, and whenever asked', async t => {
  const { result } = await create('tested')
  const path = `/tenants/${result.id}`
  const bad = { db_password: 'marker-wrong-password' }
  const refused = await call('PATCH', path, { body: bad })
  t.match(refused, { status: 422, code: 'CONNECTION_TEST_FAILED' })
  t.match(refused.json.message, /^database: the database refuses this user and password$/)
  const works = await call('POST', `${path}/test-connection`)
  t.match(works, {
    status: 200,
    result: { ok: true, database: { ok: true }, bucket: { ok: true } },
  })
  const fails = await call('POST', `${path}/test-connection`, { body: bad })
  t.match(fails, { status: 200, result: { ok: false, database: { step: 'credentials' } } })
  const offline = { db_host: 'not-yet.invalid', verify: false }
  t.equal((await call('PATCH', path, { body: offline })).status, 200)
  t.match((await call('POST', `${path}/test-connection`)).result, { ok: false })
})

t.test('usage, audit, list and document are what their users read', async t => {
  await call('POST', '/plans', { body: { code: 'gold' } })
  const { result } = await register('read', { name: 'To be read', plan: 'gold' })
  const path = `/tenants/${result.id}`
  await sql.query(
    `INSERT INTO customer_usage_daily (tenant_id, date, api_requests, pdf_generated, storage_gb)
     VALUES ($1, '2026-03-01', 10, 1, 3), ($1, '2026-03-02', 5, 0, 2)`,
    [result.id],
  )
  await sql.query(
    "INSERT INTO user_activity_daily VALUES ($1, '2026-03-01', 'u'), ($1, '2026-03-02', 'u')",
    [result.id],
  )
  const usage = await call('GET', `${path}/usage?month=2026-03`)
  t.match(usage.result, {
    ...{ api_requests: 15, pdf_generated: 1, active_users: 1, storage_gb: 2 },
    usage_score: 15 + 50 + 10 + 10,
  })
  const headers = { 'x-request-id': 'request-of-the-test' }
  const suspended = await call('POST', `${path}/suspend`, { key: operator, headers })
  t.equal(suspended.fields.get('x-request-id'), 'request-of-the-test')
  for (const at of [`${path}/audit?limit=1`, `/audit?actor=operator&limit=1`]) {
    t.match((await call('GET', at)).result.items, [
      {
        ...{ action: 'tenant.suspend', actor: 'operator', request_id: 'request-of-the-test' },
        ...{ tenant_key: 'read', before: { status: 'active' }, after: { status: 'suspended' } },
      },
    ])
  }
  const list = await call('GET', '/tenants?mode=shared&status=suspended&q=to%20be&sort=-created_at')
  t.match(list.result, { total: 1, page: 1, next_cursor: null, items: [{ tenant_key: 'read' }] })
  const all = await call('GET', '/tenants?limit=200')
  t.equal(all.result.items.length, all.result.total)
  const { json: document } = await call('GET', '/openapi.json')
  t.equal(document.openapi, '3.1.0')
  const told = Object.entries(document.paths as Record<string, object>).flatMap(([at, verbs]) =>
    Object.keys(verbs).map(verb => `${verb.toUpperCase()} ${at.replace(/{(\w+)}/g, ':$1')}`),
  )
  t.strictSame(told.sort(), OPERATIONS.map(o => `${o.method} ${o.path}`).sort())
})

t.test('every answer is as the document says', async t => {
  const { result } = await create('as-told')
  const path = `/tenants/${result.id}`
  const samples: Record<string, Options & { at?: never; query?: string }> = {
    getPulse: { query: `?ids=${result.id}` },
    createTenant: {
      body: { tenant_key: 'told', ...(await makeDatabase('db_told')), verify: false },
    },
    updateTenant: { body: { plan: 'gold' } },
    moveTenant: { body: { ...(await makeDatabase('db_target')), dry_run: true } },
    testDetails: { body: await makeDatabase('db_details') },
    startDebug: { body: { minutes: 1, reason: 'as told' } },
    createPlan: { body: { code: 'told', limits: { requests_per_s: 5 } } },
    updatePlan: { body: { weight: 2 } },
    setPrices: {
      body: { plan: '*', from_month: '2020-01', currency: 'EUR', prices: { base_fee: 100 } },
    },
    listStatements: { query: '?month=2026-01' },
    freezeStatements: { body: { month: '2026-01' } },
    getStatement: { query: '?month=2026-01' },
    removePrices: { query: '?plan=*&from_month=2020-01' },
    giveCredit: { body: { amount_minor: 5, currency: 'EUR', reason: 'as told' } },
    deleteTenant: { body: { confirm: 'as-told', force: true } },
    addDatabaseHost: { body: hostBody() },
    changeDatabaseHost: { body: { ssl_mode: 'disable' } },
  }
  // Of a tenant that is being made: provisioning.test.ts. Of a move that is followed: move.test.ts, and the console's. Of migrations: migrations-api/runs.test.ts.
  const elsewhere = ['retryProvisioning', 'undoProvisioning', 'followMove']
  const last = ['archiveTenant', 'unarchiveTenant', 'archiveTenant', 'deleteTenant']
  const own = OPERATIONS.filter(({ path }) => !path.startsWith('/migrations'))
  const names = own.map(({ name }) => name).filter(name => ![...last, ...elsewhere].includes(name))
  for (const name of [...names, ...last]) {
    const operation = OPERATIONS.find(known => known.name === name) as Operation
    const at = operation.path
      .replace('/tenants/:id', path)
      .replace(':name', 'main')
      .replace(':code', 'told')
    const sample = samples[operation.name] ?? {}
    const answered = await call(operation.method, `${at}${sample.query ?? ''}`, sample)
    t.equal(answered.status, operation.status, `${operation.name}: ${answered.json.message}`)
    const read = operation.result.safeParse(answered.result)
    t.ok(read.success, `${operation.name}: ${read.error?.message}`)
    if (operation.isVersioned) t.match(answered.fields.get('etag'), /^"[\w-]+"$/)
  }
  t.equal((await call('GET', path)).status, 404)
  t.match((await call('GET', `${path}/audit?limit=1`)).result.items, [{ action: 'tenant.delete' }])
})

t.test('an archived tenant is deleted after its days, or by an owner', async t => {
  const { result } = await register('ended')
  const path = `/tenants/${result.id}`
  const body = { confirm: 'ended' }
  t.equal((await call('DELETE', path, { body })).status, 409)
  await call('POST', `${path}/archive`)
  t.equal((await call('DELETE', path, { body, key: operator })).status, 409)
  const force = { ...body, force: true }
  t.equal((await call('DELETE', path, { body: force, key: operator })).status, 403)
  t.equal((await call('DELETE', `${path}?confirm=wrong&force=true`)).status, 400)
  t.match(await call('DELETE', `${path}?confirm=ended&force=true`), { status: 200 })
  t.equal((await call('GET', path)).status, 404)
})

t.test(
  'beside the API the internal listener is as before, and the public one knows it not',
  async t => {
    for (const path of ['/livez', '/readyz', '/metrics']) {
      t.equal((await fetch(gateway.internalUrl + path)).status, 200, path)
    }
    t.equal((await fetch(`${gateway.internalUrl}/api/administrators`)).status, 404)
    const headers = { authorization: `Bearer ${KEY}` }
    const outside = await fetch(`${gateway.url}/api/admin/tenants`, { headers })
    t.equal(outside.status, 401, 'a path like any other there')
  },
)

t.test('a client that leaves in mid-body does no harm', async t => {
  const socket = connect(Number(new URL(gateway.internalUrl).port), '127.0.0.1')
  socket.on('error', () => {})
  const head = `POST /api/admin/tenants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${KEY}\r\n`
  socket.write(`${head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"a"`, () => {
    socket.resetAndDestroy()
  })
  await new Promise(resolve => socket.once('close', resolve))
  t.equal((await call('GET', '/tenants')).status, 200)
})

t.test('without a first key named ones open; with workers the API is the primary’s', async t => {
  const { ADMIN_API_KEY: _, ...withoutKey } = env
  const other = await startGateway({ ...withoutKey, GATEWAY_WORKERS: '2' })
  t.teardown(() => other.stop())
  t.equal((await call('GET', '/tenants', { at: other })).status, 401)
  t.equal((await call('GET', '/tenants', { at: other, key: reader })).status, 200)
  t.ok(other.log.some(({ msg }) => /ADMIN_API_KEY is not set/.test(String(msg))))
  for (const name of ['reader', 'operator']) await revokeAdminKey(deps, owner, name)
  t.match(await call('GET', '/tenants', { at: other }), { status: 503, code: 'ADMIN_DISABLED' })
  await until(() => other.log.some(({ msg }) => /has no key/.test(String(msg))))
  const { result } = await register('by-workers')
  const headers = { authorization: `Bearer ${world.token(result as Tenant)}` }
  await until(
    async () => (await fetch(`${other.url}/api/things`, { headers })).status === 200,
    1000,
  )
})

t.test('while the Registry is down the API says so, and asks for a key all the same', async t => {
  const url = 'postgres://nobody@127.0.0.1:1/registry'
  const lone = await startGateway(
    { ...env, TENANT_REGISTRY_DB_URL: url },
    { isReadyAwaited: false },
  )
  t.teardown(() => lone.stop())
  t.match(await call('GET', '/tenants', { at: lone, key: null }), { status: 401 })
  const down = await call('GET', '/tenants', { at: lone })
  t.match(down, { status: 503, code: 'REGISTRY_UNAVAILABLE' })
  t.equal(down.fields.get('retry-after'), '2')
  t.equal((await call('GET', '/whoami', { at: lone })).status, 200)
  t.equal((await fetch(`${lone.internalUrl}/livez`)).status, 200)
})

t.test('no secret is in an answer, in the log or in the audit', async t => {
  // The log is written in batches: until the last request is in it.
  const headers = { 'x-request-id': 'the-last-request' }
  await call('PATCH', `/tenants/${randomUUID()}`, { body: { db_password: KEY }, headers })
  await until(() => gateway.log.some(({ request_id }) => request_id === 'the-last-request'))
  const { rows } = await sql.query(
    'SELECT a::text AS text FROM admin_audit AS a UNION ALL SELECT k::text FROM admin_keys AS k',
  )
  const all = {
    answers: answers.join('\n'),
    log: gateway.log.map(line => JSON.stringify(line)).join('\n'),
    audit: rows.map(({ text }) => text).join('\n'),
  }
  t.ok(secrets.length > 15)
  for (const [place, text] of Object.entries(all)) {
    for (const secret of [...secrets, 'marker-wrong-password'])
      t.notOk(text.includes(secret), place)
    t.notMatch(text, /"v1\.[0-9a-f]{16}\./, `${place}: no ciphertext`)
  }
})
