import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { Keyring } from '../registry/envelope.ts'
import { RegistryStore } from '../registry/store.ts'
import type { TenantKey, TenantStatus } from '../registry/tenant.ts'
import { eachTenant, type ListedTenant } from '../registry/tenant-list.ts'
import { insertTenant } from '../registry/tenant-write.ts'
import { newTenant, silent, startTestRegistry } from '../registry/test-kit.ts'
import { migrateFleet, type TenantOutcome } from './fleet.ts'

const MASTER = 'a'.repeat(64)
const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
const keyring = await Keyring.derive([MASTER])
const directory = await mkdtemp(join(tmpdir(), 'doorman-fleet-'))
t.teardown(async () => {
  await store.close()
  await registry.stop()
  await rm(directory, { recursive: true })
})
await writeFile(join(directory, '0001_base.sql'), 'CREATE TABLE things (id int);')
await writeFile(join(directory, '0002_more.sql'), 'ALTER TABLE things ADD COLUMN name text;')

async function makeTenant(key: string, status: TenantStatus = 'active', password = 'pw') {
  const id = newTenant().id
  const role = `role_${key}`
  await registry.admin.query(`CREATE ROLE ${role} LOGIN PASSWORD 'pw'`)
  await registry.admin.query(`CREATE DATABASE db_${key} OWNER ${role}`)
  const sealed = keyring.encrypt(password, { owner: id, column: 'db_password_encrypted' })
  return insertTenant(
    store,
    newTenant({
      ...{ id, key: key as TenantKey, status },
      db: {
        ...{ host: '127.0.0.1', port: registry.server.port, name: `db_${key}`, user: role },
        ...{ passwordEncrypted: sealed, sslMode: null, poolMax: null },
      },
    }),
  )
}

async function runFleet() {
  const outcomes = new Map<string, TenantOutcome>()
  const tenants: ListedTenant[] = []
  for await (const listed of eachTenant(store, { mode: 'shared' })) tenants.push(listed)
  const { failed } = await migrateFleet({
    ...{ store, keyring, directory, tenants },
    onDone: outcome => outcomes.set(outcome.tenant.key, outcome),
  })
  return { failed, outcomes }
}

t.test('one tenant that fails stops no other; the next run does what is left', async t => {
  const good = await makeTenant('good')
  await makeTenant('asleep', 'suspended')
  await makeTenant('gone', 'archived')
  const locked = await makeTenant('locked', 'active', 'wrong-SECRET')
  const swapped = await makeTenant('swapped')
  await registry.admin.query('UPDATE tenants SET db_password_encrypted = $2 WHERE id = $1', [
    swapped.id,
    good.db.passwordEncrypted,
  ])
  const { failed, outcomes } = await runFleet()
  t.equal(failed, 2)
  t.match(outcomes.get('good'), { result: 'ok', before: null, after: '0002' })
  t.match(outcomes.get('asleep'), { result: 'ok', after: '0002', note: 'suspended' })
  t.match(outcomes.get('gone'), { result: 'skipped', note: 'archived' })
  t.match(outcomes.get('locked'), { result: 'failed', note: /password authentication failed/ })
  t.match(outcomes.get('swapped'), { result: 'failed', note: /does not open/ })
  t.notMatch(JSON.stringify([...outcomes.values()].map(o => o.note)), 'SECRET')
  t.equal((await store.findById(good.id))?.schemaVersion, '0002')
  t.equal((await store.findById(locked.id))?.schemaVersion, null)

  const db = new pg.Client({ connectionString: registry.server.url('db_good') })
  await db.connect()
  const { rows } = await db.query(`SELECT tableowner FROM pg_tables WHERE tablename = 'things'`)
  t.strictSame(rows, [{ tableowner: 'role_good' }], "made by the tenant's own role")
  await db.end()

  await registry.admin.query(`ALTER ROLE role_locked PASSWORD 'wrong-SECRET'`)
  const version = (await store.findById(good.id))?.configVersion
  const next = await runFleet()
  t.equal(next.failed, 1)
  t.match(next.outcomes.get('good'), { result: 'ok', before: '0002', after: '0002' })
  t.match(next.outcomes.get('locked'), { result: 'ok', before: null, after: '0002' })
  t.equal((await store.findById(good.id))?.configVersion, version, 'no change, no notice')
  await registry.admin.query('DELETE FROM tenants')
})

t.test(
  'a database that was made anew is shown as it is, not as the Registry remembers',
  async t => {
    const { id } = await makeTenant('anew')
    t.match((await runFleet()).outcomes.get('anew'), { before: null, after: '0002' })
    await registry.admin.query('DROP DATABASE db_anew WITH (FORCE)')
    await registry.admin.query('CREATE DATABASE db_anew OWNER role_anew')
    t.equal((await store.findById(id))?.schemaVersion, '0002')
    t.match((await runFleet()).outcomes.get('anew'), { result: 'ok', before: null, after: '0002' })
    await registry.admin.query('DELETE FROM tenants')
  },
)

t.test('two runners at once: each migration runs once per database', async t => {
  for (let i = 0; i < 4; i++) await makeTenant(`pair${i}`)
  const runs = await Promise.all([runFleet(), runFleet()])
  t.strictSame(
    runs.map(({ failed }) => failed),
    [0, 0],
  )
  for (let i = 0; i < 4; i++) {
    const befores = runs.map(({ outcomes }) => outcomes.get(`pair${i}`)?.before ?? '-')
    t.strictSame(befores.sort(), ['-', '0002'])
  }
  await registry.admin.query('DELETE FROM tenants')
})

t.test('at most two databases of one server at a time', async t => {
  for (let i = 0; i < 6; i++) await makeTenant(`slots${i}`)
  await writeFile(join(directory, '0003_slow.sql'), 'SELECT pg_sleep(0.15);')
  let most = 0
  let isDone = false
  const count = `SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'doorman-migrate'`
  const spy = (async () => {
    while (!isDone) most = Math.max(most, (await registry.admin.query(count)).rows[0].n)
  })()
  const { failed, outcomes } = await runFleet()
  isDone = true
  await spy
  t.equal(failed, 0)
  t.equal(outcomes.size, 6)
  // A session that said goodbye may still be seen for a moment.
  t.ok(most >= 2 && most <= 3, `saw ${most}`)
  await registry.admin.query('DELETE FROM tenants')
})

t.test('the command: all, one by id or key, and its exit codes', async t => {
  const one = await makeTenant('cmd1')
  await makeTenant('cmd2', 'active', 'wrong')
  const run = (args: string[], vars = {}) =>
    new Promise<{ code: number; stdout: string; stderr: string }>(resolve => {
      const env = { PATH: process.env.PATH, TENANT_REGISTRY_DB_URL: registry.url }
      execFile(
        process.execPath,
        [join(import.meta.dirname, 'tenant-migrate.ts'), ...args],
        { env: { ...env, MASTER_ENCRYPTION_KEY: MASTER, ...vars } },
        (error, stdout, stderr) => resolve({ code: Number(error?.code ?? 0), stdout, stderr }),
      )
    })
  const production = { NODE_ENV: 'production' }
  const refused = await run([], production)
  t.match(refused, { code: 3, stdout: /2 tenant\(s\), 2 failed\n$/ })
  t.match(refused.stdout, /^failed +cmd1 {2}- -> - .*127\.0\.0\.1 is a refused address/m)
  const [all, byId, byKey, unknown, usage] = [
    await run([]),
    await run([`--tenant-id=${one.id}`], { ...production, TENANT_ADDRESS_ALLOW: '127.0.0.1' }),
    await run(['--tenant-key', 'cmd1']),
    await run([`--tenant-id=${randomUUID()}`]),
    await run(['--tenant-id=x']),
  ]
  t.match(all, { code: 1, stdout: /2 tenant\(s\), 1 failed\n$/ })
  t.match(all.stdout, /^ok +cmd1 {2}- -> \d{4} {2}\d+ ms$/m)
  t.match(all.stdout, /^failed +cmd2 .*password authentication failed/m)
  t.match(byId, { code: 0, stdout: /1 tenant\(s\), 0 failed\n$/, stderr: '' })
  t.match(byKey, { code: 0 })
  t.match(unknown, { code: 1, stderr: /^doorman: no tenant / })
  t.match(usage, { code: 2, stderr: /not a UUID/ })
})
