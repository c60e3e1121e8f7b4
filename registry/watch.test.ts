import { connect, createServer, type Socket } from 'node:net'
import t from 'tap'
import { revokeTokens } from './revocation-rows.ts'
import { RegistryStore } from './store.ts'
import { changedSince, type TenantChange } from './tenant-changes.ts'
import { insertTenant, writeStatus } from './tenant-write.ts'
import { newTenant, silent, startTestRegistry, until } from './test-kit.ts'
import type { Revocation } from './token-id.ts'
import { parseNotice, parseRevocation, TenantWatch, type TenantWatchOptions } from './watch.ts'

const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
t.teardown(async () => {
  await store.close()
  await registry.stop()
})

const SESSIONS = `SELECT pid FROM pg_stat_activity WHERE application_name = 'doorman-watch'`

/** A running watch that listens; polls are far away unless asked for. */
async function startWatch(options: Partial<TenantWatchOptions> = {}) {
  const seen = {
    changes: [] as TenantChange[],
    gaps: 0,
    revocations: [] as Revocation[],
    revocationGaps: 0,
    health: [] as boolean[],
  }
  const watch = new TenantWatch({
    url: registry.url,
    changedSince: cursor => changedSince(store, cursor),
    log: silent,
    onChange: change => seen.changes.push(change),
    onGap: () => {
      seen.gaps += 1
    },
    onRevocation: revocation => seen.revocations.push(revocation),
    onRevocationGap: async () => {
      seen.revocationGaps += 1
    },
    onHealth: isHealthy => seen.health.push(isHealthy),
    pollMs: 600_000,
    ...options,
  })
  watch.start()
  return { watch, seen, sees: (id: string) => seen.changes.some(change => change.id === id) }
}

/** A TCP relay that can go silent without closing: a half-open connection. */
async function startRelay() {
  const sockets = new Set<Socket>()
  const relay = { isSilent: false, url: '', stop: () => {} }
  const server = createServer(near => {
    const far = connect(registry.server.port, registry.server.host)
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.on('data', chunk => {
        if (!relay.isSilent) to.write(chunk)
      })
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const url = new URL(registry.url)
  url.port = String((server.address() as { port: number }).port)
  relay.url = url.href
  relay.stop = () => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  return relay
}

t.test('every kind of change is told within a second, without secrets', async t => {
  const { watch, seen } = await startWatch()
  await until('healthy', () => watch.isHealthy)
  t.equal(seen.gaps, 1, 'the start is a gap')
  const payloads: string[] = []
  const spy = await registry.admin.connect()
  spy.on('notification', ({ payload }) => payloads.push(String(payload)))
  await spy.query('LISTEN tenant_changed')

  const tenant = await insertTenant(store, newTenant())
  await writeStatus(store, tenant.id, 'suspended', null)
  await registry.admin.query('DELETE FROM tenants WHERE id = $1', [tenant.id])
  await until('three notices', () => seen.changes.length >= 3, 1000)
  t.strictSame(
    seen.changes.map(({ id, key, op }) => ({ id, key, op })),
    ['insert', 'update', 'delete'].map(op => ({ id: tenant.id, key: tenant.key, op })),
  )
  const versions = seen.changes.map(({ version }) => version)
  t.strictSame(
    versions,
    [...new Set(versions)].sort((a, b) => a - b),
  )
  await until('the spy has them', () => payloads.length >= 3, 1000)
  for (const payload of payloads) {
    t.strictSame(Object.keys(JSON.parse(payload)).sort(), ['id', 'key', 'op', 'version'])
  }
  t.ok(watch.lastContactAtMs !== null && Date.now() - watch.lastContactAtMs < 5000)
  spy.release(true)
  await watch.stop()
})

t.test('a change that was rolled back is not told', async t => {
  const { watch, seen, sees } = await startWatch()
  await until('healthy', () => watch.isHealthy)
  const ghost = newTenant()
  const client = await registry.admin.connect()
  await client.query('BEGIN')
  await client.query(`INSERT INTO tenants (id, tenant_key) VALUES ($1, $2)`, [ghost.id, ghost.key])
  await client.query('ROLLBACK')
  client.release()
  const real = await insertTenant(store, newTenant())
  await until('the next one', () => sees(real.id))
  t.equal(sees(ghost.id), false)
  t.equal(seen.changes.length, 1)
  await watch.stop()
})

t.test(
  'what changes while the listener is cut is told after it is back, without a gap',
  async t => {
    const [changed, deleted] = [
      await insertTenant(store, newTenant()),
      await insertTenant(store, newTenant()),
    ]
    const { watch, seen, sees } = await startWatch()
    await until('healthy', () => watch.isHealthy)
    const client = await registry.admin.connect()
    // One that began before the cut and commits during it.
    await client.query('BEGIN')
    await client.query(`UPDATE tenants SET name = 'x' WHERE id = $1`, [changed.id])
    const cut = `SELECT pg_terminate_backend(pid) FROM (${SESSIONS}) s`
    await registry.admin.query(cut)
    await client.query('COMMIT')
    client.release()
    await registry.admin.query('DELETE FROM tenants WHERE id = $1', [deleted.id])
    await until('both', () => sees(changed.id) && sees(deleted.id))
    await until('healthy again', () => watch.isHealthy && seen.health.includes(false))
    t.strictSame(seen.health, [true, false, true])
    t.equal(seen.gaps, 1, 'only that of the start')
    t.match(watch.counts, { gap: 1, 'catch-up': 2, 'listener-lost': 1, 'catch-up-failed': 0 })
    await watch.stop()
  },
)

t.test(
  'a revoked token is told within a second, once for each tenant, never the token',
  async t => {
    const { watch, seen } = await startWatch()
    await until('healthy', () => watch.isHealthy)
    t.equal(seen.revocationGaps, 1, 'the start: all are to be read')
    const payloads: string[] = []
    const spy = await registry.admin.connect()
    spy.on('notification', ({ payload }) => payloads.push(String(payload)))
    await spy.query('LISTEN token_revoked')
    const expiresAtS = Math.floor(Date.now() / 1000) + 900
    const [one, two] = [newTenant().id, newTenant().id].map(tenantId => ({
      ...{ tenantId, tokenId: 'the-same', expiresAtS },
    })) as [Revocation, Revocation]
    await revokeTokens(store, [one, two])
    await until('both', () => seen.revocations.length >= 2, 1000)
    const byTenant = (a: Revocation, b: Revocation) => (a.tenantId < b.tenantId ? -1 : 1)
    t.strictSame(seen.revocations.toSorted(byTenant), [one, two].sort(byTenant))
    await revokeTokens(store, [one])
    const longer = { ...two, expiresAtS: expiresAtS + 60 }
    await revokeTokens(store, [longer])
    await until('the longer one', () => seen.revocations.length >= 3)
    t.strictSame(seen.revocations[2], longer, 'what was known already is not told again')
    await until('the spy has them', () => payloads.length >= 3, 1000)
    for (const payload of payloads) {
      t.strictSame(Object.keys(JSON.parse(payload)).sort(), ['exp', 'id', 'tenant'])
      t.match(parseRevocation(payload), { tokenId: 'the-same' })
    }
    t.equal(seen.changes.length, 0)
    spy.release(true)
    await watch.stop()
  },
)

t.test('what is revoked while the listener is cut is told after it is back', async t => {
  const { watch, seen } = await startWatch()
  await until('healthy', () => watch.isHealthy)
  const [early, late] = [newTenant().id, newTenant().id]
  const insert = `INSERT INTO revoked_tokens VALUES ($1, 'x', now() + interval '15 minutes')`
  const client = await registry.admin.connect()
  // One that began before the cut and commits during it, after one that began later.
  await client.query('BEGIN')
  await client.query(insert, [early])
  await registry.admin.query(`SELECT pg_terminate_backend(pid) FROM (${SESSIONS}) s`)
  await registry.admin.query(insert, [late])
  await client.query('COMMIT')
  client.release()
  const told = (id: string) => seen.revocations.some(({ tenantId }) => tenantId === id)
  await until('both', () => told(early) && told(late))
  await until('healthy again', () => watch.isHealthy && seen.health.includes(false))
  t.equal(seen.revocationGaps, 1, 'only that of the start')
  await watch.stop()
})

t.test('revocations that cannot be read after a gap are asked for until they can', async t => {
  let failures = 2
  const { watch, seen } = await startWatch({
    backoffMaxMs: 20,
    onRevocationGap: async () => {
      seen.revocationGaps += 1
      if (failures-- > 0) throw new Error('not now')
    },
  })
  await until('healthy', () => watch.isHealthy)
  t.equal(seen.revocationGaps, 3)
  t.strictSame(seen.health, [true], 'and not before')
  await watch.stop()
})

t.test('a listener that went silent is noticed by the heartbeat and replaced', async t => {
  const relay = await startRelay()
  const { watch, seen, sees } = await startWatch({
    url: relay.url,
    heartbeatMs: 150,
    answerMs: 150,
    backoffMaxMs: 100,
  })
  await until('healthy', () => watch.isHealthy)
  relay.isSilent = true
  const tenant = await insertTenant(store, newTenant())
  await until('unhealthy', () => !watch.isHealthy, 1000)
  t.equal(sees(tenant.id), false)
  relay.isSilent = false
  await until('healthy again', () => watch.isHealthy)
  await until('the change', () => sees(tenant.id))
  t.equal(seen.gaps, 1)
  await watch.stop()
  relay.stop()
})

t.test('the poll alone tells of changes while the listener cannot connect', async t => {
  const { watch, sees, seen } = await startWatch({
    url: 'postgres://u:p@127.0.0.1:1/db',
    pollMs: 30,
    backoffMaxMs: 50,
  })
  await until('the start', () => seen.gaps === 1)
  const tenant = await insertTenant(store, newTenant())
  await until('the change', () => sees(tenant.id))
  t.equal(watch.isHealthy, false)
  t.equal(seen.gaps, 1)
  await watch.stop()
})

t.test('another server behind the same address is a gap', async t => {
  const { watch, seen } = await startWatch({
    backoffMaxMs: 50,
    // As after a fail-over to a server whose transaction ids are behind.
    changedSince: cursor =>
      changedSince(store, seenOnce(cursor) ? ('900000000:900000000:' as typeof cursor) : cursor),
  })
  let calls = 0
  function seenOnce(cursor: unknown) {
    calls += 1
    return cursor !== null && calls === 2
  }
  await until('healthy', () => watch.isHealthy)
  t.equal(seen.gaps, 1)
  await registry.admin.query(`SELECT pg_terminate_backend(pid) FROM (${SESSIONS}) s`)
  await until('the gap', () => seen.gaps === 2)
  await watch.stop()
})

t.test('a role that may not ask for the cluster listens all the same', async t => {
  await registry.admin.query(`
    CREATE ROLE gateway LOGIN PASSWORD 'g';
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO gateway;
    REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC`)
  const url = registry.server.url('registry', 'gateway', 'g')
  const own = new RegistryStore({ url, log: silent })
  const { watch, sees } = await startWatch({
    url,
    changedSince: cursor => changedSince(own, cursor),
  })
  await until('healthy', () => watch.isHealthy)
  const tenant = await insertTenant(store, newTenant())
  await until('the change', () => sees(tenant.id), 1000)
  t.equal(watch.isHealthy, true)
  await watch.stop()
  await own.close()
})

t.test('stop leaves no session and calls nothing back, also when it never connected', async t => {
  const { watch, seen } = await startWatch()
  await until('healthy', () => watch.isHealthy)
  await watch.stop()
  const before = seen.changes.length
  await insertTenant(store, newTenant())
  const deadline = Date.now() + 3000
  let left = 1
  while (left > 0 && Date.now() < deadline)
    left = (await registry.admin.query(SESSIONS)).rows.length
  t.equal(left, 0)
  t.equal(seen.changes.length, before)
  await watch.stop()
  const never = await startWatch({ url: 'postgres://u:p@127.0.0.1:1/db' })
  await never.watch.stop()
  t.equal(never.watch.isHealthy, false)
})

t.test('a payload that is not ours is no change', async t => {
  const good = { id: newTenant().id, key: 'a', version: 1, op: 'update' }
  t.strictSame(parseNotice(JSON.stringify(good)), good)
  for (const bad of [
    undefined,
    '',
    'null',
    '[]',
    '{',
    JSON.stringify({ ...good, id: 'x' }),
    JSON.stringify({ ...good, version: '1' }),
    JSON.stringify({ ...good, op: 'drop' }),
    JSON.stringify({ ...good, key: 1 }),
  ]) {
    t.equal(parseNotice(bad), null, String(bad))
  }
  const token = { tenant: good.id, id: 'a', exp: 1 }
  t.strictSame(parseRevocation(JSON.stringify(token)), {
    ...{ tenantId: good.id, tokenId: 'a', expiresAtS: 1 },
  })
  for (const bad of [
    undefined,
    'null',
    '{',
    JSON.stringify({ ...token, tenant: 'x' }),
    JSON.stringify({ ...token, id: '' }),
    JSON.stringify({ ...token, id: 1 }),
    JSON.stringify({ ...token, exp: '1' }),
  ]) {
    t.equal(parseRevocation(bad), null, String(bad))
  }
})
