import { randomUUID } from 'node:crypto'
import { createServer, type Socket } from 'node:net'
import { Writable } from 'node:stream'
import t from 'tap'
import { sharedDatabases } from './database-place.ts'
import { Fault } from './lib/errors.ts'
import { makeLog } from './lib/log.ts'
import { revokedTokens, revokeSessions, revokeTokens } from './revocation-rows.ts'
import { RegistryStore } from './store.ts'
import type { Issuer, TenantId, TenantIssuer, TenantKey } from './tenant.ts'
import { changedSince } from './tenant-changes.ts'
import { eachTenant, findListedTenant } from './tenant-list.ts'
import { insertTenant, writeBucket, writeDb, writeIssuer, writeStatus } from './tenant-write.ts'
import { newTenant, silent, startTestRegistry } from './test-kit.ts'

const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
t.teardown(async () => {
  await store.close()
  await registry.stop()
})

const bucket = {
  provider: 'minio',
  endpoint: 'http://127.0.0.1:9000',
  region: 'eu',
  name: 'shared-bucket',
  prefix: null as string | null,
  accessKeyEncrypted: 'v1.a',
  secretKeyEncrypted: 'v1.b',
}

function isFault(code: string, pattern = /./) {
  return (error: unknown) =>
    error instanceof Fault && error.code === code && pattern.test(error.reason)
}

async function rejectsWith(test: Tap, work: Promise<unknown>, code: string, pattern?: RegExp) {
  const error = await work.then(
    () => null,
    (e: unknown) => e,
  )
  test.ok(isFault(code, pattern)(error), `${code}, got ${error}`)
  return error as Fault
}
type Tap = Pick<typeof t, 'ok'>

t.test('a created tenant is found by id and by key, and by no other', async t => {
  const wanted = newTenant({ name: 'Acme', bucket: { ...bucket, name: 'b1', prefix: 'acme/' } })
  const created = await insertTenant(store, wanted)
  t.match(created, { id: wanted.id, key: wanted.key, name: 'Acme', db: wanted.db })
  t.strictSame(await store.findById(wanted.id), created)
  t.strictSame(await store.findByKey(wanted.key), created)
  t.equal(await store.findById(randomUUID() as string as TenantId), null)
  t.equal(await store.findByKey('nobody' as TenantKey), null)
})

t.test('a key that an older tool wrote in capitals is found in lower case', async t => {
  const id = randomUUID()
  await registry.admin.query(
    `INSERT INTO tenants (id, tenant_key, db_host, db_name, db_user, db_password_encrypted)
     VALUES ($1, 'OldCo', 'h', 'd', 'u', 'x')`,
    [id],
  )
  t.equal((await store.findByKey('oldco' as TenantKey))?.id, id)
})

t.test('sign everyone out: the line moves forward only, and is told as a change', async t => {
  const tenant = await insertTenant(store, newTenant())
  t.equal(tenant.tokensValidAfterMs, null)
  const beforeMs = Date.now()
  const first = await revokeSessions(store, tenant.id)
  const signedOut = await store.findById(tenant.id)
  t.equal(signedOut?.tokensValidAfterMs, first?.getTime())
  t.ok(Math.abs((first as Date).getTime() - beforeMs) < 60_000)
  t.ok((signedOut?.configVersion ?? 0) > tenant.configVersion)
  await registry.admin.query(
    `UPDATE tenants SET tokens_valid_after = now() + interval '1 day' WHERE id = $1`,
    [tenant.id],
  )
  const meant = (await store.findById(tenant.id))?.tokensValidAfterMs
  t.equal((await revokeSessions(store, tenant.id))?.getTime(), meant)
  t.equal(await revokeSessions(store, randomUUID() as string as TenantId), null)
})

t.test('revoked tokens are read page by page, each of its tenant, without those over', async t => {
  const [one, two] = [newTenant().id, newTenant().id]
  const expiresAtS = Math.floor(Date.now() / 1000) + 900
  const all = Array.from({ length: 7000 }, (_, i) => ({
    ...{ tenantId: i % 2 ? one : two, tokenId: `j${i >> 1}`, expiresAtS },
  }))
  await revokeTokens(store, all)
  await revokeTokens(store, [{ tenantId: one, tokenId: 'over', expiresAtS: expiresAtS - 2000 }])
  const read = new Set<string>()
  let pages = 0
  for await (const page of revokedTokens(store)) {
    pages += 1
    for (const { tenantId, tokenId } of page) read.add(`${tenantId} ${tokenId}`)
  }
  t.equal(pages, 2)
  t.strictSame(read, new Set(all.map(({ tenantId, tokenId }) => `${tenantId} ${tokenId}`)))
})

t.test('rows of tokens that expired long ago go with the next write, some at a time', async t => {
  const count = async () => {
    const { rows } = await registry.admin.query(
      `SELECT count(*)::int AS n FROM revoked_tokens WHERE expires_at < now() - interval '1 hour'`,
    )
    return rows[0].n as number
  }
  await registry.admin.query(
    `INSERT INTO revoked_tokens
     SELECT gen_random_uuid(), 'x', now() - interval '2 hours' FROM generate_series(1, 1500)`,
  )
  const { id } = newTenant()
  const write = () =>
    revokeTokens(store, [{ tenantId: id, tokenId: 'n', expiresAtS: Date.now() / 1000 + 900 }])
  await write()
  t.equal(await count(), 500)
  await write()
  t.equal(await count(), 0)
})

t.test('what is no token id is refused, and leaves nothing', async t => {
  const { id: tenantId } = newTenant()
  const expiresAtS = Math.floor(Date.now() / 1000) + 900
  for (const tokenId of ['', 'a b', 'x'.repeat(129), 'ä']) {
    const work = revokeTokens(store, [
      { tenantId, tokenId: 'good', expiresAtS },
      { tenantId, tokenId, expiresAtS },
    ])
    await rejectsWith(t, work, 'VALIDATION_FAILED', /revoked_tokens_id_form/)
  }
  const left = 'SELECT FROM revoked_tokens WHERE tenant_id = $1'
  t.equal((await registry.admin.query(left, [tenantId])).rowCount, 0)
})

t.test('a taken key is a CONFLICT that shows no row', async t => {
  const first = await insertTenant(store, newTenant())
  const error = await rejectsWith(t, insertTenant(store, newTenant({ key: first.key })), 'CONFLICT')
  t.notMatch(JSON.stringify(error), 'v1.sealed')
})

t.test('no two tenants reach the same objects of a bucket', async t => {
  const make = (prefix: string | null, over: Partial<typeof bucket> = {}) =>
    insertTenant(store, newTenant({ bucket: { ...bucket, ...over, prefix } }))
  await make('eu/acme/')
  await rejectsWith(t, make('eu/acme/'), 'CONFLICT', /overlaps/)
  await rejectsWith(t, make('eu/'), 'CONFLICT', /overlaps/)
  await rejectsWith(t, make('eu/acme/inner/'), 'CONFLICT', /overlaps/)
  await rejectsWith(t, make(null), 'CONFLICT', /overlaps/)
  await rejectsWith(t, make('eu/acme/', { endpoint: 'HTTP://127.0.0.1:9000/' }), 'CONFLICT')
  await rejectsWith(t, make('no-slash'), 'VALIDATION_FAILED')
  await t.resolves(make('eu/acme2/'))
  await t.resolves(make('eu/acme/', { endpoint: 'http://127.0.0.1:9001' }))

  const racers = ['x/', 'x/y/', 'x/', 'x/y/z/'].map(prefix => make(prefix, { name: 'raced' }))
  const outcomes = await Promise.allSettled(racers)
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1, 'one racer wins')

  const other = await make('other/', { name: 'raced' })
  const moved = { ...bucket, name: 'raced', prefix: 'x/q/' }
  const winner = outcomes.find(o => o.status === 'fulfilled')
  if (winner?.status === 'fulfilled' && winner.value.bucket?.prefix === 'x/') {
    await rejectsWith(t, writeBucket(store, other.id, moved, other.configVersion), 'CONFLICT')
  }
  const mine = { ...bucket, name: 'raced', prefix: 'other/', accessKeyEncrypted: 'v1.new' }
  const rekeyed = await writeBucket(store, other.id, mine, other.configVersion)
  t.equal(rekeyed?.tenant?.bucket?.accessKeyEncrypted, 'v1.new', 'its own prefix is no overlap')
  const bare = await writeBucket(store, other.id, null, rekeyed?.configVersion ?? 0)
  t.match(bare, { tenant: { bucket: null }, problem: null })
})

t.test('a tenant’s issuer is set, found and taken away, and no two tenants have one', async t => {
  const [one, two] = [
    await insertTenant(store, newTenant()),
    await insertTenant(store, newTenant()),
  ]
  t.equal(one.tokenIssuer, null)
  const issuer: TenantIssuer = {
    issuer: 'https://id.example/realms/one' as Issuer,
    jwksUrl: 'https://id.example/realms/one/keys',
    audience: 'doorman',
  }
  const set = await writeIssuer(store, one.id, issuer, one.configVersion)
  t.strictSame(set?.tenant?.tokenIssuer, issuer)
  t.ok((set?.configVersion ?? 0) > one.configVersion)
  t.equal((await store.find({ by: 'issuer', issuer: issuer.issuer }))?.id, one.id)
  t.equal(await store.findByIssuer(`${issuer.issuer}/` as Issuer), null)
  await rejectsWith(t, writeIssuer(store, one.id, null, one.configVersion), 'CONFLICT', /meanwhile/)
  const taken = writeIssuer(store, two.id, issuer, two.configVersion)
  await rejectsWith(t, taken, 'CONFLICT', /issuer exists already/)
  for (const wrong of [
    { issuer: 'with blank' as Issuer },
    { issuer: '' as Issuer },
    { issuer: 'x'.repeat(256) as Issuer },
    { jwksUrl: 'ftp://id.example' },
    { jwksUrl: '' },
    { jwksUrl: `https://${'x'.repeat(2100)}` },
    { audience: '' },
  ]) {
    const act = writeIssuer(store, two.id, { ...issuer, ...wrong }, two.configVersion)
    await rejectsWith(t, act, 'VALIDATION_FAILED')
  }
  await t.rejects(
    registry.admin.query('UPDATE tenants SET token_audience = NULL WHERE id = $1', [one.id]),
    { code: '23514' },
  )
  await writeIssuer(store, one.id, null, set?.configVersion ?? 0)
  t.equal((await store.findById(one.id))?.tokenIssuer, null)
  t.ok(await writeIssuer(store, two.id, issuer, two.configVersion), 'and is free again')
})

t.test('the version moves on every change of anything, and nobody can set it', async t => {
  const { id, configVersion } = await insertTenant(store, newTenant())
  await registry.admin.query(`INSERT INTO plans (code, name) VALUES ('p', 'P')`)
  const columns = [
    `name = 'n'`,
    `plan = 'p'`,
    `limits = '{"requests_per_s":1}'`,
    `tokens_valid_after = now()`,
    `app_url = 'http://x'`,
    `schema_version = '0001'`,
    `config_version = 1, updated_at = 'epoch', changed_xid = '3', db_pool_max = 2`,
  ]
  let last = configVersion
  for (const column of columns) {
    await registry.admin.query(`UPDATE tenants SET ${column} WHERE id = $1`, [id])
    const tenant = await store.findById(id)
    t.ok((tenant?.configVersion ?? 0) > last, column)
    t.ok((tenant?.updatedAt.getTime() ?? 0) > Date.now() - 60_000)
    last = tenant?.configVersion ?? 0
  }
  await registry.admin.query(`UPDATE tenants SET name = name, config_version = 7 WHERE id = $1`, [
    id,
  ])
  t.equal((await store.findById(id))?.configVersion, last, 'an update that changes nothing is none')
  await t.rejects(registry.admin.query('TRUNCATE tenants'), /refused/)
})

t.test('a change on top of a version that moved meanwhile is a CONFLICT', async t => {
  const tenant = await insertTenant(store, newTenant())
  const db = { ...tenant.db, host: 'db2', passwordEncrypted: 'v1.other' }
  const changed = await writeDb(store, tenant.id, db, tenant.configVersion)
  t.match(changed?.db, db)
  await rejectsWith(t, writeDb(store, tenant.id, tenant.db, tenant.configVersion), 'CONFLICT')
  t.match((await store.findById(tenant.id))?.db, db)
  const free = { ...db, name: 'free' }
  t.equal(await writeDb(store, randomUUID() as string as TenantId, free, 1), null)
})

t.test('no two tenants get one database, unless it is said that they should', async t => {
  const first = await insertTenant(store, newTenant())
  const same = { ...first.db, user: 'other', host: first.db.host.toUpperCase() }
  const twin = newTenant({ db: same })
  const error = await rejectsWith(t, insertTenant(store, twin), 'CONFLICT')
  t.match(error.publicMessage, `tenant ${first.key} has the database 127.0.0.1:5432/`)
  t.equal(await store.findById(twin.id), null)
  await insertTenant(store, newTenant({ db: { ...same, port: 5433 } }))

  const second = await insertTenant(store, newTenant())
  await rejectsWith(t, writeDb(store, second.id, same, second.configVersion), 'CONFLICT')
  t.strictSame((await store.findById(second.id))?.db, second.db)
  const db = { ...newTenant().db, host: 'raced' }
  const races = [1, 2, 3, 4].map(() => insertTenant(store, newTenant({ db })))
  const won = (await Promise.allSettled(races)).filter(race => race.status === 'fulfilled')
  t.equal(won.length, 1, 'not even at the same moment')

  const meant = { allowSharedDatabase: true }
  const moved = await writeDb(store, second.id, same, second.configVersion, meant)
  t.match(moved, { db: same, problem: null })
  t.strictSame(
    [...(await sharedDatabases(store))].sort(),
    [first.id as string, second.id as string].sort(),
  )
  const rotated = { ...same, passwordEncrypted: 'v1.rotated' }
  const kept = await writeDb(store, second.id, rotated, moved?.configVersion ?? 0)
  t.match(kept?.db, rotated, 'who shares already may change the rest')
  await registry.admin.query('DELETE FROM tenants')
})

t.test('a row that is not fit can be looked at, suspended and mended', async t => {
  const { id, key, db } = await insertTenant(store, newTenant())
  await registry.admin.query('UPDATE tenants SET db_host = NULL WHERE id = $1', [id])
  const found = await findListedTenant(store, ` ${key.toUpperCase()} `)
  t.match(found, { id, tenant: null, problem: /db_host/, db: { host: null, name: db.name } })
  t.strictSame(await findListedTenant(store, id), found)
  t.equal(await findListedTenant(store, randomUUID()), null)
  t.match(await writeStatus(store, id, 'suspended', 'why'), { status: 'suspended', tenant: null })
  const active = await writeStatus(store, id, 'active', null)
  t.match(active, { status: 'active', problem: /db_host/ })
  const mended = await writeDb(store, id, db, active?.configVersion ?? 0)
  t.match(mended, { tenant: { id, status: 'active', db }, problem: null })
})

t.test('status moves only where the table of transitions leads', async t => {
  const { id, configVersion } = await insertTenant(store, newTenant())
  const suspended = await writeStatus(store, id, 'suspended', 'unpaid')
  t.equal(suspended?.status, 'suspended')
  const again = await writeStatus(store, id, 'suspended', 'unpaid')
  t.equal(again?.configVersion, suspended?.configVersion, 'idempotent')
  t.ok((again?.configVersion ?? 0) > configVersion)
  await rejectsWith(t, writeStatus(store, id, 'provisioning', null), 'CONFLICT')
  t.equal(await writeStatus(store, randomUUID() as string as TenantId, 'active', null), null)
})

t.test('a row that is not fit fails alone, is logged once, and its secrets are not', async t => {
  const lines: string[] = []
  const sink = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  const own = new RegistryStore({ url: registry.url, log: makeLog('x', 'info', sink) })
  const broken = newTenant({ db: { ...newTenant().db, passwordEncrypted: 'v1.MARKER' } })
  await insertTenant(own, broken)
  await registry.admin.query('UPDATE tenants SET db_host = NULL WHERE id = $1', [broken.id])
  const error = await rejectsWith(t, own.findById(broken.id), 'TENANT_CONFIG_INVALID', /db_host/)
  await rejectsWith(t, own.findById(broken.id), 'TENANT_CONFIG_INVALID')
  t.notMatch(error.reason, 'MARKER')
  t.equal(lines.filter(line => line.includes('not configured')).length, 1)
  t.notMatch(lines.join(''), 'MARKER')
  const listing = []
  for await (const row of eachTenant(own)) listing.push(row)
  t.match(listing.find(row => row.id === broken.id)?.problem, /db_host/)
  t.ok(listing.some(row => row.problem === null))
  await own.close()
})

t.test('the listing is complete, in order, and filtered', async t => {
  await registry.admin.query(
    `INSERT INTO tenants (tenant_key, mode, status, db_host, db_name, db_user, db_password_encrypted)
     SELECT 'page-' || i, CASE WHEN i % 2 = 0 THEN 'shared' ELSE 'dedicated' END, 'maintenance',
       'h', 'd', 'u', 'x' FROM generate_series(1, 1201) i`,
  )
  const keys = []
  for await (const { key } of eachTenant(store, { status: 'maintenance' })) keys.push(key)
  t.equal(keys.length, 1201)
  t.equal(new Set(keys).size, 1201)
  let dedicated = 0
  for await (const row of eachTenant(store, { status: 'maintenance', mode: 'dedicated' })) {
    if (row.mode === 'dedicated') dedicated += 1
  }
  t.equal(dedicated, 601)
  await registry.admin.query(`DELETE FROM tenants WHERE tenant_key LIKE 'page-%'`)
})

t.test('the catch-up loses no change, though versions commit out of order', async t => {
  const [first, second] = [
    await insertTenant(store, newTenant()),
    await insertTenant(store, newTenant()),
  ]
  const start = (await changedSince(store, null)).cursor
  t.strictSame((await changedSince(store, start)).changes, [], 'nothing changed')

  const [slow, quick] = [await registry.admin.connect(), await registry.admin.connect()]
  await slow.query('BEGIN')
  await slow.query(`UPDATE tenants SET name = 'slow' WHERE id = $1`, [first.id])
  await quick.query(`UPDATE tenants SET name = 'quick' WHERE id = $1`, [second.id])
  const before = await changedSince(store, start)
  t.strictSame(
    before.changes.map(c => c.id),
    [second.id],
    'what has not committed is not told',
  )
  await slow.query('COMMIT')
  const after = await changedSince(store, before.cursor)
  t.strictSame(
    after.changes.map(c => c.id),
    [first.id],
    'the older version that committed later is',
  )
  t.ok((after.changes[0]?.version ?? 0) < (before.changes[0]?.version ?? 0))
  t.strictSame((await changedSince(store, after.cursor)).changes, [], 'and it is told once')

  await registry.admin.query('DELETE FROM tenants WHERE id = $1', [first.id])
  const deleted = await changedSince(store, after.cursor)
  t.match(deleted.changes, [{ id: first.id, key: first.key, op: 'delete' }])
  await insertTenant(store, newTenant({ id: first.id, key: first.key }))
  const reborn = await changedSince(store, after.cursor)
  t.strictSame(
    reborn.changes.filter(c => c.id === first.id).map(c => c.op),
    ['delete', 'update'],
  )
  slow.release()
  quick.release()
})

t.test('concurrent writers: the catch-up tells the last version of every tenant', async t => {
  const ids = await Promise.all(
    Array.from({ length: 6 }, async () => (await insertTenant(store, newTenant())).id),
  )
  let { cursor } = await changedSince(store, null)
  const told = new Map<string, number>()
  let isDone = false
  const reader = (async () => {
    for (let last = false; ; last = isDone) {
      const read = await changedSince(store, cursor)
      cursor = read.cursor
      for (const { id, version } of read.changes) {
        told.set(id, Math.max(version, told.get(id) ?? 0))
      }
      if (last) return
    }
  })()
  await Promise.all(
    [0, 1, 2, 3].map(async writer => {
      const client = await registry.admin.connect()
      for (let i = 0; i < 40; i++) {
        await client.query('BEGIN')
        await client.query('UPDATE tenants SET name = $2 WHERE id = $1', [
          ids[(writer + i) % ids.length],
          `${writer}.${i}`,
        ])
        if (i % 5 === 0) await client.query('SELECT pg_sleep(0.004)')
        await client.query(i % 7 === 3 ? 'ROLLBACK' : 'COMMIT')
      }
      client.release()
    }),
  )
  isDone = true
  await reader
  for (const id of ids) t.equal(told.get(id), (await store.findById(id))?.configVersion)
})

t.test('too many changes, or a server gone back in time, are a gap', async t => {
  const { cursor } = await changedSince(store, null)
  await registry.admin.query(
    `INSERT INTO tenants (tenant_key, db_host, db_name, db_user, db_password_encrypted)
     SELECT 'many-' || i, 'h', 'd', 'u', 'x' FROM generate_series(1, 1001) i`,
  )
  const many = await changedSince(store, cursor)
  t.equal(many.isGap, true)
  t.equal((await changedSince(store, many.cursor)).isGap, false)
  const ahead = '900000000:900000000:' as typeof cursor
  t.equal((await changedSince(store, ahead)).isGap, true)
  await registry.admin.query(`DELETE FROM tenants WHERE tenant_key LIKE 'many-%'`)
})

t.test('a URL without host, database or user is refused: there is no default database', async t => {
  for (const url of ['postgres://u@/db', 'postgres://u:p@h', 'postgres://h/db', 'mysql://u@h/d']) {
    t.throws(() => new RegistryStore({ url, log: silent }), /PostgreSQL URL/)
  }
  const url = 'postgres://u:MARKER@h/db?sslmode=of'
  t.throws(() => new RegistryStore({ url, log: silent }), /^(?!.*MARKER).*sslmode/)
})

t.test('a Registry that is not there is REGISTRY_UNAVAILABLE', async t => {
  const own = new RegistryStore({ url: 'postgres://u:MARKER@127.0.0.1:1/db', log: silent })
  const error = await rejectsWith(t, own.findById(newTenant().id), 'REGISTRY_UNAVAILABLE')
  t.notMatch(`${error.stack} ${(error.cause as Error).stack}`, 'MARKER')
  await own.close()
})

t.test('a Registry that accepts and stays silent: in time, and no connection is left', async t => {
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket.resume())
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const url = `postgres://u:p@127.0.0.1:${port}/db`
  const own = new RegistryStore({
    url,
    log: silent,
    poolMax: 2,
    queryTimeoutMs: 300,
    connectTimeoutMs: 200,
  })
  const startedAt = Date.now()
  const waits = Array.from({ length: 8 }, () => own.findById(newTenant().id).catch(e => e.code))
  t.strictSame(new Set(await Promise.all(waits)), new Set(['REGISTRY_UNAVAILABLE']))
  t.ok(Date.now() - startedAt < 1500)
  const deadline = Date.now() + 3000
  while (sockets.size > 0 && Date.now() < deadline) await new Promise(r => setTimeout(r, 10))
  t.equal(sockets.size, 0)
  await own.close()
  server.close()
})

t.test('a statement that hangs ends in time and the pool goes on', async t => {
  const tenant = await insertTenant(store, newTenant())
  const own = new RegistryStore({ url: registry.url, log: silent, poolMax: 1, queryTimeoutMs: 300 })
  const blocker = await registry.admin.connect()
  await blocker.query('BEGIN')
  await blocker.query('LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE')
  await rejectsWith(t, own.findById(tenant.id), 'REGISTRY_UNAVAILABLE')
  await blocker.query('ROLLBACK')
  blocker.release()
  t.equal((await own.findById(tenant.id))?.id, tenant.id)
  await registry.admin.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'doorman-registry'`,
  )
  const deadline = Date.now() + 3000
  let found = null
  while (found === null && Date.now() < deadline)
    found = await own.findById(tenant.id).catch(() => null)
  t.equal(found?.id, tenant.id, 'recovers after its connections were cut')
  await own.close()
})
