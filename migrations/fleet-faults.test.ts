import pg from 'pg'
import t from 'tap'
import { listFailures } from '../registry/migrate/failures.ts'
import { addRun, giveUpRun, listRuns } from '../registry/migrate/runs.ts'
import { findListedTenant } from '../registry/tenant-list.ts'
import { writeStatus } from '../registry/tenant-write.ts'
import type { TenantOutcome } from './fleet.ts'
import { parseOptions } from './options.ts'
import { runOptionsOf } from './run-options.ts'
import { PASSWORD, startTestFleet } from './test-kit.ts'

const TENANTS = Number(process.env.DOORMAN_FLEET_TENANTS ?? 40)
const FAULTY = ['slow', 'broken', 'locked', 'unreachable', 'refused'] as const

const fleet = await startTestFleet()
t.teardown(() => fleet.stop())
const good = Array.from({ length: TENANTS - FAULTY.length }, (_, i) => `good${i}`)
await fleet.write('0001_base.sql', 'CREATE TABLE things (id int, note text);')
// Each tenant's own name decides how it fares.
await fleet.write(
  '0002_more.sql',
  `-- lock_timeout: 100ms
   ALTER TABLE things ADD COLUMN at timestamptz;
   DO $$ BEGIN
     IF current_database() = 'db_slow' THEN PERFORM pg_sleep(1); END IF;
     IF current_database() = 'db_broken' THEN PERFORM note::int FROM things; END IF;
   END $$;`,
)
await fleet.addTenants([...good, 'slow', 'broken', 'locked'])
await fleet.addTenants(['unreachable'], { port: 1 })
await fleet.addTenants(['refused'], { password: 'wrong-SECRET' })

t.test('a slow, a broken, a locked and an unreachable tenant hold up nobody else', async t => {
  await fleet.run({ to: '0001' })
  await fleet.query('broken', `INSERT INTO things VALUES (1, 'row-SECRET')`)
  const holder = new pg.Client({ connectionString: fleet.registry.server.url('db_locked') })
  await holder.connect()
  await holder.query('BEGIN; LOCK TABLE things')

  const order: string[] = []
  const outcomes = new Map<string, TenantOutcome>()
  const { result } = await fleet.run({
    retries: { count: 1, pauseMs: 1 },
    pace: { atOnce: 8, perHost: 4, intervalMs: 0 },
    // The slow one first: the others must overtake it.
    tenants: (await fleet.list()).toSorted((a, b) => (a.key > b.key ? -1 : 1)),
    onDone(outcome) {
      order.push(outcome.tenant.key)
      outcomes.set(outcome.tenant.key, outcome)
    },
  })
  t.match(result, { ok: TENANTS - 4, failed: 4, left: 0, stoppedBy: null })
  t.match(outcomes.get('slow'), { result: 'ok', after: '0002' })
  t.ok(order.indexOf('slow') > 3, 'others were done meanwhile')
  for (const key of good)
    t.match(outcomes.get(key), { result: 'ok', before: '0001', after: '0002' })
  t.match(outcomes.get('broken'), {
    result: 'failed',
    attempts: 1,
    note: /^0002_more.sql: invalid/,
  })
  t.match(outcomes.get('locked'), { result: 'failed', attempts: 2, note: /lock timeout/ })
  t.match(outcomes.get('unreachable'), { result: 'failed', attempts: 2, note: /ECONNREFUSED/ })
  t.match(outcomes.get('refused'), { result: 'failed', attempts: 1, note: /authentication/ })

  const { code, stdout } = await fleet.call(['status', '--json'])
  t.equal(code, 0)
  const status = JSON.parse(stdout)
  t.match(status, { target: '0002', tenants: TENANTS, laggards: [] })
  t.strictSame(status.versions, { '0002': TENANTS - 4, '0001': 2, '-': 2 })
  t.strictSame(status.states, { ok: TENANTS - 4, failed: 4 })
  const errors = Object.fromEntries(
    status.failed.map(({ key, error }: Record<string, string>) => [key, error]),
  )
  t.match(errors, { broken: /0002_more/, locked: /lock timeout/, unreachable: /ECONNREFUSED/ })
  t.notMatch(stdout, 'SECRET', 'neither passwords nor values of rows')
  const rows = await fleet.registry.admin.query('SELECT * FROM tenant_migrations')
  t.notMatch(JSON.stringify(rows.rows), 'SECRET')

  await holder.query('ROLLBACK')
  await holder.end()
  await fleet.query('broken', 'DELETE FROM things')
})

t.test('the next run does what is left, and tells gateways of nothing else', async t => {
  const { admin } = fleet.registry
  const versions = async () =>
    (await admin.query('SELECT tenant_key, config_version::text FROM tenants ORDER BY 1')).rows
  const before = await versions()
  const { code, stdout } = await fleet.call(['--json', '--retries', '0'])
  t.equal(code, 1)
  const events = stdout.split('\n').map(line => JSON.parse(line))
  t.match(events[0], { event: 'start', tenants: TENANTS, target: '0002' })
  t.match(events.at(-1), { event: 'end', ok: TENANTS - 2, failed: 2, left: 0, stopped_by: null })
  const applied = events.filter(({ event, applied }) => event === 'tenant' && applied > 0)
  t.strictSame(applied.map(({ key }) => key).sort(), ['broken', 'locked'])
  const changed = (await versions()).filter(
    (row, i) => row.config_version !== before[i].config_version,
  )
  t.strictSame(
    changed.map(({ tenant_key }) => tenant_key),
    ['broken', 'locked'],
  )
})

t.test('a suspended tenant is kept up, unless it is excluded; then it is a laggard', async t => {
  await fleet.addTenants(['asleep', 'astray'], { status: 'suspended' })
  const excluded = await fleet.call(['--exclude', 'suspended', '--json', '--retries', '0'])
  t.notMatch(excluded.stdout, '"asleep"')
  t.equal((await findListedTenant(fleet.store, 'asleep'))?.tenant?.schemaVersion, null)
  const one = await fleet.call(['--tenant-key', 'asleep'])
  t.match(one, { code: 0, stdout: /^ok {6} asleep {2}- -> 0002 .*suspended\n1 tenant/ })
  const activated = await writeStatus(
    fleet.store,
    (await fleet.list())[0]?.id as never,
    'active',
    null,
  )
  t.equal(activated?.tenant?.schemaVersion, '0002', 'activated, it has its schema')
  const laggards = await fleet.call(['--laggards', '--retries', '0'])
  t.match(laggards, { code: 1, stdout: /^ok {6} astray /m })
  t.match(laggards.stdout, /3 tenant\(s\), 2 failed$/, 'it, and those that cannot be reached')
})

t.test('many names, a plan that changes nothing, and a version to stop at', async t => {
  await fleet.write('0003_last.sql', 'CREATE TABLE last ();\n')
  const names = ['--tenant-key', 'good0', '--tenant-key', 'good1']
  const plan = await fleet.call([...names, '--plan'])
  t.equal(plan.code, 0)
  t.match(plan.stdout, /^-- good0 {2}0002 {2}0003_last.sql\n-- good1 .*\n-- 2 of 2 /)
  t.match(plan.stdout, /-- 0003_last.sql, in 2 tenant\(s\)\nCREATE TABLE last \(\);$/)
  const to = await fleet.call([...names, '--to', '0002'])
  t.match(to, { code: 0, stdout: /^ok {6} good0 {2}0002 -> 0002 /m })
  t.equal((await fleet.query('good0', `SELECT to_regclass('last') AS r`))[0]?.r, null)
  const unknown = await fleet.call(['--to', '0009'])
  t.match(unknown, { code: 1, stderr: /no migration 0009/ })
  await fleet.remove('0003_last.sql')
})

t.test('a canary that fails, or more failures than allowed, stop the run', async t => {
  await fleet.write('0003_wrong.sql', 'SELECT 1/0;')
  const tenants = (await fleet.list()).filter(({ key }) => key.startsWith('good'))
  const waves: string[] = []
  const canary = await fleet.run({ tenants, canaries: 1, onWave: ({ name }) => waves.push(name) })
  t.match(canary.result, { ok: 0, failed: 1, left: tenants.length - 1, stoppedBy: 'failures' })
  t.strictSame(waves, ['canary'])
  const limit = { kind: 'count', count: 3 } as const
  const pace = { atOnce: 1, perHost: 1, intervalMs: 0 }
  const limited = await fleet.run({ tenants, maxFailures: limit, pace })
  t.match(limited.result, { failed: 4, left: tenants.length - 4, stoppedBy: 'failures' })
  const command = ['--max-failures', '10%', '--canary', '2', '--retries', '0', '--laggards']
  t.match(await fleet.call(command), { code: 4, stdout: /^stopped by failures/m })
  await fleet.write('0003_wrong.sql', 'SELECT 1;')
  const good = await fleet.run({ tenants, canaries: 1, onWave: ({ name }) => waves.push(name) })
  t.match(good.result, { ok: tenants.length, failed: 0, left: 0, stoppedBy: null })
  t.strictSame(waves.slice(1), ['canary', 'second', 'rest'])
})

t.test('a run that is told to stop finishes what runs and begins nothing more', async t => {
  await fleet.write('0004_slow.sql', 'SELECT pg_sleep(0.2); CREATE TABLE finished ();')
  const command = fleet.command(['--json', '--retries', '0', '--concurrency', '2'])
  command.onLine = line => {
    // A second signal would end it at once.
    if (line.includes('"tenant"') && !command.child.killed) command.child.kill('SIGTERM')
  }
  const { code, stdout } = await command.done
  t.equal(code, 4)
  const events = stdout.split('\n').map(line => JSON.parse(line))
  t.match(events.at(-1), { event: 'end', stopped_by: 'signal' })
  t.ok(events.at(-1).left >= TENANTS - 5, `${events.at(-1).left} were not begun`)
  for (const { key, result, after } of events.filter(({ event }) => event === 'tenant')) {
    if (result !== 'ok') continue
    t.equal(after, '0004')
    t.not((await fleet.query(key, `SELECT to_regclass('finished') AS r`))[0]?.r, null)
  }
  await fleet.remove('0004_slow.sql')
})

t.test('a connection that is cut in the middle is made again', async t => {
  await fleet.write('0004_slow.sql', 'SELECT pg_sleep(0.5); CREATE TABLE later ();')
  const tenants = (await fleet.list()).filter(({ key }) => key === 'good5')
  await fleet.query('good5', 'DELETE FROM doorman_migrations WHERE version > $$0003$$')
  const running = fleet.run({ tenants, retries: { count: 2, pauseMs: 1 } })
  const cut = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = 'db_good5' AND query LIKE '%pg_sleep(0.5)%' AND pid <> pg_backend_pid()`
  const deadline = Date.now() + 5000
  while ((await fleet.registry.admin.query(cut)).rowCount === 0 && Date.now() < deadline);
  t.match((await running).outcomes.get('good5'), { result: 'ok', after: '0004', attempts: 2 })
  await fleet.remove('0004_slow.sql')
})

t.test('one run of many that start together is enough, where they ask for it', async t => {
  const { admin } = fleet.registry
  const client = await admin.connect()
  await client.query(`SELECT pg_advisory_lock_shared(hashtextextended('doorman_fleet', 0))`)
  const second = await fleet.call(['--if-idle'])
  t.match(second, { code: 0, stdout: '', stderr: /another run is under way/ })
  t.match(await fleet.call(['--tenant-key', 'good0']), { code: 0 }, 'others go on')
  client.release(true)
})

t.test('a reader that leaves ends no run, and the run is in the Registry as it ended', async t => {
  await fleet.write('0005_unread.sql', 'CREATE TABLE unread ();')
  const command = fleet.command(['--json', '--retries', '0', '--concurrency', '1'])
  command.onLine = () => command.child.stdout?.destroy()
  const { code } = await command.done
  t.equal(code, 1)
  t.not((await fleet.query('good5', `SELECT to_regclass('unread') AS r`))[0]?.r, null)
  const [run] = await listRuns(fleet.store, 1)
  t.match(run, { state: 'done', startedBy: /^cli:/, isFleet: true, target: '0005', failed: 2 })
  t.equal((run?.ok ?? 0) + 2 + (run?.skipped ?? 0), run?.tenants)
  const failures = await listFailures(fleet.store, run?.id as string, null, 10)
  t.equal(failures.length, 2)
  for (const { code: word } of failures) t.match(word, /^[A-Z0-9_]+$/)
  t.notMatch(JSON.stringify(failures), PASSWORD)
})

t.test('a tenant with a deployment of its own is left to it, unless it is asked for', async t => {
  await fleet.addTenants(['apart'])
  await fleet.registry.admin.query(
    `UPDATE tenants SET mode = 'dedicated' WHERE tenant_key = 'apart'`,
  )
  const shared = await fleet.call(['--laggards', '--json', '--retries', '0'])
  t.notMatch(shared.stdout, '"apart"')
  const all = await fleet.call(['--include', 'dedicated', '--laggards', '--retries', '0'])
  t.match(all.stdout, /^ok {6} apart {2}- -> 0005 /m)
})

t.test('a watch ends by a signal with 0, and each of its passes is a run', async t => {
  await fleet.registry.admin.query(
    `UPDATE tenants SET schema_version = NULL WHERE tenant_key = 'good1'`,
  )
  const command = fleet.command(['--watch', '--json', '--retries', '0'])
  command.onLine = line => {
    if (line.includes('"end"')) command.child.kill('SIGTERM')
  }
  const { code, stdout } = await command.done
  t.equal(code, 0)
  t.match(stdout, /"key":"good1","result":"ok"/)
  const [run] = await listRuns(fleet.store, 1)
  t.match(run, { state: 'done', options: { laggards: true }, ok: 1 })
})

t.test('status tells of a run that is under way', async t => {
  t.match(JSON.parse((await fleet.call(['status', '--json'])).stdout), { running: null })
  const options = parseOptions([])
  if (options === 'help') throw new Error('no options')
  const run = { startedBy: 'somebody', isFleet: true, options: runOptionsOf(options) }
  const id = await addRun(fleet.store, run)
  const { stdout } = await fleet.call(['status'])
  t.match(stdout, `run ${id} of somebody is starting: 0 of ? done, 0 failed`)
  const beside = await fleet.call(['--retries', '0'])
  t.match(beside.stderr, `run ${id} of somebody is under way too`)
  t.match(beside.stdout, /^ok {6} good0 /m, 'which stops nobody')
  await giveUpRun(fleet.store, id, 'over')
  t.equal((await fleet.call(['--tenant-key', 'good0'])).stderr, '')
})
