import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { startTestPostgres } from '../deploy/local/postgres.ts'
import { parsePgUrl } from '../registry/lib/pg.ts'
import { MigrationError } from './files.ts'
import { migrate } from './runner.ts'

const server = await startTestPostgres()
const admin = new pg.Client({ connectionString: server.url('postgres') })
await admin.connect()
t.teardown(async () => {
  await admin.end()
  await server.stop()
})

let count = 0

async function setUp(test: { teardown(work: () => Promise<void>): void }) {
  count += 1
  await admin.query(`CREATE DATABASE run${count}`)
  const target = parsePgUrl(server.url(`run${count}`))
  const directory = await mkdtemp(join(tmpdir(), 'doorman-runner-'))
  const client = new pg.Client({ connectionString: server.url(`run${count}`) })
  await client.connect()
  test.teardown(async () => {
    await client.end()
    await rm(directory, { recursive: true })
  })
  const write = (name: string, sql: string) => writeFile(join(directory, name), sql)
  return { client, write, target, directory, options: { target, directory } }
}

t.test('files are applied once, in order, with a record of each', async t => {
  const { client, write, options } = await setUp(t)
  t.match(await migrate(options), { before: null, after: null, applied: [] })
  await write('0002_b.sql', 'INSERT INTO log VALUES (2);')
  await write('0001_a.sql', `CREATE TABLE log (n int); DO $$BEGIN RAISE WARNING 'careful'; END$$;`)
  const first = await migrate(options)
  t.match(first, { before: null, after: '0002', warnings: ['careful'], isAhead: false })
  t.strictSame(
    first.applied.map(({ file }) => file),
    ['0001_a.sql', '0002_b.sql'],
  )
  t.match(await migrate(options), { before: '0002', after: '0002', applied: [] })
  const { rows } = await client.query(
    'SELECT version, name, length(checksum) AS n FROM doorman_migrations',
  )
  t.strictSame(rows, [
    { version: '0001', name: '0001_a.sql', n: 64 },
    { version: '0002', name: '0002_b.sql', n: 64 },
  ])
  t.equal((await client.query('SELECT FROM log')).rowCount, 1)
})

t.test(
  'a file that fails leaves nothing, those before it stay, and the next run resumes',
  async t => {
    const { client, write, options } = await setUp(t)
    await write('0001_a.sql', 'CREATE TABLE a ();')
    await write('0002_b.sql', 'CREATE TABLE b (); SELECT 1/0;')
    await t.rejects(migrate(options), {
      name: 'MigrationError',
      message: /0002_b.sql: division by zero/,
    })
    const tables = async () =>
      (
        await client.query(
          `SELECT tablename AS t FROM pg_tables WHERE schemaname = 'public' ORDER BY 1`,
        )
      ).rows.map(({ t }) => t)
    t.strictSame(await tables(), ['a', 'doorman_migrations'])
    await write('0002_b.sql', 'CREATE TABLE b ();')
    t.match(await migrate(options), { before: '0001', after: '0002' })
    t.strictSame(await tables(), ['a', 'b', 'doorman_migrations'])
  },
)

t.test('an edited, a late, a doubled and a misnamed file are refused', async t => {
  const { write, options, directory } = await setUp(t)
  await write('0002_b.sql', 'SELECT 1;\n')
  await migrate(options)
  await write('0002_b.sql', 'SELECT 1;\r\n')
  await t.resolves(migrate(options), 'line ends of a checkout are no edit')
  await write('0002_b.sql', 'SELECT 2;')
  await t.rejects(migrate(options), /0002_b.sql: edited/)
  await write('0002_b.sql', 'SELECT 1;\n')
  await write('0001_late.sql', 'SELECT 1;')
  await t.rejects(migrate(options), /0001_late.sql: older than 0002/)
  await rm(join(directory, '0001_late.sql'))
  await write('0002_other.sql', 'SELECT 1;')
  await t.rejects(migrate(options), /there twice/)
  await rm(join(directory, '0002_other.sql'))
  await write('3_x.sql', 'SELECT 1;')
  await t.rejects(migrate(options), MigrationError)
  await rm(join(directory, '3_x.sql'))
  await rm(join(directory, '0002_b.sql'))
  await write('0001_late.sql', 'SELECT 1;')
  await t.rejects(migrate(options), /older than/, 'a late file is refused by an older release too')
})

t.test('a database that a newer release migrated is left alone', async t => {
  const { write, options, directory } = await setUp(t)
  await write('0001_a.sql', 'SELECT 1;')
  await write('0002_b.sql', 'SELECT 1;')
  await migrate(options)
  await rm(join(directory, '0002_b.sql'))
  t.match(await migrate(options), { before: '0002', after: '0002', isAhead: true, applied: [] })
})

t.test('without a transaction: CREATE INDEX CONCURRENTLY, and a resumed run', async t => {
  const { client, write, options } = await setUp(t)
  await write('0001_a.sql', 'CREATE TABLE a (n int);')
  const sql = `-- no transaction
    CREATE INDEX CONCURRENTLY IF NOT EXISTS a_n ON a (n);
    -- and another; in one file
    CREATE INDEX CONCURRENTLY IF NOT EXISTS a_m ON a ((n + 1));
    `
  await write('0002_b.sql', `${sql}SELECT 1/0;\n`)
  await t.rejects(migrate(options), /0002_b.sql/)
  await write('0002_b.sql', sql)
  t.match(await migrate(options), { after: '0002' })
  const { rows } = await client.query(
    `SELECT indexname AS i FROM pg_indexes WHERE tablename = 'a' ORDER BY 1`,
  )
  t.strictSame(rows, [{ i: 'a_m' }, { i: 'a_n' }])
})

t.test('a lock held by traffic makes the migration give way in time', async t => {
  const { client, write, options } = await setUp(t)
  await client.query('CREATE TABLE busy ()')
  await client.query('BEGIN; LOCK TABLE busy')
  await write('0001_a.sql', 'ALTER TABLE busy ADD COLUMN n int;')
  await t.rejects(migrate({ ...options, lockTimeoutMs: 100 }), /0001_a.sql: .*lock timeout/)
  await client.query('ROLLBACK')
  await t.resolves(migrate({ ...options, lockTimeoutMs: 100 }))
  await client.query('BEGIN; LOCK TABLE busy')
  await write('0002_b.sql', '-- lock_timeout: 50ms\nALTER TABLE busy ADD COLUMN m int;')
  await t.rejects(migrate({ ...options, lockTimeoutMs: 60_000 }), /0002_b.sql: .*lock timeout/)
  await client.query('ROLLBACK')
})

t.test('one runner per database: the second waits, or says who holds it', async t => {
  const { client, write, options } = await setUp(t)
  await client.query('CREATE TABLE log (at timestamptz DEFAULT clock_timestamp())')
  await write('0001_a.sql', 'SELECT pg_sleep(0.3); INSERT INTO log DEFAULT VALUES;')
  const runs = await Promise.all([migrate(options), migrate(options), migrate(options)])
  t.strictSame(runs.map(({ applied }) => applied.length).sort(), [0, 0, 1])
  t.equal((await client.query('SELECT FROM log')).rowCount, 1)
  await client.query(`SELECT pg_advisory_lock(hashtextextended('doorman_migrations', 0))`)
  t.match(await migrate({ ...options, runnerWaitMs: 100 }), { applied: [] }, 'nothing to do')
  await write('0002_b.sql', 'SELECT 1;')
  await t.rejects(migrate({ ...options, runnerWaitMs: 100 }), /another runner/)
})

t.test('a runner that waits does not hold up CREATE INDEX CONCURRENTLY of the other', async t => {
  const { client, write, options } = await setUp(t)
  await client.query('CREATE TABLE a AS SELECT n FROM generate_series(1, 50000) AS n')
  await write('0001_a.sql', '-- no transaction\nCREATE INDEX CONCURRENTLY a_n ON a (n);\n')
  const runs = await Promise.all([migrate(options), migrate(options), migrate(options)])
  t.strictSame(runs.map(({ applied }) => applied.length).sort(), [0, 0, 1])
})

t.test('a runner that dies leaves no half migration and no lock', async t => {
  const { client, write, options } = await setUp(t)
  await write('0001_a.sql', 'CREATE TABLE a (); SELECT pg_sleep(30);')
  const dying = migrate(options).then(
    () => 'done',
    (error: Error) => error.name,
  )
  const kill = `SELECT pg_terminate_backend(pid) AS k FROM pg_stat_activity
    WHERE application_name = 'doorman-migrate' AND query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()
      AND datname = current_database()`
  const deadline = Date.now() + 5000
  while ((await client.query(kill)).rowCount === 0 && Date.now() < deadline);
  t.equal(await dying, 'MigrationError')
  await write('0001_a.sql', 'CREATE TABLE a ();')
  t.match(await migrate({ ...options, runnerWaitMs: 2000 }), { after: '0001' })
})
