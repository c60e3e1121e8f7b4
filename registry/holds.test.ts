import { randomUUID } from 'node:crypto'
import pg from 'pg'
import t from 'tap'
import { awaitHold } from './await-hold.ts'
import { type HoldNotice, parseHoldNotice } from './hold-notice.ts'
import { ackHold, holdAcks, holdsInForce, placeHold, releaseHold } from './holds.ts'
import { LIVE_MS, liveGateways, Membership } from './membership.ts'
import { RegistryStore } from './store.ts'
import type { TenantId } from './tenant.ts'
import { changedSince } from './tenant-changes.ts'
import { insertTenant } from './tenant-write.ts'
import { newTenant, silent, startTestRegistry, until } from './test-kit.ts'
import { TenantWatch } from './watch.ts'

const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
t.teardown(async () => {
  await store.close()
  await registry.stop()
})

const age = (id: string, ms: number) =>
  registry.admin.query(
    `UPDATE gateway_instances SET heartbeat_at = heartbeat_at - $2 * interval '1 ms' WHERE id = $1`,
    [id, ms],
  )
const member = (worker = 0) =>
  new Membership({ store, log: silent, worker, version: '1.2.3', heartbeatMs: 20 })

t.test('a gateway is live while its heartbeat moves, and gone when it leaves', async t => {
  const [one, two] = [member(), member(2)]
  await one.join()
  two.address = '127.0.0.1:9090'
  await two.join()
  t.equal(two.live, 2, 'each knows how many there are')
  const live = await liveGateways(store)
  t.match(
    live.find(({ id }) => id === two.id),
    { pid: process.pid, worker: 2, version: '1.2.3', address: '127.0.0.1:9090' },
  )
  await age(one.id, LIVE_MS * 2)
  await until('the next heartbeat brings it back', () => one.live === 2)
  await one.leave()
  t.strictSame(
    (await liveGateways(store)).map(({ id }) => id),
    [two.id],
  )
  await two.leave()
})

t.test('one that fell silent is not live, and its row goes in the end', async t => {
  const silentOne = randomUUID()
  const insert = `INSERT INTO gateway_instances (id, host, pid, version, started_at) VALUES ($1, 'h', 1, 'v', now())`
  await registry.admin.query(insert, [silentOne])
  t.equal((await liveGateways(store)).length, 1)
  await age(silentOne, LIVE_MS + 1000)
  t.equal((await liveGateways(store)).length, 0)
  await age(silentOne, 25 * 60 * 60 * 1000)
  const other = member()
  await other.join()
  const { rows } = await registry.admin.query('SELECT id FROM gateway_instances')
  t.strictSame(rows, [{ id: other.id }])
  await other.leave()
})

t.test('a tenant has one hold at a time, which ends by itself', async t => {
  const over = async () => {
    const deadline = Date.now() + 5000
    while ((await holdsInForce(store)).length > 0) {
      if (Date.now() > deadline) throw new Error('it does not end')
    }
  }
  const { id } = await insertTenant(store, newTenant())
  const first = await placeHold(store, id, 30_000, 'a move')
  await t.rejects(placeHold(store, id, 30_000, null), { code: 'CONFLICT' })
  t.strictSame(
    (await holdsInForce(store)).map(({ holdId }) => holdId),
    [first.id],
  )
  t.equal(await releaseHold(store, id, randomUUID()), false, 'not by another hold’s id')
  t.equal(await releaseHold(store, id, first.id), true)
  t.equal(await releaseHold(store, id, first.id), false, 'once')
  const second = await placeHold(store, id, 1, null)
  t.not(second.id, first.id)
  await over()
  await t.resolves(placeHold(store, id, 1, null), 'an expired one is in nobody’s way')
  await over()
  await t.rejects(placeHold(store, id, 3_600_000, null), { code: 'VALIDATION_FAILED' })
})

t.test('what gateways say counts for live ones, and zero is not taken back', async t => {
  const { id } = await insertTenant(store, newTenant())
  const hold = await placeHold(store, id, 30_000, null)
  const gateway = member()
  await gateway.join()
  const said = async () => (await holdAcks(store, hold.id)).map(({ inFlight }) => inFlight)
  t.strictSame(await said(), [null], 'it has said nothing')
  await ackHold(store, hold.id, gateway.id, 3)
  t.strictSame(await said(), [3])
  await ackHold(store, hold.id, gateway.id, 0)
  await ackHold(store, hold.id, gateway.id, 3)
  t.strictSame(await said(), [0])
  await ackHold(store, hold.id, randomUUID(), 5)
  t.strictSame(await said(), [0], 'who is not live is not waited for')
  await gateway.leave()
})

t.test('a hold and its end are told within a second, and again by each catch-up', async t => {
  const seen: HoldNotice[] = []
  const watch = new TenantWatch({
    url: registry.url,
    changedSince: cursor => changedSince(store, cursor),
    log: silent,
    onChange: () => {},
    onGap: () => {},
    onRevocation: () => {},
    onRevocationGap: async () => {},
    onHold: notice => seen.push(notice),
    pollMs: 200,
  })
  watch.start()
  t.teardown(() => watch.stop())
  await until('healthy', () => watch.isHealthy)
  const { id } = await insertTenant(store, newTenant())
  const mine = () => seen.filter(({ tenantId }) => tenantId === id)
  const hold = await placeHold(store, id, 30_000, null)
  await until('told', () => mine().length > 0, 1000)
  const [first] = mine() as [HoldNotice]
  t.equal(first.holdId, hold.id)
  t.ok(first.restMs > 25_000 && first.restMs <= 30_000)
  await until('told again', () => mine().length > 2, 2000)
  await releaseHold(store, id, hold.id)
  await until('its end', () => mine().at(-1)?.restMs === 0, 1000)
  t.ok((mine().at(-1)?.seq ?? 0) > first.seq, 'known to be later')
})

t.test('a gateway of a version that knows of no holds is waited for in vain', async t => {
  const { id } = await insertTenant(store, newTenant())
  const hold = await placeHold(store, id, 30_000, null)
  const wait = (ms: number) => awaitHold(store, hold, ms, new AbortController().signal)
  t.strictSame(await wait(5000), [], 'no gateway, nobody to wait for')
  const older = new pg.Client({ connectionString: registry.url, application_name: 'doorman-watch' })
  await older.connect()
  await t.rejects(wait(100), /1 more listen to the Registry/)
  const newer = member()
  await newer.join()
  await ackHold(store, hold.id, newer.id, 0)
  t.equal((await wait(5000)).length, 1, 'it is one that does')
  await newer.leave()
  await older.end()
})

t.test('a notice that is none of ours is no notice', t => {
  const tenant = randomUUID() as string as TenantId
  const good = { tenant, hold: randomUUID(), seq: 1, rest_ms: 5 }
  t.strictSame(parseHoldNotice(JSON.stringify(good)), {
    ...{ tenantId: tenant, holdId: good.hold, seq: 1, restMs: 5 },
  })
  const bad = [undefined, '', '{}', 'null', '[]']
  for (const payload of bad) t.equal(parseHoldNotice(payload), null)
  for (const change of [{ tenant: 'x' }, { hold: 'x' }, { seq: '1' }, { rest_ms: -1 }]) {
    t.equal(parseHoldNotice(JSON.stringify({ ...good, ...change })), null)
  }
  t.end()
})
