import { randomUUID } from 'node:crypto'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startFaultProxy } from '../../registry/fault-proxy.ts'
import { makeLog } from '../../registry/lib/log.ts'
import { RegistryStore } from '../../registry/store.ts'
import { startTestRegistry } from '../../registry/test-kit.ts'
import type { UsageBatch } from '../../registry/usage-batch.ts'
import { UsageWriter } from './usage-writer.ts'

const registry = await startTestRegistry()
t.teardown(() => registry.stop())
const { admin } = registry
const log = makeLog('test', 'silent')

function open(t: Test, url = registry.url, queryTimeoutMs = 2000): RegistryStore {
  const store = new RegistryStore({ url, log, queryTimeoutMs })
  t.teardown(() => store.close())
  return store
}

/** A writer of batches that stand in line, one of a tenant each where nothing else is said. */
function makeWriter(store: Pick<RegistryStore, 'query'>, batches: UsageBatch[]) {
  const written: { sequence: number; isByAnother: boolean }[] = []
  const meter = {
    seal: () => batches.shift() ?? null,
    get unsealed() {
      return batches.length
    },
    written: (sequence: number, isByAnother = false) =>
      void written.push({ sequence, isByAnother }),
    tend() {},
  }
  return { writer: new UsageWriter({ store, meter, log, flushMs: 60_000 }), written }
}

const batchOf = (ids: readonly string[], change: Partial<UsageBatch> = {}): UsageBatch => ({
  ...{ instance: randomUUID(), sequence: 1, sealedAtMs: Date.now() },
  ...{ users: [], sketches: [], counters: [] },
  days: ids.map(tenant_id => ({ tenant_id, date: '2026-03-01', responses_2xx: 3 })),
  ...change,
})

async function countedOf(id: string): Promise<number> {
  const { rows } = await admin.query(
    'SELECT coalesce(sum(api_requests), 0)::int AS n FROM customer_usage_daily WHERE tenant_id = $1',
    [id],
  )
  return rows[0].n
}

/** Each insert of a day of `id` fails with an SQLSTATE, until `mend`. */
async function failWith(sqlState: string, id: string) {
  await admin.query(`
    CREATE OR REPLACE FUNCTION test_fail() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION 'made to fail' USING ERRCODE = '${sqlState}';
    END $$;
    CREATE OR REPLACE TRIGGER test_fail BEFORE INSERT ON customer_usage_daily
      FOR EACH ROW WHEN (NEW.tenant_id = '${id}') EXECUTE FUNCTION test_fail()`)
  return () => admin.query('DROP TRIGGER test_fail ON customer_usage_daily')
}

t.test('what the Registry may take another time waits, whatever its SQLSTATE', async t => {
  const store = open(t)
  const classes = {
    '0A000': 'schema',
    '25006': 'read-only',
    '28000': 'rights',
    '3D000': 'schema',
    '40001': 'conflict',
    '40P01': 'conflict',
    '42501': 'rights',
    '42703': 'schema',
    '42P01': 'schema',
    '53100': 'resources',
    '53200': 'resources',
    '53300': 'resources',
    '55P03': 'conflict',
    '57014': 'timeout',
    '57P01': 'shutdown',
    '57P03': 'shutdown',
    '58030': 'resources',
    '08006': 'unreachable',
    P0001: 'other',
    XX000: 'other',
  } as const
  for (const [sqlState, why] of Object.entries(classes)) {
    const [bad, good] = [randomUUID(), randomUUID()]
    const mend = await failWith(sqlState, bad)
    const { writer, written } = makeWriter(store, [batchOf([bad, good]), batchOf([good])])
    for (let i = 0; i < 2; i++) await writer.flush()
    t.strictSame(written, [], `${sqlState}: nothing is taken for written`)
    t.strictSame([...writer.failures], [[why, 2]], sqlState)
    t.strictSame([writer.refused, await countedOf(bad), await countedOf(good)], [0, 0, 0])
    await mend()
    await writer.flush()
    t.strictSame([await countedOf(bad), await countedOf(good)], [3, 6], `${sqlState}: each once`)
    t.ok(written.every(({ isByAnother }) => !isByAnother))
  }
  t.equal((await admin.query('SELECT FROM usage_refused')).rowCount, 0)
})

t.test('what a batch holds and the Registry never takes is put aside, and that alone', async t => {
  const store = open(t)
  for (const sqlState of ['22003', '22P05', '23514', '23505', '44000', '54000']) {
    const [bad, good, next] = [randomUUID(), randomUUID(), randomUUID()]
    const mend = await failWith(sqlState, bad)
    const first = batchOf([good, bad, next], {
      users: [bad, good].map(tenant_id => ({
        ...{ tenant_id, date: '2026-03-01', user_id: 'u', user_mark: 65 },
      })),
    })
    const { writer, written } = makeWriter(store, [first, batchOf([next])])
    await writer.flush()
    t.strictSame(
      [await countedOf(bad), await countedOf(good), await countedOf(next)],
      [0, 3, 6],
      sqlState,
    )
    t.equal(written.length, 2, 'none waits behind it')
    t.equal(writer.refused, 1)
    const { rows } = await admin.query('SELECT * FROM usage_refused')
    t.match(rows, [{ instance: first.instance, sequence: '1', code: sqlState }])
    t.match(JSON.parse(rows[0].batch), {
      days: [{ tenant_id: bad, responses_2xx: 3 }],
      users: [{ user_id: 'u' }],
    })
    const readmit = 'SELECT usage_readmit(id) AS is_in FROM usage_refused'
    await t.rejects(admin.query(readmit), { code: sqlState }, 'nothing is lost by trying')
    await mend()
    t.strictSame((await admin.query(readmit)).rows, [{ is_in: true }])
    t.strictSame((await admin.query(readmit)).rows, [])
    t.equal(await countedOf(bad), 3)
  }
})

t.test('a value that cannot be stored is put aside too, as it is', async t => {
  const store = open(t)
  const [bad, good] = [randomUUID(), randomUUID()]
  const users = [{ tenant_id: bad, date: '2026-03-01', user_id: 'a\0b', user_mark: 65 }]
  const vast = { tenant_id: good, date: '2026-03-01', bytes_out: 2 ** 62 }
  const { writer } = makeWriter(store, [
    batchOf([bad, good], { users }),
    batchOf([], { days: [vast] }),
    batchOf([good], { days: [vast] }),
    batchOf([good]),
  ])
  await writer.flush()
  t.equal(writer.refused, 2)
  t.strictSame([await countedOf(bad), await countedOf(good)], [0, 6])
  const { rows } = await admin.query('DELETE FROM usage_refused RETURNING code, batch')
  t.match(rows.find(({ code }) => code === '22P05')?.batch, /a\\u0000b/)
})

t.test('a batch that is too old is put aside', async t => {
  const store = open(t)
  const id = randomUUID()
  const old = batchOf([id], { sealedAtMs: Date.now() - 31 * 86_400_000 })
  const { writer, written } = makeWriter(store, [old, batchOf([id])])
  await writer.flush()
  t.strictSame([writer.refused, written.length, await countedOf(id)], [1, 2, 3])
  t.match((await admin.query('DELETE FROM usage_refused RETURNING *')).rows, [{ code: 'late' }])
})

t.test(
  'a batch that was sealed under a clock that was ahead comes in once it is right',
  async t => {
    const id = randomUUID()
    const ahead = batchOf([id], { sealedAtMs: Date.now() + 40 * 86_400_000 })
    const { writer, written } = makeWriter(open(t), [ahead])
    await writer.flush()
    t.strictSame([...writer.failures], [['other', 1]])
    await writer.flush()
    t.strictSame([written.length, await countedOf(id)], [1, 3])
  },
)

t.test('rights, a standby, a full house and a server that goes: the real ones', async t => {
  const id = randomUUID()
  const as = (user: string) => {
    const url = new URL(registry.url)
    url.username = user
    url.password = 'x'
    return open(t, url.href)
  }
  await admin.query(`
    CREATE ROLE nobody LOGIN PASSWORD 'x';
    CREATE ROLE crowded LOGIN PASSWORD 'x' CONNECTION LIMIT 0;
    CREATE ROLE reader LOGIN PASSWORD 'x';
    ALTER ROLE reader SET default_transaction_read_only = on;
    GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO reader`)
  for (const [user, why] of [
    ['nobody', 'rights'],
    ['crowded', 'resources'],
    ['reader', 'read-only'],
  ] as const) {
    const { writer, written } = makeWriter(as(user), [batchOf([id])])
    await writer.flush()
    t.strictSame([...writer.failures], [[why, 1]])
    t.strictSame([written.length, writer.refused], [0, 0])
  }
  const store = open(t)
  const blocker = new pg.Client({ connectionString: registry.url })
  blocker.on('error', () => {})
  await blocker.connect()
  t.teardown(() => blocker.end())
  await blocker.query('BEGIN; LOCK TABLE customer_usage_daily IN ACCESS EXCLUSIVE MODE')
  const { writer, written } = makeWriter(store, [batchOf([id])])
  const flushed = writer.flush()
  const deadline = performance.now() + 5000
  for (let ended = 0; ended === 0 && performance.now() < deadline; ) {
    const { rowCount } = await admin.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT usage_apply(%'`)
    ended = rowCount ?? 0
  }
  await flushed
  await blocker.query('ROLLBACK')
  t.strictSame([...writer.failures], [['shutdown', 1]])
  await writer.flush()
  t.match(written, [{ isByAnother: false }])
  t.equal(await countedOf(id), 3)
})

t.test('a batch that takes the Registry too long comes in in parts', async t => {
  const ids = Array.from({ length: 120 }, () => randomUUID() as string)
  await admin.query(`
    CREATE OR REPLACE FUNCTION test_slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      PERFORM pg_sleep(0.01);
      RETURN NEW;
    END $$;
    CREATE TRIGGER test_slow BEFORE INSERT ON customer_usage_daily
      FOR EACH ROW EXECUTE FUNCTION test_slow()`)
  t.teardown(() => admin.query('DROP TRIGGER test_slow ON customer_usage_daily'))
  const { writer, written } = makeWriter(open(t, registry.url, 1000), [batchOf(ids)])
  for (let i = 0; i < 12 && written.length === 0; i++) await writer.flush()
  t.match(written, [{ isByAnother: false }])
  t.ok((writer.failures.get('timeout') ?? 0) >= 3)
  const counts = await Promise.all(ids.map(countedOf))
  t.strictSame(new Set(counts), new Set([3]))
})

t.test('parts whose answers are lost count once, those that are put aside too', async t => {
  const { hostname: host, port } = new URL(registry.url)
  const link = await startFaultProxy({ host, port: Number(port) })
  t.teardown(() => link.stop())
  const url = new URL(registry.url)
  url.hostname = link.host
  url.port = String(link.port)
  const store = open(t, url.href, 1000)
  const ids = Array.from({ length: 6 }, () => randomUUID() as string)
  const bad = ids[3] as string
  const mend = await failWith('23514', bad)
  const { writer, written } = makeWriter(
    {
      async query(text, values) {
        const rows = await store.query(text, values)
        // Of all that is answered the second half is not heard: it is in all the same.
        if (statements++ % 2 === 1) {
          link.resetAll()
          throw new Error('reset')
        }
        return rows
      },
    },
    [batchOf(ids), batchOf(ids)],
  )
  let statements = 0
  for (let i = 0; i < 60 && written.length < 2; i++) await writer.flush()
  await mend()
  t.match(written, [{ isByAnother: false }, { isByAnother: false }])
  t.strictSame(await Promise.all(ids.map(countedOf)), [6, 6, 6, 0, 6, 6])
  t.equal(writer.refused, 2)
  const { rows } = await admin.query('DELETE FROM usage_refused RETURNING code')
  t.strictSame(rows, [{ code: '23514' }, { code: '23514' }])
})
