import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { findListedTenant } from '../registry/tenant-list.ts'
import { driftOf, fingerprint } from './fingerprint.ts'
import { watchLaggards } from './laggards.ts'
import { parseOptions } from './options.ts'
import { barOf } from './progress.ts'
import { isPassing, withRetries } from './retry.ts'
import { isBehind } from './status.ts'
import { startTestFleet } from './test-kit.ts'

const fleet = await startTestFleet()
t.teardown(() => fleet.stop())
await fleet.write('0001_base.sql', 'CREATE TABLE things (id int);\n')
await fleet.write('0001_base.down.sql', 'DROP TABLE things;\n')
await fleet.write('0002_more.sql', 'ALTER TABLE things ADD COLUMN name text;\n')
await fleet.write('0002_more.down.sql', 'ALTER TABLE things DROP COLUMN name;\n')
await fleet.addTenants(['a', 'b', 'c', 'd'])
const columns = async (key: string) =>
  (
    await fleet.query(
      key,
      `SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('things') AND attnum > 0
         AND NOT attisdropped ORDER BY attnum`,
    )
  ).map(({ attname }) => attname)

t.test('down takes one tenant back, by a word of confirmation, and all files or none', async t => {
  await fleet.run()
  const down = (...args: string[]) => fleet.call(['down', '--tenant-key', 'a', ...args])
  t.match(await down('--to', '0001'), { code: 2, stderr: /--confirm a/ })
  t.match(await down('--to', '0001', '--confirm', 'b'), { code: 2 })
  t.match(await fleet.call(['down', '--to', '0001', '--confirm', 'a']), { code: 2 })
  t.strictSame(await columns('a'), ['id', 'name'], 'nothing happened yet')
  t.match(await down('--to', '0001', '--confirm', 'a'), { code: 0, stdout: /a {2}0002 -> 0001 / })
  t.strictSame(await columns('a'), ['id'])
  t.strictSame(await columns('b'), ['id', 'name'], 'the others stay')
  t.equal((await findListedTenant(fleet.store, 'a'))?.tenant?.schemaVersion, '0001')
  const asked = await fleet.call(['down', '--tenant-key', 'a', '--to', '0000'], 'a')
  t.match(asked, { code: 0, stdout: /0001 -> - / }, 'or by an answer')
  t.equal((await findListedTenant(fleet.store, 'a'))?.tenant?.schemaVersion, null)
  t.strictSame(await columns('a'), [])
  await fleet.run()
  await fleet.remove('0001_base.down.sql')
  t.match(await down('--to', '0000', '--confirm', 'a'), { code: 3, stdout: /no .down.sql/ })
  t.strictSame(await columns('a'), ['id', 'name'], 'not even the file that could')
})

t.test('verify names what differs from the reference, on both sides', async t => {
  t.match(await fleet.call(['verify']), { code: 0, stdout: /^4 tenant\(s\), 0 differ/ })
  await fleet.query('b', 'ALTER TABLE things DROP COLUMN name; CREATE INDEX extra ON things (id)')
  const found = await fleet.call(['verify'])
  t.match(found, { code: 1, stdout: /^drift {3}b\n {2}missing: column public.things.name text\n/ })
  t.match(found.stdout, / {2}extra: index CREATE INDEX extra ON public.things/)
  t.notMatch(found.stdout, /drift {3}[acd]/)
  const file = join(fleet.directory, 'reference.txt')
  t.match(await fleet.call(['verify', '--reference', 'c', '--save', file]), { code: 1 })
  t.match(await readFile(file, 'utf8'), /^column public.things.name text$/m)
  const one = ['verify', '--tenant-key', 'b', '--reference-file', file, '--json']
  const json = await fleet.call(one)
  t.match(json.code, 3)
  t.equal(JSON.parse(json.stdout).drift.length, 2)
  await fleet.query('b', 'ALTER TABLE things ADD COLUMN name text; DROP INDEX extra')
  t.match(await fleet.call(one), { code: 0 }, 'the order of columns is no drift')
  const lines = (text: string) => fingerprint(text.split(' '))
  t.strictSame(driftOf(lines('a b'), lines('b c')), ['missing: c', 'extra: a'])
})

t.test('baseline takes over what the older tool did, and only where it did it', async t => {
  await fleet.addTenants(['older', 'behind', 'empty'])
  const meta = (key: string, ...names: string[]) =>
    fleet.query(
      key,
      `CREATE TABLE "SequelizeMeta" (name varchar(255) PRIMARY KEY); CREATE TABLE things (id int);
       INSERT INTO "SequelizeMeta" VALUES ${names.map(name => `('${name}')`).join(', ')};
       ALTER TABLE "SequelizeMeta" OWNER TO fleet; ALTER TABLE things OWNER TO fleet`,
    )
  await meta('older', '1-init.js', '2-things.js')
  await meta('behind', '1-init.js')
  const command = ['baseline', '--to', '0001', '--expect', '2-things.js', '--retries', '0']
  const { code, stdout } = await fleet.call(command)
  t.equal(code, 1)
  t.match(stdout, /^ok {6} older {2}- -> 0001 /m)
  t.match(
    stdout,
    /^failed {3}behind .*2-things.js is not in SequelizeMeta, the last one is 1-init/m,
  )
  t.match(stdout, /^failed {3}empty .*no SequelizeMeta/m)
  t.match(stdout, /^ok {6} a {2}0002 -> 0002 .*record of its own/m)
  t.match(await fleet.call(['--tenant-key', 'older']), { code: 0, stdout: /0001 -> 0002/ })
  t.strictSame(await columns('older'), ['id', 'name'], 'only what was left was run')
})

t.test('new makes the next file, which the runner takes', async t => {
  const made = await fleet.command(['new', 'Add Email!', '--no-transaction', '--down']).done
  t.match(made.stdout, /0003_add_email.sql\n.*0003_add_email.down.sql$/)
  t.match(await fleet.call(['--tenant-key', 'a']), { code: 0, stdout: /-> 0003 / })
  t.match(await fleet.command(['new']).done, { code: 1, stderr: /the name/ })
  for (const file of ['0003_add_email.sql', '0003_add_email.down.sql']) await fleet.remove(file)
  await fleet.query('a', `DELETE FROM doorman_migrations WHERE version = '0003'`)
})

t.test('a file’s header sets its limits, and a misspelt one is refused', async t => {
  await fleet.write('0003_slow.sql', '-- statement_timeout: 50ms\nSELECT pg_sleep(5);')
  const run = await fleet.run({ tenants: (await fleet.list()).slice(0, 1) })
  t.match(run.outcomes.get('a'), { note: /0003_slow.sql: .*statement timeout/, attempts: 1 })
  for (const header of ['-- lock_timout: 5s', '-- lock_timeout: 5', '-- lock_timeout: 0s']) {
    await fleet.write('0003_slow.sql', `${header}\nSELECT 1;`)
    if (header === '-- lock_timout: 5s')
      await t.rejects(fleet.run(), /no setting is called lock_timout/)
    else await t.rejects(fleet.run(), /is no time/)
  }
  await fleet.write(
    '0003_slow.sql',
    "SET search_path = ''; SET lock_timeout = 1; CREATE TABLE public.s ();",
  )
  await fleet.write('0004_next.sql', 'CREATE TABLE next ();')
  const own = await fleet.run({ tenants: (await fleet.list()).slice(0, 1) })
  t.match(
    own.outcomes.get('a'),
    { result: 'ok', after: '0004', note: null },
    'its own settings end with it',
  )
  await fleet.remove('0003_slow.sql')
  await fleet.remove('0004_next.sql')
  await fleet.query('a', `DELETE FROM doorman_migrations WHERE version > '0002'`)
  await fleet.query('a', 'DROP TABLE s; DROP TABLE next')
})

t.test(
  'a watch works through laggards that come, and leaves one that fails for longer',
  async t => {
    await fleet.registry.admin.query(`DELETE FROM tenants WHERE tenant_key IN ('behind', 'empty')`)
    await fleet.registry.admin.query(`UPDATE tenants SET schema_version = '0002'`)
    const stop = new AbortController()
    const tried: string[] = []
    const errors: unknown[] = []
    let nowMs = 0
    let looks = 0
    let isBusy = false
    let busyLooks = 0
    const watching = watchLaggards({
      async isBusy() {
        if (isBusy) busyLooks += 1
        return isBusy
      },
      async findLaggards() {
        t.notOk(isBusy, 'the fleet is left to a run that is under way')
        looks += 1
        if (looks === 2) throw new Error('the Registry is away')
        return (await fleet.list()).filter(({ tenant }) =>
          isBehind(tenant?.schemaVersion ?? null, '0002'),
        )
      },
      async run(tenants, onDone) {
        const { result, outcomes } = await fleet.run({ tenants })
        for (const outcome of outcomes.values()) {
          tried.push(outcome.tenant.key)
          onDone(outcome)
        }
        return result
      },
      onError: error => errors.push(error),
      signal: stop.signal,
      pauseMs: 1,
      now: () => nowMs,
    })
    const until = async (condition: () => boolean) => {
      const deadline = Date.now() + 10_000
      while (!condition() && Date.now() < deadline)
        await new Promise(resolve => setImmediate(resolve))
    }
    await until(() => looks > 3)
    t.strictSame(tried, [])
    t.equal(errors.length, 1, 'a Registry that is away ends nothing')
    await fleet.recreate(['a', 'b'])
    await fleet.query('b', 'CREATE TABLE things ()')
    await fleet.registry.admin.query(
      `UPDATE tenants SET schema_version = NULL WHERE tenant_key IN ('a', 'b')`,
    )
    await until(() => tried.length >= 2 && looks > 10)
    const seen = looks
    await until(() => looks > seen + 5)
    t.strictSame(tried.sort(), ['a', 'b'], 'one fails and is not tried at every look')
    nowMs = 30_000
    await until(() => tried.length > 2)
    t.strictSame(tried, ['a', 'b', 'b'], 'but later')
    isBusy = true
    nowMs = 3_600_000
    await until(() => busyLooks > 5)
    t.ok(busyLooks > 5)
    t.equal(tried.length, 3)
    isBusy = false
    await until(() => tried.length > 3)
    t.strictSame(tried, ['a', 'b', 'b', 'b'])
    stop.abort()
    await watching
  },
)

t.test('only locks and connections are tried again, with growing pauses and a bound', async t => {
  const withCode = (code: string) => Object.assign(new Error('x'), { code })
  for (const code of ['55P03', '40P01', '08006', '53300', '57P03', 'ECONNREFUSED', 'ETIMEDOUT']) {
    t.ok(isPassing(withCode(code)), code)
    t.ok(isPassing(new Error('y', { cause: withCode(code) })), 'as a cause')
  }
  t.ok(isPassing(new AggregateError([withCode('ECONNREFUSED')])))
  for (const code of ['28P01', '42601', '22012', '23505', '57014', '3D000', 'ERR_TLS']) {
    t.notOk(isPassing(withCode(code)), code)
  }
  let attempts = 0
  const failing = (code: string) => () => {
    attempts += 1
    return Promise.reject(withCode(code))
  }
  await t.rejects(withRetries({ count: 2, pauseMs: 1 }, failing('55P03')), { code: '55P03' })
  t.equal(attempts, 3)
  await t.rejects(withRetries({ count: 2, pauseMs: 1 }, failing('42601')), { code: '42601' })
  t.equal(attempts, 4)
})

t.test('a wrong usage is one line, and does nothing', async t => {
  for (const [args, problem] of [
    [['up'], /no command is called up/],
    [['--max-failures', 'x'], /--max-failures/],
    [['--rate', '0'], /--rate/],
    [['--concurrency', '0'], /--concurrency/],
    [['--include', 'all'], /--include knows/],
    [['--to', '1'], /four digits/],
    [['down'], /needs --to/],
    [['status', '--plan'], /--plan is for migrate/],
    [['--confirm', 'x'], /--confirm is for down/],
    [['status', 'x'], /too many words/],
  ] as const) {
    t.throws(() => parseOptions(args), problem)
  }
  t.match(parseOptions(['--rate', '30/min']), { pace: { intervalMs: 2000 } })
  t.match(parseOptions(['--max-failures', '2.5%']), { maxFailures: { percent: 2.5 } })
  t.match(parseOptions([]), { withSuspended: true, pace: { atOnce: 8, perHost: 2 } })
  t.equal(parseOptions(['-h']), 'help')
  t.match(barOf({ total: 4, done: 2, failed: 1, ms: 1000 }), /^\[#{15}\.{15}\] 2\/4 {2}1 failed/)
})
