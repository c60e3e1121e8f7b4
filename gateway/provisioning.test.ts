import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HeadBucketCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import pg from 'pg'
import t from 'tap'
import { startS3 } from '../deploy/local/s3.ts'
import { acceptedResult, provisioningResult } from '../registry/admin/api/provisioning-results.ts'
import { createAdminKey } from '../registry/admin/keys.ts'
import { makeBucketClient } from '../registry/lib/bucket-client.ts'
import { makeLog } from '../registry/lib/log.ts'
import { verifyPassword } from '../registry/lib/password.ts'
import type { Tenant } from '../registry/tenant.ts'
import { type RunningGateway, startGateway, startUpstream, startWorld, until } from './test-kit.ts'

/*
 * Through real gateways: tenants that are made by the admin API, with role, database, bucket, schema and first user.
 */
const KEY = `marker-key-${randomBytes(16).toString('hex')}`
const MAKER = `marker-maker-${randomBytes(8).toString('hex')}`
const dataDir = await mkdtemp(join(tmpdir(), 'doorman-test-provisioning-'))
/** Opens the shared bucket, and makes others. */
const maker = {
  accessKey: randomBytes(10).toString('hex').toUpperCase(),
  secretKey: randomBytes(24).toString('base64url'),
}
const [world, s3, upstream] = await Promise.all([
  startWorld(),
  startS3({
    ...{ dataDir, buckets: ['shared'] },
    grants: [{ ...maker, buckets: ['shared'], makes: 'own-of-' }],
  }),
  startUpstream(),
])
const env = { ...world.env, APP_UPSTREAMS: upstream.origin, ADMIN_API_KEY: KEY, LOG_LEVEL: 'trace' }
const gateway = await startGateway(env)
const sql = new pg.Pool({ connectionString: world.registryUrl, max: 2 })
sql.on('error', () => {})
const client = makeBucketClient(
  { endpoint: s3.endpoint, region: null, access_key: maker.accessKey, secret_key: maker.secretKey },
  { connectMs: 3000, idleMs: 3000, socketsMax: 2, addressPolicy: null },
)
t.teardown(async () => {
  client.destroy()
  await gateway.stop()
  upstream.close()
  await sql.end()
  await world.close()
  await s3.stop()
  await rm(dataDir, { recursive: true, force: true })
})
await sql.query(`CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD '${MAKER}'`)
await sql.query(`CREATE ROLE nobody LOGIN PASSWORD '${MAKER}'`)
const actor = { name: 'test', scope: 'own', requestId: null } as const
const operator = await createAdminKey(
  { store: world.store, log: makeLog('test', 'silent') } as never,
  actor,
  'operator',
  'operate',
)
/** Nothing of these is in an answer, a log line or the audit. */
const secrets: string[] = [KEY, MAKER, operator, maker.secretKey, maker.accessKey]
const answers: string[] = []

interface Options {
  readonly key?: string
  readonly body?: unknown
  readonly headers?: Record<string, string>
  readonly at?: RunningGateway
}

async function call(method: string, path: string, options: Options = {}) {
  const { key = KEY, body, headers = {}, at = gateway } = options
  const response = await fetch(`${at.internalUrl}/api/admin${path}`, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const json = JSON.parse(await response.text())
  const { admin_password: password = null } = Object(json.result)
  answers.push(JSON.stringify(json).replace(password ?? '', ''))
  return { status: response.status, fields: response.headers, json, result: json.result }
}

const place = { host: '127.0.0.1', port: world.postgres.port, admin_user: 'maker' }
const bucket = {
  ...{ bucket_provider: 's3', bucket_endpoint: s3.endpoint },
  ...{ bucket_access_key: maker.accessKey, bucket_secret_key: maker.secretKey },
}
const admin = (key: string) => ({ email: `Admin@${key}.example`, name: 'Admin' })
const bodyOf = (key: string, change: object = {}) => ({
  ...{ tenant_key: key, name: `${key} Inc` },
  provision: { host: 'main', admin: admin(key) },
  ...change,
})

async function settled(id: string, at = gateway) {
  let last: Awaited<ReturnType<typeof call>> | undefined
  await until(async () => {
    last = await call('GET', `/tenants/${id}/provisioning`, { at })
    return last.status === 404 || last.result.state !== 'running'
  }, 30_000)
  return last as Awaited<ReturnType<typeof call>>
}

async function bucketExists(name: string): Promise<boolean> {
  return client.send(new HeadBucketCommand({ Bucket: name })).then(
    () => true,
    () => false,
  )
}

async function usersOf(key: string) {
  const url = world.postgres.url(`tenant_${key}`)
  const one = new pg.Client({ connectionString: url })
  one.on('error', () => {})
  await one.connect()
  try {
    return (await one.query('SELECT email, name, password_hash, first_login FROM users')).rows
  } finally {
    await one.end()
  }
}

async function leftOf(key: string) {
  const { rows } = await sql.query(
    `SELECT (SELECT count(*)::int FROM tenants WHERE tenant_key = $1) AS tenants,
       (SELECT count(*)::int FROM provisioning_runs WHERE tenant_key = $1) AS runs,
       (SELECT count(*)::int FROM pg_roles WHERE rolname = $2) AS roles,
       (SELECT count(*)::int FROM pg_database WHERE datname = $2) AS databases`,
    [key, `tenant_${key}`],
  )
  return rows[0]
}
const NOTHING = { tenants: 0, runs: 0, roles: 0, databases: 0 }

t.test('a database host is tested before it is saved, and shows no password', async t => {
  const body = { name: 'main', ...place, admin_password: MAKER }
  const narrow = await call('POST', '/database-hosts', { body, key: operator })
  t.match(narrow, { status: 403, json: { code: 'ADMIN_SCOPE_TOO_NARROW' } })
  const wrong = { ...body, admin_password: 'marker-wrong-password' }
  t.match(await call('POST', '/database-hosts', { body: wrong }), {
    ...{ status: 422, json: { code: 'CONNECTION_TEST_FAILED' } },
  })
  const weak = await call('POST', '/database-hosts', { body: { ...body, admin_user: 'nobody' } })
  t.match(weak, { status: 422, json: { message: /needs CREATEROLE and CREATEDB/ } })
  t.strictSame((await call('GET', '/database-hosts')).result.items, [], 'none was saved')

  const added = await call('POST', '/database-hosts', { body })
  t.equal(added.status, 201, added.json.message)
  t.equal(added.fields.get('location'), '/api/admin/database-hosts/main')
  t.match(added.result, { name: 'main', port: place.port, admin_db: 'postgres', tenants: 0 })
  t.equal((await call('POST', '/database-hosts', { body })).status, 409)
  const dead = await call('PATCH', '/database-hosts/main', { body: { port: 1 } })
  t.match(dead, { status: 422, json: { message: /nothing listens/ } })
  const other = await call('PATCH', '/database-hosts/main', { body: { ssl_mode: 'disable' } })
  t.match(other, { status: 200, result: { ssl_mode: 'disable', port: place.port } })
  t.equal((await call('GET', '/database-hosts/none')).status, 404)
  t.equal((await call('DELETE', '/database-hosts/Not%20A%20Name')).status, 400)

  await call('POST', '/database-hosts', { body: { ...body, name: 'spare' } })
  t.equal((await call('DELETE', '/database-hosts/spare', { key: operator })).status, 403)
  t.equal((await call('DELETE', '/database-hosts/spare')).status, 200)
  t.equal((await call('DELETE', '/database-hosts/spare')).status, 404)
  const { result } = await call('GET', '/audit?limit=4')
  t.match(result.items, [
    { action: 'database_host.remove', before: { name: 'spare' } },
    { action: 'database_host.add', after: { name: 'spare', admin_password: '[secret]' } },
    { action: 'database_host.update', before: { sslMode: null }, after: { sslMode: 'disable' } },
    { action: 'database_host.add', actor: 'ADMIN_API_KEY' },
  ])
})

t.test('a tenant is made while nobody waits, and is served when all of it is there', async t => {
  await sql.query(`INSERT INTO plans (code, name) VALUES ('gold', 'Gold')`)
  const body = bodyOf('acme', { ...bucket, bucket_name: 'own-of-acme', plan: 'gold' })
  const headers = { 'idempotency-key': '"order-4711"', 'x-request-id': 'request-of-acme' }
  const accepted = await call('POST', '/tenants', { body, headers, key: operator })
  t.equal(accepted.status, 202, accepted.json.message)
  const { tenant_id: id, admin_password: password } = accepted.result
  t.equal(accepted.fields.get('location'), `/api/admin/tenants/${id}/provisioning`)
  t.match(accepted.result, { action: 'provision', state: 'running', tenant_key: 'acme' })
  t.match(password, /^[\w-]{24}$/)
  t.ok(acceptedResult.safeParse(accepted.result).success, 'as the document says')
  secrets.push(password)

  const done = await settled(id)
  t.match(done.result, { state: 'done', step: null, error: null }, JSON.stringify(done.json))
  t.equal(await bucketExists('own-of-acme'), true, 'the bucket was made')
  const users = await usersOf('acme')
  t.match(users, [{ email: 'admin@acme.example', name: 'Admin', first_login: true }])
  t.equal(await verifyPassword(users[0].password_hash, password), true)
  const tenant = await call('GET', `/tenants/${id}`)
  t.match(tenant.result, { status: 'active', problem: null, plan: 'gold', db_name: 'tenant_acme' })
  const token = { authorization: `Bearer ${world.token({ id } as Tenant)}` }
  t.equal((await fetch(`${gateway.url}/api/things`, { headers: token })).status, 200)
  t.match(await leftOf('acme'), { runs: 0 })
  t.equal((await call('GET', '/database-hosts/main')).result.tenants, 1)

  const { items } = (await call('GET', `/tenants/${id}/audit`)).result
  t.match(items, [
    { action: 'tenant.provision', outcome: 'done', actor: 'operator' },
    { action: 'tenant.activate', actor: 'operator', request_id: 'request-of-acme' },
    { action: 'tenant.update' },
    { action: 'tenant.provision', actor: 'operator', request_id: 'request-of-acme' },
  ])

  const again = await call('POST', '/tenants', { body, headers, key: operator })
  t.match(again, { status: 202, result: { tenant_id: id, state: 'done', admin_password: null } })
  t.equal((await call('POST', '/tenants', { body })).status, 409, 'without the key: it is taken')
  const other = { ...bodyOf('other'), provision: { host: 'main' } }
  const stolen = await call('POST', '/tenants', { body: other, headers, key: operator })
  t.match(stolen, { status: 409, json: { message: /Idempotency-Key/ } })
  t.match(await leftOf('other'), NOTHING)
  t.equal((await call('POST', `/tenants/${id}/provisioning/undo`)).status, 404, 'nothing to undo')
  t.match(await call('GET', `/tenants/${id}`), { result: { status: 'active' } })
})

t.test('what cannot be made is refused by the field, and leaves nothing', async t => {
  const cases: [object, number, RegExp][] = [
    [bodyOf('bad', { provision: { host: 'nowhere' } }), 400, /no database host nowhere/],
    [bodyOf('bad', { provision: {} }), 400, /^provision.host: is required/],
    [bodyOf('bad', { provision: { host: 'main', admin: {} } }), 400, /^provision.admin.email: /],
    [bodyOf('bad', { db_name: 'No Good' }), 400, /^db_name: /],
    [bodyOf('bad', { plan: 'none-such' }), 400, /^plan: there is no such plan/],
    [bodyOf('bad', { db_password: 'marker-given' }), 400, /^db_password: no such field/],
    [bodyOf('bad', { bucket_prefix: 'bad/' }), 400, /^bucket_name: is required/],
    [
      bodyOf('bad', { ...bucket, bucket_secret_key: null, bucket_name: 'b' }),
      400,
      /^bucket_access/,
    ],
    [bodyOf('ACME', { provision: { host: 'main' } }), 409, /acme exists already/],
  ]
  for (const [body, status, message] of cases) {
    t.match(await call('POST', '/tenants', { body }), { status, json: { message } })
  }
  t.match(await leftOf('bad'), NOTHING)
})

t.test('a step that fails is told, nothing half made is served, and all is taken back', async t => {
  const object = { Bucket: 'shared', Key: 'taken/theirs', Body: 'x' }
  await client.send(new PutObjectCommand(object))
  const body = bodyOf('taken', { ...bucket, bucket_name: 'shared', bucket_prefix: 'taken/' })
  const { result } = await call('POST', '/tenants', { body })
  const path = `/tenants/${result.tenant_id}`
  secrets.push(result.admin_password)
  const failed = await settled(result.tenant_id)
  t.match(failed.result, {
    ...{ state: 'failed', step: 'bucket', steps: ['reserve', 'role', 'database', 'bucket'] },
    error: { code: 'CONFLICT', message: /holds objects below taken\/ already/ },
  })
  t.equal((await call('POST', `${path}/activate`)).status, 409, 'it is not there yet')
  t.equal((await call('PATCH', path, { body: { status: 'active' } })).status, 409)
  t.match(await call('GET', path), { result: { status: 'provisioning' } })
  t.equal((await call('DELETE', '/database-hosts/main')).status, 409, 'a run needs it')
  const retried = await call('POST', `${path}/provisioning/retry`)
  t.match(retried, { status: 202, result: { state: 'running' } })
  t.match((await settled(result.tenant_id)).result, { state: 'failed', step: 'bucket' })

  const undone = await call('POST', `${path}/provisioning/undo`, { body: { reason: 'a mistake' } })
  t.match(undone, { status: 202, result: { action: 'undo' } })
  for (const { result } of [failed, retried, undone]) {
    t.ok(provisioningResult.safeParse(result).success, 'as the document says')
  }
  t.equal((await settled(result.tenant_id)).status, 404)
  t.match(await leftOf('taken'), NOTHING)
  t.equal(await bucketExists('shared'), true)
  const { items } = (await call('GET', `${path}/audit`)).result
  t.match(items, [
    { action: 'tenant.provision_undo', reason: 'a mistake', after: { buckets_kept: [] } },
    { action: 'tenant.provision_undo', reason: 'a mistake' },
    { action: 'tenant.provision', outcome: 'failed', after: { code: 'CONFLICT' } },
  ])
})

t.test('a gateway that is killed in the middle leaves what another one ends', async t => {
  const doomed = await startGateway(env)
  const begin = async (key: string) => {
    const body = bodyOf(key, { ...bucket, bucket_name: `own-of-${key}` })
    const { result } = await call('POST', '/tenants', { body, at: doomed })
    secrets.push(result.admin_password)
    return result as { tenant_id: string; admin_password: string }
  }
  const [ended, dropped] = [await begin('ended'), await begin('dropped')]
  for (const { tenant_id: id } of [ended, dropped]) {
    await until(async () => {
      const { result } = await call('GET', `/tenants/${id}/provisioning`)
      return result.state === 'running' && result.step === 'migrate'
    }, 20_000)
  }
  await doomed.stop('SIGKILL')
  const path = `/tenants/${ended.tenant_id}/provisioning`
  t.match(await call('GET', path), { result: { state: 'running', step: 'migrate' } })
  const early = await call('POST', `${path}/retry`)
  t.match(early, { status: 409, json: { message: /worked at already/ } }, 'it may still live')
  await until(async () => (await call('GET', path)).result.state === 'interrupted', 10_000)
  t.match(await leftOf('ended'), { tenants: 1, runs: 1, roles: 1, databases: 1 })

  // The admin API of a gateway with workers is that of its primary.
  const next = await startGateway({ ...env, GATEWAY_WORKERS: '2' })
  t.teardown(() => next.stop())
  const retried = await call('POST', `${path}/retry`, { at: next })
  t.equal(retried.status, 202, retried.json.message)
  t.match((await settled(ended.tenant_id, next)).result, { state: 'done' })
  const [user] = await usersOf('ended')
  t.equal(await verifyPassword(user.password_hash, ended.admin_password), true, 'as it was told')
  t.match(await leftOf('ended'), { tenants: 1, runs: 0, roles: 1, databases: 1 })

  const undo = `/tenants/${dropped.tenant_id}/provisioning/undo`
  t.equal(await bucketExists('own-of-dropped'), true)
  t.equal((await call('POST', undo, { at: next })).status, 202)
  t.equal((await settled(dropped.tenant_id, next)).status, 404)
  t.match(await leftOf('dropped'), NOTHING)
  t.equal(await bucketExists('own-of-dropped'), false, 'made by the run, and empty')
  t.equal(await bucketExists('own-of-ended'), true)
})

t.test('no secret is in an answer, a log line or the Registry', async t => {
  const { rows } = await sql.query(
    `SELECT (SELECT json_agg(a) FROM admin_audit a)::text AS audit,
       (SELECT json_agg(r) FROM provisioning_runs r)::text AS runs,
       (SELECT json_agg(t) FROM tenants t)::text AS tenants,
       (SELECT json_agg(h) FROM database_hosts h)::text AS hosts`,
  )
  const told = JSON.stringify([answers, gateway.log, rows])
  t.match(told, /provisioning done/)
  for (const secret of secrets) t.notOk(told.includes(secret))
})
