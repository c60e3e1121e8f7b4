import { PutObjectCommand } from '@aws-sdk/client-s3'
import t from 'tap'
import type { TenantItem } from './admin/item.ts'
import { startAdminWorld } from './admin/test-kit.ts'
import { usageOf } from './admin/usage.ts'
import { runHere } from './cli/test-kit.ts'
import { sweep } from './cli/usage-sweep.ts'
import { makeBucketClient } from './lib/bucket-client.ts'
import { takeSweepLease } from './sweep-lease.ts'
import type { TenantId } from './tenant.ts'
import { applyUsage } from './usage-batch.ts'

const world = await startAdminWorld()
t.teardown(() => world.stop())
const { deps, registry, s3 } = world
const FLAGS = { atOnce: 4, perHost: 2, tenantTimeout: 30 }
const run = (change: object = {}) =>
  runHere(world, (session, streams) => sweep(session, { ...FLAGS, ...change }, streams))

async function put(key: string, bytes: number): Promise<void> {
  const place = {
    ...{ endpoint: s3.endpoint, region: null },
    ...{ access_key: s3.accessKey, secret_key: s3.secretKey },
  }
  const limits = { connectMs: 5000, idleMs: 5000, socketsMax: 1, addressPolicy: null }
  const client = makeBucketClient(place, limits)
  const command = { Bucket: 'shared', Key: key, Body: Buffer.alloc(bytes) }
  await client.send(new PutObjectCommand(command))
  client.destroy()
}

const today = () => new Date().toISOString().slice(0, 10)
const rowOf = async ({ id }: TenantItem) =>
  (await registry.admin.query('SELECT * FROM customer_usage_daily WHERE tenant_id = $1', [id])).rows

t.test(
  'each tenant’s own database and objects are measured, and one that fails stops no other',
  async t => {
    const full = await world.create('full', { ...world.bucket, bucket_prefix: 'full/' })
    const other = await world.create('other', { ...world.bucket, bucket_prefix: 'other/' })
    const plain = await world.create('plain')
    const broken = await world.create('broken', { db_password: 'wrong' })
    await registry.admin.query("UPDATE tenants SET status = 'suspended' WHERE id = $1", [plain.id])
    await put('full/a', 1500)
    await put('full/b', 500)
    await put('fuller/c', 7)
    const text = await run()
    t.equal(text.code, 1)
    t.equal(text.out, '3 tenants measured, 1 failed\n')
    t.match(text.err, /^broken: database: the database refuses this user and password\n$/)
    const [row] = await rowOf(full)
    t.equal(row.bucket_bytes, '2000', 'below its prefix and nothing else')
    t.ok(Number(row.database_bytes) > 1_000_000)
    t.equal(Number(row.storage_gb), Math.round((Number(row.database_bytes) + 2000) / 1000) / 1e6)
    t.equal((await rowOf(other))[0].bucket_bytes, '0')
    t.match(
      (await rowOf(plain))[0],
      { bucket_bytes: null, api_requests: '0' },
      'suspended ones too',
    )
    t.strictSame(await rowOf(broken), [])
    await registry.admin.query('DELETE FROM tenants WHERE id = $1', [broken.id])
    const json = await run({ json: true })
    t.equal(json.code, 0)
    const lines = json.out
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
    t.match(lines.at(-1), { event: 'end', measured: 3, failed: 0 })
    t.equal(lines.filter(({ event }) => event === 'tenant').length, 3)
  },
)

t.test(
  'storage is a level: measured twice it is the same, and requests of a day do not hide it',
  async t => {
    const item = await world.create('level')
    const of = { tenant_id: item.id }
    await registry.admin.query(
      `INSERT INTO customer_usage_daily (tenant_id, date, storage_gb, storage_measured_at)
     VALUES ($1, '2026-03-01', 3, now()), ($1, '2026-03-02', 2.5, now())`,
      [item.id],
    )
    const batch = { instance: item.id, sequence: 1, sealedAtMs: Date.now() }
    const days = [{ ...of, date: '2026-03-03', responses_2xx: 4 }]
    await applyUsage(deps.store, { ...batch, days, users: [], sketches: [], counters: [] })
    const usage = await usageOf(deps, item.id as TenantId, '2026-03', true)
    t.match(usage, { storage_gb: 2.5, api_requests: 4 })
    t.match(usage.daily?.at(-1), { responses_2xx: 4, database_bytes: null, counters: {} })
    t.equal((await run()).code, 0)
    const [, , , first] = await rowOf(item)
    t.equal((await run()).code, 0)
    const rows = await rowOf(item)
    t.equal(rows.length, 4)
    t.equal(rows.find(row => row.database_bytes !== null).storage_gb, first.storage_gb)
    t.match(
      (await usageOf(deps, item.id as TenantId, today().slice(0, 7))).storage_gb,
      Number(first.storage_gb),
    )
  },
)

t.test('two sweeps never meet, and one that died holds nobody up', async t => {
  const lease = await takeSweepLease(deps.store)
  t.ok(lease)
  const second = await run()
  t.match(second, { code: 5, err: /another sweep is under way/ })
  await registry.admin.query("UPDATE usage_sweeps SET expires_at = now() - interval '1 s'")
  t.equal((await run()).code, 0, 'it said nothing for a minute')
  await lease?.release()
  t.equal((await registry.admin.query('SELECT FROM usage_sweeps')).rowCount, 0)
})
