import { randomUUID } from 'node:crypto'
import t from 'tap'
import { makeAddressPolicy } from '../lib/address.ts'
import type { TenantId } from '../tenant.ts'
import type { Actor } from './actor.ts'
import { listAudit } from './audit.ts'
import { createTenant } from './create.ts'
import { createInput, patchInput, readFields } from './fields.ts'
import type { TenantItem } from './item.ts'
import { listTenants } from './list.ts'
import { patchTenant } from './patch.ts'
import { createPlan, planInput } from './plans.ts'
import { testConnection } from './probe.ts'
import { removeTenant } from './remove.ts'
import { revokeTenantSessions } from './sessions.ts'
import { setTenantStatus, unarchiveTenant } from './status.ts'
import { operator, owner, startAdminWorld, storedPassword } from './test-kit.ts'
import { scoreOf, usageOf } from './usage.ts'
import { listUsage } from './usage-list.ts'

const world = await startAdminWorld()
t.teardown(() => world.stop())
const { deps, registry, bucket } = world
await createPlan(deps, owner, readFields(planInput, { code: 'gold' }))

function idOf({ id }: { id: string }): TenantId {
  return id as TenantId
}

function patch(item: TenantItem, body: object, actor: Actor = owner, ifMatch?: number[]) {
  const input = readFields(patchInput, { verify: false, ...body })
  return patchTenant(deps, actor, idOf(item), input, ifMatch ?? null)
}

t.test('a tenant is saved only where its database and its bucket work', async t => {
  const details = await world.makeDatabase('verified')
  const good = { tenant_key: 'verified', ...details, ...bucket, bucket_prefix: 'verified/' }
  const wrong: [object, RegExp][] = [
    [{ db_password: 'wrong' }, /database: the database refuses this user and password/],
    [{ db_name: 'none' }, /database: there is no such database/],
    [{ db_port: 1 }, /database: nothing listens/],
    [{ db_host: 'no-such-host.invalid' }, /database: the host name/],
    [{ db_ssl_mode: 'require' }, /database: the server does not speak TLS/],
    [{ bucket_secret_key: 'wrong' }, /bucket: /],
    [{ bucket_name: 'none' }, /bucket: /],
    [{ bucket_endpoint: 'http://127.0.0.1:1' }, /bucket: nothing listens/],
  ]
  for (const [change, message] of wrong) {
    const input = readFields(createInput, { ...good, ...change })
    await t.rejects(createTenant(deps, owner, input), {
      code: 'CONNECTION_TEST_FAILED',
      publicMessage: message,
    })
  }
  t.equal((await listTenants(deps, { q: 'verified', sort: 'name', limit: 9 })).total, 0)
  const created = await createTenant(deps, owner, readFields(createInput, good))
  t.match(created, { tenant_key: 'verified', problem: null, has_bucket_keys: true })
  await t.rejects(createTenant(deps, owner, readFields(createInput, good)), { code: 'CONFLICT' })
  const report = await testConnection(deps, owner, idOf(created))
  t.match(report, { ok: true, database: { ok: true }, bucket: { ok: true } })
  const other = await testConnection(deps, owner, idOf(created), { db_password: 'wrong' })
  t.match(other, { ok: false, database: { step: 'credentials' }, bucket: { ok: true } })
  t.equal(await storedPassword(world, created), details.db_password, 'nothing was saved by a test')
})

t.test('in production a test does not reach the machine itself', async t => {
  const item = await world.create('on-loopback', bucket && { ...bucket, bucket_prefix: 'loop/' })
  const production = { ...deps, addressPolicy: makeAddressPolicy([]) }
  const report = await testConnection(production, owner, idOf(item))
  t.match(report, { ok: false, database: { step: 'address' }, bucket: { step: 'address' } })
})

t.test('a patch sets what it names, keeps the rest, and shows no secret', async t => {
  const item = await world.create('patched')
  const changed = await patch(item, {
    ...{ name: 'Patched', plan: 'gold', app_url: 'https://own.example', db_pool_max: 7 },
    ...{ limits: { requests_per_s: 100 }, mode: 'dedicated', db_password: 'a new one' },
  })
  t.match(changed, {
    ...{ name: 'Patched', plan: 'gold', app_url: 'https://own.example', db_pool_max: 7 },
    ...{ limits: { requests_per_s: 100 }, mode: 'dedicated', db_host: item.db_host },
    billing_readiness: { shared_billing: false, dedicated_billing: true },
  })
  t.notMatch(JSON.stringify(changed), /a new one/)
  t.equal(await storedPassword(world, item), 'a new one')
  await t.rejects(patch(item, { mode: 'shared' }), { code: 'CONFLICT' })
  t.match(await patch(item, { mode: 'dedicated', plan: null }), { plan: null })
  const same = await patch(item, { name: 'Patched' })
  t.equal(same.config_version, (await patch(item, {})).config_version, 'no change is no version')
})

t.test('fields that do not fit are refused by name, and no value is quoted', async t => {
  const item = await world.create('fields')
  const refused: [object, RegExp][] = [
    [{ colour: 'red' }, /^colour: no such field$/],
    [{ tenant_key: 'other' }, /^tenant_key: no such field$/],
    [{ db_port: 'SECRET' }, /^db_port: must be a whole number/],
    [{ db_port: 70_000 }, /^db_port: /],
    [{ db_host: 'a b' }, /^db_host: /],
    [{ db_password: 'SECRET\n' }, /^db_password: must have no control characters$/],
    [{ app_url: 'https://user:SECRET@x' }, /^app_url: /],
    [{ app_url: 'file:///etc' }, /^app_url: /],
    [{ limits: { requests_per_minute: 1 } }, /^limits\.requests_per_minute: no such field$/],
    [{ limits: { requests_per_s: 'SECRET' } }, /^limits\.requests_per_s: must be a number/],
    [{ limits: { sockets: 1.5 } }, /^limits\.sockets: must be a whole number/],
    [{ plan: 'no-such-plan' }, /^plan: there is no such plan$/],
    [{ bucket_prefix: '../x/' }, /^bucket_prefix: /],
    [{ bucket_region: 'eu' }, /^bucket_name: is required/],
    [{ bucket_name: 'b', bucket_access_key: 'SECRET' }, /^bucket_access_key: /],
    [{ token_issuer: 'https://idp' }, /^token_jwks_url: /],
    [{ tokens_valid_after: 'SECRET' }, /^tokens_valid_after: /],
    [{ status: 'gone' }, /^status: must be one of/],
  ]
  for (const [body, message] of refused) {
    const error = await t.rejects(async () => patch(item, body), { code: 'VALIDATION_FAILED' })
    const { publicMessage } = error as unknown as { publicMessage: string }
    t.match(publicMessage, message, JSON.stringify(body))
    t.notMatch(publicMessage, /SECRET/)
  }
  const own = { token_issuer: 'https://platform.example', token_audience: 'api' }
  const taken = patch(item, { ...own, token_jwks_url: 'https://platform.example/jwks' })
  await t.rejects(taken, { code: 'VALIDATION_FAILED' })
})

t.test('a change on an older version of the tenant is refused', async t => {
  const item = await world.create('versions')
  const stale = { config_version: item.config_version }
  await patch(item, { name: 'first', ...stale }, owner, [item.config_version])
  await t.rejects(patch(item, { name: 'second', ...stale }), { code: 'CONFLICT' })
  await t.rejects(patch(item, { name: 'third' }, owner, [item.config_version]), {
    code: 'PRECONDITION_FAILED',
  })
  const expected = { ifMatch: [item.config_version] }
  await t.rejects(setTenantStatus(deps, owner, idOf(item), 'suspended', null, expected), {
    code: 'PRECONDITION_FAILED',
  })
  t.match((await listTenants(deps, { q: 'versions', sort: 'name', limit: 1 })).items, [
    { name: 'first', status: 'active' },
  ])
})

t.test('changes at once: each is applied, or refused by a clear code', async t => {
  const item = await world.create('crowd')
  const all = await Promise.allSettled([
    ...[1, 2, 3, 4].map(n => patch(item, { name: `name ${n}` })),
    ...[1, 2, 3].map(() => revokeTenantSessions(deps, owner, idOf(item), null)),
  ])
  for (const one of all) if (one.status === 'rejected') t.match(one.reason, { code: 'CONFLICT' })
  t.ok(all.some(({ status }) => status === 'fulfilled'))
})

t.test('the stored password goes to another host only with an owner’s key', async t => {
  const item = await world.create('moved')
  const move = { db_host: 'attacker.example' }
  await t.rejects(patch(item, move, operator), { code: 'VALIDATION_FAILED' })
  await t.rejects(testConnection(deps, operator, idOf(item), move), { code: 'VALIDATION_FAILED' })
  await t.rejects(patch(item, { db_ssl_mode: 'disable' }, operator), { code: 'VALIDATION_FAILED' })
  t.match(await patch(item, { ...move, db_password: 'theirs' }, operator), move)
  t.match(await patch(item, { db_host: 'db2.example' }), { db_host: 'db2.example' })
})

t.test('no two tenants get one database by mistake', async t => {
  const first = await world.create('first-db')
  const second = await world.create('second-db')
  await t.rejects(patch(second, { db_name: first.db_name }), { code: 'CONFLICT' })
  const meant = { db_name: first.db_name, allow_shared_database: true }
  t.match(await patch(second, meant), { db_name: first.db_name })
})

t.test('a status moves where it may, with its reason', async t => {
  const item = await world.create('status')
  const move = (to: 'active' | 'suspended' | 'maintenance' | 'archived' | 'provisioning') =>
    setTenantStatus(deps, owner, idOf(item), to, `to ${to}`)
  t.match(await move('suspended'), { status: 'suspended', status_reason: 'to suspended' })
  t.match(await move('suspended'), { status: 'suspended' }, 'twice is once')
  t.match(await move('maintenance'), { status: 'maintenance' })
  t.match(await move('active'), { status: 'active', archived_at: null })
  await t.rejects(move('provisioning'), { code: 'CONFLICT' })
  await t.rejects(unarchiveTenant(deps, owner, idOf(item), null), { code: 'CONFLICT' })
  t.ok((await move('archived')).archived_at)
  await t.rejects(move('active'), { code: 'CONFLICT' })
  const back = await unarchiveTenant(deps, owner, idOf(item), 'they paid')
  t.match(back, { status: 'suspended', status_reason: 'they paid', archived_at: null })
  const nobody = setTenantStatus(deps, owner, randomUUID() as TenantId, 'active', null)
  await t.rejects(nobody, { code: 'NOT_FOUND' })
})

t.test('only an archived tenant is deleted, after its days or by force, its key typed', async t => {
  const item = await world.create('deleted')
  const removal = { confirm: 'deleted', force: false, reason: null }
  const remove = (change: object, actor = owner, days = 30) =>
    removeTenant({ ...deps, archiveGraceDays: days }, actor, idOf(item), { ...removal, ...change })
  await t.rejects(remove({ force: true }), { code: 'CONFLICT' }, 'it is active')
  await setTenantStatus(deps, owner, idOf(item), 'archived', null)
  await t.rejects(remove({}), { code: 'CONFLICT', publicMessage: /can be deleted from 20/ })
  await t.rejects(remove({ confirm: 'Deleted' }), { code: 'VALIDATION_FAILED' })
  await t.rejects(remove({ force: true }, operator), { code: 'ADMIN_SCOPE_TOO_NARROW' })
  t.strictSame(await remove({}, operator, 0), { id: item.id, tenant_key: 'deleted' })
  await t.rejects(remove({}), { code: 'NOT_FOUND' })
  const { items } = await listAudit(deps, { tenantId: idOf(item), limit: 1 })
  t.match(items, [{ action: 'tenant.delete', actor: operator.name, tenant_key: 'deleted' }])
})

t.test('a list is filtered, searched, sorted and paged without repeats or gaps', async t => {
  for (const n of [1, 2, 3, 4, 5]) {
    const change = { name: n === 3 ? null : `Page%_${n}`, mode: n > 3 ? 'dedicated' : 'shared' }
    await world.create(`page-${n}`, change)
  }
  const keys = (items: readonly TenantItem[]) => items.map(item => item.tenant_key)
  const all = ['page-1', 'page-2', 'page-3', 'page-4', 'page-5']
  for (const sort of ['tenant_key', '-tenant_key', 'name', 'created_at', '-created_at'] as const) {
    const byPage: string[] = []
    const byCursor: string[] = []
    let cursor: string | undefined
    for (const page of [1, 2, 3]) {
      const one = await listTenants(deps, { q: 'PAGE-', sort, limit: 2, page })
      byPage.push(...keys(one.items))
      const other = await listTenants(deps, { q: 'page-', sort, limit: 2, cursor })
      byCursor.push(...keys(other.items))
      cursor = other.next_cursor ?? undefined
      t.match([one.total, other.total, one.page], [5, 5, page])
    }
    t.equal(cursor, undefined, 'the last page has no next one')
    t.strictSame(byPage, byCursor, sort)
    t.strictSame([...byPage].sort(), all)
    if (/^(tenant_key|created_at)$/.test(sort)) t.strictSame(byPage, all)
    if (sort.startsWith('-')) t.strictSame(byPage, [...all].reverse())
  }
  for (const sort of ['tenant_key', '-name'] as const) {
    const byPage: string[] = []
    const byCursor: string[] = []
    let cursor: string | undefined
    for (let page = 1; ; page++) {
      const one = await listTenants(deps, { sort, limit: 3, page })
      const other = await listTenants(deps, { sort, limit: 3, cursor })
      byPage.push(...keys(one.items))
      byCursor.push(...keys(other.items))
      cursor = other.next_cursor ?? undefined
      if (cursor !== undefined) continue
      t.equal(one.next_cursor, null)
      t.equal(byPage.length, one.total, 'without a search too')
      break
    }
    t.strictSame(byPage, byCursor, sort)
    t.equal(new Set(byPage).size, byPage.length)
  }
  const filtered = { mode: 'dedicated', q: 'page-', sort: 'name', limit: 9 } as const
  t.strictSame(keys((await listTenants(deps, filtered)).items), ['page-4', 'page-5'])
  t.equal((await listTenants(deps, { q: '%_1', sort: 'name', limit: 9 })).total, 1, 'no wildcards')
  t.equal((await listTenants(deps, { q: "' OR 1=1", sort: 'name', limit: 9 })).total, 0)
  const beyond = await listTenants(deps, { q: 'page-', sort: 'name', limit: 2, page: 9 })
  t.match(beyond, { items: [], total: 5, next_cursor: null }, 'past the last page')
  const [first] = (await listTenants(deps, { q: 'page-1', sort: 'name', limit: 9 })).items
  const byId = { q: first?.id.toUpperCase(), sort: 'name', limit: 9 } as const
  t.strictSame(keys((await listTenants(deps, byId)).items), ['page-1'], 'a whole id')
  const partOfId = { ...byId, q: first?.id.slice(0, 13) }
  t.equal((await listTenants(deps, partOfId)).total, 0, 'but no part of one')
  const across = { q: 'page-1Page', sort: 'name', limit: 9 } as const
  t.equal((await listTenants(deps, across)).total, 0, 'nothing across two fields')
  for (const cursor of ['x', 'W10', Buffer.from('["name","a","b"]').toString('base64url')]) {
    const strange = listTenants(deps, { sort: 'name', limit: 9, cursor })
    await t.rejects(strange, { code: 'VALIDATION_FAILED' })
  }
})

t.test('a row that cannot be served is shown with its problem, and can be mended', async t => {
  const { rows } = await registry.admin.query(
    "INSERT INTO tenants (tenant_key, db_host) VALUES ('half', 'h') RETURNING id",
  )
  const page = await listTenants(deps, { q: 'half', sort: 'name', limit: 9 })
  t.match(page.items, [{ tenant_key: 'half', problem: /db_name/, has_db_password: false }])
  const [half] = page.items as [TenantItem]
  t.equal(half.id, rows[0].id)
  const mended = { db_name: 'd', db_user: 'u', db_password: 'p' }
  t.match(await patch(half, mended), { problem: null })
})

t.test('usage: counters are summed, people counted once, storage is its last value', async t => {
  const item = await world.create('used')
  await registry.admin.query(
    `INSERT INTO customer_usage_daily (tenant_id, date, api_requests, pdf_generated, active_users, storage_gb)
     VALUES ($1, '2026-01-31', 999, 9, 9, 9), ($1, '2026-02-01', 100, 2, 1, 5.5),
       ($1, '2026-02-28', 50, 1, 2, 2.25), ($1, '2026-03-01', 999, 9, 9, 9)`,
    [item.id],
  )
  await registry.admin.query(
    `INSERT INTO user_activity_daily (tenant_id, date, user_id)
     VALUES ($1, '2026-02-01', 'a'), ($1, '2026-02-28', 'a'), ($1, '2026-02-28', 'b'),
       ($1, '2026-02-27', 'c'), ($1, '2026-03-01', 'd')`,
    [item.id],
  )
  const usage = await usageOf(deps, idOf(item), '2026-02')
  t.match(usage, { api_requests: 150, pdf_generated: 3, active_users: 3, storage_gb: 2.25 })
  t.equal(usage.usage_score, 150 + 3 * 50 + 3 * 10 + 2.25 * 5)
  t.equal(usage.days.length, 2)
  const { days: _, month: __, ...line } = usage
  const page = await listUsage(deps, { q: 'used', sort: 'name', limit: 9 }, '2026-02')
  t.match(page, { month: '2026-02', total: 1, items: [{ ...line, tenant_key: 'used' }] })
  const empty = await listUsage(deps, { q: 'used', sort: 'name', limit: 9 }, '2025-02')
  t.match(empty.items, [{ api_requests: 0, active_users: 0, storage_gb: 0, usage_score: 0 }])
  const none = await usageOf(deps, idOf(item), '2025-02')
  t.match(none, { api_requests: 0, storage_gb: 0, usage_score: 0, days: [] })
  await t.rejects(usageOf(deps, randomUUID() as TenantId, '2026-02'), { code: 'NOT_FOUND' })
  t.equal(scoreOf({ api_requests: 0, pdf_generated: 0, active_users: 0, storage_gb: 0.1 }), 0.5)
})

t.test('every change is in the audit, whoever makes it, and no secret is', async t => {
  const item = await world.create('audited', { ...bucket, bucket_prefix: 'audited/' })
  await patch(item, { name: 'Audited', db_password: 'MARKER-1' }, operator)
  await setTenantStatus(deps, owner, idOf(item), 'suspended', 'unpaid')
  await registry.admin.query("UPDATE tenants SET plan = 'gold' WHERE id = $1", [item.id])
  const { items } = await listAudit(deps, { tenantId: idOf(item), limit: 10 })
  t.match(items, [
    {
      action: 'tenant.update',
      actor: /^postgres@/,
      before: { plan: null },
      after: { plan: 'gold' },
    },
    {
      ...{ action: 'tenant.suspend', actor: owner.name, reason: 'unpaid', request_id: 'request-1' },
      ...{ before: { status: 'active' }, after: { status: 'suspended', status_reason: 'unpaid' } },
    },
    {
      ...{ action: 'tenant.update', actor: operator.name },
      before: { name: null, db_password: '[secret]' },
      after: { name: 'Audited', db_password: '[secret]' },
    },
    { action: 'tenant.create', before: null, after: { bucket_secret_key: '[secret]' } },
  ])
  const { rows } = await registry.admin.query('SELECT a::text AS text FROM admin_audit AS a')
  const all = rows.map(({ text }) => text).join('\n')
  t.notMatch(all, /MARKER|v1\./, 'neither a secret nor its ciphertext')
  t.notOk(all.includes(world.s3.secretKey))
  const first = await listAudit(deps, { tenantId: idOf(item), limit: 3 })
  const rest = await listAudit(deps, {
    ...{ tenantId: idOf(item), limit: 3 },
    cursor: String(first.next_cursor),
  })
  t.match([first.items.length, rest.items.length, rest.next_cursor], [3, 1, null])
  for (const change of ['UPDATE admin_audit SET actor = NULL', 'DELETE FROM admin_audit']) {
    await t.rejects(registry.admin.query(change), /append-only/)
  }
  await t.rejects(registry.admin.query('TRUNCATE admin_audit'), /append-only/)
})

t.test('“sign everyone out” moves forward only', async t => {
  const item = await world.create('sessions')
  const revoked = await revokeTenantSessions(deps, owner, idOf(item), null)
  t.ok(Math.abs(Date.parse(String(revoked.tokens_valid_after)) - Date.now()) < 60_000)
  const later = '2100-01-01T00:00:00.000Z'
  t.match(await patch(item, { tokens_valid_after: later }), { tokens_valid_after: later })
  const earlier = patch(item, { tokens_valid_after: '2026-01-01T00:00:00Z' })
  await t.rejects(earlier, { code: 'VALIDATION_FAILED' })
  const again = await revokeTenantSessions(deps, owner, idOf(item), null)
  t.equal(again.tokens_valid_after, later)
})
