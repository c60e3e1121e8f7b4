import { GetObjectCommand, ListObjectsV2Command } from '@aws-sdk/client-s3'
import t from 'tap'
import { DEMO_PASSWORD } from '../local/demo-tenants.ts'
import { startWorld } from './test-kit.ts'

const startedAt = performance.now()
const world = await startWorld()
t.comment(`world started in ${Math.round(performance.now() - startedAt)} ms`)
t.teardown(world.close)
const { acme, globex } = world

for (const [me, other] of [
  [acme, globex],
  [globex, acme],
] as const) {
  t.test(`${me.key}: login, profile, projects, files, refresh, logout`, async t => {
    const session = await world.login(me)
    const token = session.accessToken

    const profile = await world.call('/api/auth/profile', { token })
    t.match(profile.result, { id: session.id, email: me.email, role_id: 1 })
    t.strictSame(profile.result.tenant, { id: me.id, key: me.key })
    const whoami = await world.call('/api/whoami', { token })
    t.match(whoami.result, { database: me.database, tenant: { id: me.id, key: me.key } })
    t.match(whoami.result, { principal: { sub: session.id, email: me.email } })

    const name = `Plan of ${me.key}`
    const created = await world.call('/api/projects', {
      method: 'POST',
      token,
      json: { name, description: 'secret' },
    })
    t.match(created, { status: 201, result: { name, created_by: session.id } })
    const id = String(created.result.id)
    t.match(await world.call(`/api/projects/${id}`, { token }), {
      status: 200,
      result: { id, name },
    })
    const changed = await world.call(`/api/projects/${id}`, {
      method: 'PATCH',
      token,
      json: { description: 'changed' },
    })
    t.match(changed, { status: 200, result: { name, description: 'changed' } })
    t.match((await world.call('/api/projects', { token })).result, { total: 1, items: [{ id }] })
    const count = 'SELECT description FROM projects WHERE id = $1'
    t.strictSame(await world.sql(me.database, count, [id]), [{ description: 'changed' }])
    t.strictSame(await world.sql(other.database, count, [id]), [], 'not in the other database')

    const bytes = Buffer.from(`bytes of ${me.key} \u0000\u00ff`)
    const stored = await world.call('/api/files/report.txt', {
      method: 'PUT',
      token,
      body: bytes,
      headers: { 'content-type': 'text/plain' },
    })
    t.match(stored, { status: 201, result: { name: 'report.txt', size: bytes.length } })
    const read = await world.call('/api/files/report.txt', { token })
    t.match(read, {
      status: 200,
      text: bytes.toString(),
      headers: { 'content-type': 'text/plain' },
    })
    t.match((await world.call('/api/files', { token })).result, {
      items: [{ name: 'report.txt', size: bytes.length }],
    })
    const key = `${me.prefix ?? ''}report.txt`
    t.ok((await keysIn(me.bucket)).includes(key), `in its own place: ${me.bucket}/${key}`)
    const object = await world.s3.send(new GetObjectCommand({ Bucket: me.bucket, Key: key }))
    t.equal(await object.Body?.transformToString(), bytes.toString())
    t.strictSame(await keysIn(other.bucket), [], 'nothing in the bucket of the other')
    t.match(await world.call('/api/files/report.txt', { method: 'DELETE', token }), { status: 200 })
    t.match(await world.call('/api/files/report.txt', { token }), {
      status: 404,
      code: 'NOT_FOUND',
    })
    t.strictSame((await world.call('/api/files', { token })).result.items, [])

    t.match(await world.call(`/api/projects/${id}`, { method: 'DELETE', token }), { status: 200 })
    t.match(await world.call(`/api/projects/${id}`, { token }), { status: 404, code: 'NOT_FOUND' })
    t.strictSame(await world.sql(me.database, count, [id]), [])

    const refreshed = await refresh(session.refreshToken)
    t.equal(refreshed.status, 200)
    const next = refreshed.result as { accessToken: string; refreshToken: string }
    t.match(await world.call('/api/auth/profile', { token: next.accessToken }), {
      status: 200,
      result: { email: me.email, tenant: { key: me.key } },
    })
    const logout = await world.call('/api/auth/logout', { token: next.accessToken })
    t.equal(logout.status, 200)
    t.match(await world.call('/api/auth/profile', { token: next.accessToken }), {
      status: 401,
      code: 'TOKEN_INVALID',
    })
    t.equal((await world.call('/api/auth/profile', { token })).status, 200, 'another token is not')
    t.match(await refresh(next.refreshToken), { status: 401, code: 'TOKEN_INVALID' })
  })
}

t.test('a refresh token is good once; its second use ends the whole family', async t => {
  const first = await world.login(acme)
  const bystander = await world.login(acme)
  const second = (await refresh(first.refreshToken)).result as { refreshToken: string }
  t.match(await refresh(first.refreshToken), { status: 401, code: 'TOKEN_INVALID' })
  t.match(await refresh(second.refreshToken), { status: 401, code: 'TOKEN_INVALID' })
  t.equal((await refresh(bystander.refreshToken)).status, 200, 'another login is not touched')
})

t.test('a changed password replaces the old one at its own tenant alone', async t => {
  const { accessToken: token, refreshToken } = await world.login(acme)
  const change = (currentPassword: string, newPassword: string) =>
    world.call('/api/auth/change-password', {
      method: 'POST',
      token,
      json: { currentPassword, newPassword },
    })
  t.match(await change('wrong', 'a-new-password'), { status: 400, code: 'VALIDATION_FAILED' })
  t.equal((await change(DEMO_PASSWORD, 'a-new-password')).status, 200)
  await t.rejects(world.login(acme), /401 .*INVALID_CREDENTIALS/)
  t.match(await refresh(refreshToken), { status: 401, code: 'TOKEN_INVALID' })
  t.ok((await world.login(acme, 'a-new-password')).accessToken)
  t.ok((await world.login(globex)).accessToken, 'the other tenant keeps its password')
  await t.rejects(world.login(globex, 'a-new-password'), /401 .*INVALID_CREDENTIALS/)
})

t.test('each tenant has sessions in its own database alone', async t => {
  for (const { database } of [acme, globex]) {
    const users = await world.sql(
      'postgres',
      `SELECT DISTINCT usename FROM pg_stat_activity
       WHERE datname = $1 AND application_name = 'doorman-app'`,
      [database],
    )
    t.strictSame(users, [{ usename: database }])
  }
})

function refresh(refreshToken: string) {
  return world.call('/api/auth/refresh-token', { method: 'POST', json: { refreshToken } })
}

async function keysIn(bucket: string): Promise<string[]> {
  const page = await world.s3.send(new ListObjectsV2Command({ Bucket: bucket }))
  return (page.Contents ?? []).map(({ Key = '' }) => Key)
}
