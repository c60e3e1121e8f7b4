import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { fingerprintOf } from './fingerprint.ts'
import { withSession } from './session.ts'
import { sessionOf } from './tenant-database.ts'
import { startTestFleet } from './test-kit.ts'

/** The long form: DOORMAN_KILLS=20 DOORMAN_FLEET_TENANTS=200 npx tap --timeout=900 migrations/fleet-kill.test.ts */
const KILLS = Number(process.env.DOORMAN_KILLS ?? 5)
const TENANTS = Number(process.env.DOORMAN_FLEET_TENANTS ?? 24)
const SEED = Number(process.env.DOORMAN_KILL_SEED ?? Date.now() % 1_000_000)

const fleet = await startTestFleet()
t.teardown(() => fleet.stop())
const keys = Array.from({ length: TENANTS }, (_, i) => `t${i}`)
const random = randomOf(SEED)

t.test(
  `killed at random and resumed, a fleet ends as after an unbroken run (seed ${SEED})`,
  async t => {
    await fleet.write(
      '0001_base.sql',
      'CREATE TABLE things (id int); INSERT INTO things VALUES (1);',
    )
    await fleet.addTenants(['reference', ...keys])
    await fleet.run({ to: '0001' })
    await fleet.write(
      '0002_more.sql',
      'ALTER TABLE things ADD COLUMN a int DEFAULT 0; SELECT pg_sleep(0.01); UPDATE things SET a = a + 1;',
    )
    await fleet.write(
      '0003_index.sql',
      '-- no transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS things_a ON things (a);\n',
    )
    await fleet.write('0004_end.sql', 'SELECT pg_sleep(0.01); INSERT INTO things VALUES (2, 0);')
    t.match(await fleet.command(['--tenant-key', 'reference']).done, { code: 0 })

    for (let kill = 0; kill < KILLS; kill++) {
      const command = fleet.command(['--json'])
      // Each time further into the fleet, at a moment that lies anywhere in the work on the next tenants.
      let left = Math.floor(((kill + random()) * TENANTS) / (KILLS + 2))
      command.onLine = () => {
        if (left-- === 0) void delay(random() * 60).then(() => command.child.kill('SIGKILL'))
      }
      await once(command.child, 'close')
      t.equal(command.child.signalCode, 'SIGKILL')
    }
    const last = await fleet.command(['--json']).done
    t.match(last, { code: 0, stdout: /"failed":0/ })
    const applied = last.stdout.split('\n').filter(line => /"applied":[1-9]/.test(line)).length
    t.ok(applied > 0 && applied < TENANTS, `${applied} were left to do, not none and not all`)
    const schemas = new Map<string, string>()
    for (const { key, tenant } of await fleet.list()) {
      if (tenant === null) throw new Error('not configured')
      const session = sessionOf({ keyring: fleet.keyring }, tenant)
      await withSession(session, async client => {
        const { hash } = await fingerprintOf(client)
        const records = await client.query(
          'SELECT version, checksum FROM doorman_migrations ORDER BY 1',
        )
        const data = await client.query('SELECT id, a FROM things ORDER BY id')
        schemas.set(key, JSON.stringify([hash, records.rows, data.rows]))
      })
    }
    const reference = schemas.get('reference')
    for (const [key, schema] of schemas) t.equal(schema, reference, key)
    const { rows: notes } = await fleet.registry.admin.query(
      `SELECT m.state, m.version, schema_version, count(*)::int AS n FROM tenants
     LEFT JOIN tenant_migrations m ON tenant_id = id GROUP BY 1, 2, 3`,
    )
    const all = { state: 'ok', version: '0004', schema_version: '0004', n: TENANTS + 1 }
    t.strictSame(notes, [all], 'and the Registry knows')
  },
)

t.test('an index that a kill left half built is built anew', async t => {
  await fleet.query('t0', 'DROP INDEX things_a')
  await fleet.query('t0', `DELETE FROM doorman_migrations WHERE version >= '0003'`)
  await fleet.query('t0', 'CREATE INDEX things_a ON things (a)')
  await fleet.query(
    't0',
    `UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'things_a'::regclass`,
  )
  t.match(await fleet.command(['--tenant-key', 't0']).done, { code: 0 })
  const state = `SELECT indisvalid FROM pg_index WHERE indexrelid = 'things_a'::regclass`
  t.strictSame(await fleet.query('t0', state), [{ indisvalid: true }])
})

/** mulberry32: the same numbers for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
