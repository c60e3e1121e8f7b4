import { randomBytes, randomUUID } from 'node:crypto'
import { Client } from 'pg'
import t, { type Test } from 'tap'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import { startFaultProxy } from '../fault-proxy.ts'
import { holdsInForce } from '../holds.ts'
import { parsePgUrl } from '../lib/pg.ts'
import { RegistryStore } from '../store.ts'
import { findListedTenant } from '../tenant-list.ts'
import { insertTenant, writeDb } from '../tenant-write.ts'
import { newTenant, silent, startTestRegistry } from '../test-kit.ts'
import { MoveAborted, type MoveOptions, type MoveStep, moveTenant } from './move.ts'
import { makePlace } from './place.ts'
import { dropLeftPlace, replicationName } from './replication.ts'

const LOGICAL = { wal_level: 'logical', max_wal_senders: '8', max_replication_slots: '8' }
const [registry, near, far] = await Promise.all([
  startTestRegistry(),
  startTestPostgres(LOGICAL),
  startTestPostgres(LOGICAL),
])
const store = new RegistryStore({ url: registry.url, log: silent })
t.teardown(async () => {
  await store.close()
  await Promise.all([registry.stop(), near.stop(), far.stop()])
})

/** Administrators of managed servers are no superusers. */
await query(
  near.url('postgres'),
  `CREATE ROLE boss LOGIN CREATEROLE CREATEDB REPLICATION PASSWORD 'b'`,
)
await query(
  far.url('postgres'),
  `CREATE ROLE boss LOGIN CREATEROLE CREATEDB PASSWORD 'b';
  GRANT pg_create_subscription TO boss`,
)

const SCHEMA = `
  CREATE SCHEMA extra;
  CREATE TYPE mood AS ENUM ('fine', 'it''s bad');
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'touched'; RETURN NEW; END $$;
  CREATE TABLE parents (id serial PRIMARY KEY, mood mood DEFAULT 'fine', n integer NOT NULL CHECK (n > 0),
    doubled integer GENERATED ALWAYS AS (n * 2) STORED, note text, doc jsonb, wide text);
  CREATE TABLE extra."Child ""rows""" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent integer NOT NULL REFERENCES parents (id) ON DELETE CASCADE, k uuid UNIQUE);
  CREATE TABLE keyless (a integer, b text);
  ALTER TABLE keyless REPLICA IDENTITY FULL;
  INSERT INTO parents (n, doc, wide, note) SELECT i, jsonb_build_object('i', i), repeat('x', i), 'old'
    FROM generate_series(1, 2000) i;
  INSERT INTO extra."Child ""rows""" (parent, k) SELECT i, gen_random_uuid() FROM generate_series(1, 2000) i;
  CREATE TRIGGER on_touch BEFORE INSERT ON parents FOR EACH ROW EXECUTE FUNCTION touch()`

async function startTenant() {
  const key = `t${randomBytes(6).toString('hex')}`
  const password = randomUUID()
  await query(near.url('postgres'), `CREATE ROLE ${key} LOGIN PASSWORD '${password}'`)
  await query(near.url('postgres'), `CREATE DATABASE ${key} OWNER ${key}`)
  const url = near.url(key, key, password)
  await query(url, SCHEMA)
  const place = { host: '127.0.0.1', name: key, user: key, sslMode: null, poolMax: null }
  const from = { ...place, password, port: near.port }
  const db = { ...from, passwordEncrypted: 'v1.old' }
  const tenant = await insertTenant(store, newTenant({ db }))
  const targetAdmin = parsePgUrl(far.url('postgres', 'boss', 'b'))
  const wanted = { database: key, user: key }
  const portNow = async () => (await findListedTenant(store, tenant.id))?.db.port

  /** Makes the place and moves there; what was made goes again where that fails. */
  async function move(onStep: MoveOptions['onStep'] = () => {}, change: Partial<MoveOptions> = {}) {
    const made = await makePlace(targetAdmin, wanted, null)
    const to = { ...place, port: far.port, password: made.password }
    const { configVersion } = (await findListedTenant(store, tenant.id)) as {
      configVersion: number
    }
    try {
      await moveTenant({
        ...{ store, tenant: { id: tenant.id, configVersion }, from, to, onStep },
        switchTo: (...args) => writeDb(store, ...args),
        ...{ passwordEncrypted: 'v1.new', ca: undefined, addressPolicy: null },
        ...{ holdMs: 30_000, isDryRun: false, signal: new AbortController().signal },
        live: {
          sourceAdmin: parsePgUrl(near.url(key, 'boss', 'b')),
          targetAdmin: parsePgUrl(far.url(key, 'boss', 'b')),
          seenAt: { host: '127.0.0.1', port: near.port },
        },
        ...change,
      })
    } catch (error) {
      await made.unmake()
      throw error
    }
    return far.url(key, key, made.password)
  }
  return { key, tenant, url, targetAdmin, wanted, portNow, move }
}

async function query(url: string, text: string) {
  const client = new Client(url)
  client.on('error', () => {})
  await client.connect()
  try {
    const results = await client.query(text)
    return ([results].flat().at(-1)?.rows ?? []) as Record<string, unknown>[]
  } finally {
    await client.end()
  }
}

type Tenant = Awaited<ReturnType<typeof startTenant>>

/** What a move makes beside the rows, wherever. */
async function leftOf({ key, tenant }: Tenant) {
  const name = replicationName(tenant.id)
  const there = `SELECT 'role ' || rolname AS what FROM pg_roles WHERE rolname = '${name}'
    UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = '${key}'
    UNION ALL SELECT 'publication' FROM pg_publication
    UNION ALL SELECT 'subscription' FROM pg_subscription WHERE subname = '${name}'`
  const rows = [
    ...(await query(near.url(key), there)),
    ...(await query(far.url('postgres'), there)),
  ]
  return rows.map(({ what }) => what)
}

async function unmoved(t: Test, tenant: Tenant) {
  t.equal(await tenant.portNow(), near.port)
  t.strictSame(await holdsInForce(store), [], 'it is not held')
  t.strictSame(await leftOf(tenant), [], 'nothing is left')
  await query(tenant.url, `INSERT INTO parents (n) VALUES (1); UPDATE keyless SET b = 'x'`)
}

/** As soon as the table is there, and before its rows are. */
async function spoil(url: string) {
  const client = new Client(url)
  client.on('error', () => {})
  await client.connect()
  try {
    for (;;) {
      const { rows } = await client.query("SELECT to_regclass('public.parents') AS it")
      if (rows[0].it !== null) break
    }
    await client.query('ALTER TABLE parents ADD CHECK (n < 5)')
  } finally {
    await client.end()
  }
}

const ALL = `SELECT (SELECT json_agg(p ORDER BY id) FROM parents p)::text AS parents,
  (SELECT json_agg(c ORDER BY id) FROM extra."Child ""rows""" c)::text AS children,
  (SELECT json_agg(k ORDER BY a) FROM keyless k)::text AS keyless`

t.test('a live move brings over what was there and what is written meanwhile', async t => {
  const tenant = await startTenant()
  const app = new Client(tenant.url)
  app.on('error', () => {})
  await app.connect()
  let written = 0
  let isEnded = false
  // It goes on until the locks refuse it, and knows of each transaction whether it was committed.
  const writing = (async () => {
    while (!isEnded) {
      const n = 10_000 + written
      await app.query(`BEGIN; INSERT INTO parents (n, note) VALUES (${n}, 'new');
        UPDATE parents SET wide = wide || 'y', doc = NULL WHERE n = ${1 + (written % 500)};
        DELETE FROM parents WHERE n = ${600 + (written % 1000)};
        INSERT INTO keyless VALUES (${n}, 'b'); UPDATE keyless SET b = 'c' WHERE a = ${n - 1}; COMMIT`)
      written += 1
    }
  })().catch(error => {
    t.match(String(error.code), /42501|57P01|undefined/)
  })
  const steps = new Set<MoveStep>()
  let atHold = 0
  const onStep = (step: MoveStep) => {
    steps.add(step)
    if (step === 'hold') atHold = written
  }
  const url = await tenant.move(onStep)
  isEnded = true
  await writing
  await app.end().catch(() => {})
  t.equal(await tenant.portNow(), far.port)
  t.ok(steps.has('replicate') && atHold > 0, `${atHold} writes came while it was copied`)
  const [before] = await query(near.url(tenant.key), ALL)
  const [after] = await query(url, ALL)
  t.strictSame(after, before)
  t.equal(JSON.parse(String(after?.keyless)).length >= written, true, 'each acknowledged one')
  t.strictSame(await leftOf(tenant), [], 'of the replication nothing is left')
  const [row] = await query(url, 'INSERT INTO parents (n) VALUES (9) RETURNING note, mood, doubled')
  t.match(row, { note: 'touched', mood: 'fine', doubled: 18 }, 'triggers, keys and sequences go on')
  await t.rejects(query(tenant.url, 'SELECT 1'), { code: '42501' }, 'the old one is closed')
})

t.test('whatever fails, the tenant is where it was, and no slot is left', async t => {
  const tenant = await startTenant()
  for (const at of ['replicate', 'drain', 'copy', 'switch'] as const) {
    const stop = new AbortController()
    const onStep = (step: MoveStep) => {
      if (step === at) stop.abort(new Error('stopped'))
    }
    await t.rejects(tenant.move(onStep, { signal: stop.signal }), MoveAborted, `at ${at}`)
    await unmoved(t, tenant)
  }
  let spoilt: Promise<unknown> = Promise.resolve()
  const refuse = (step: MoveStep) => {
    if (step === 'rehearse') spoilt = spoil(far.url(tenant.key))
  }
  const broken = tenant.move(refuse)
  await t.rejects(broken, { message: /new database refuses a row|is violated by some row/ })
  await spoilt
  await unmoved(t, tenant)
})

t.test('a table whose changes could not be followed is refused before it is published', async t => {
  const tenant = await startTenant()
  const refused = async (make: string, message: RegExp, undo: string) => {
    await query(tenant.url, make)
    await t.rejects(tenant.move(), { name: 'MoveRefused', message })
    await query(tenant.url, undo)
    await unmoved(t, tenant)
  }
  const identity = 'ALTER TABLE keyless REPLICA IDENTITY'
  await refused(`${identity} DEFAULT`, /keyless has no primary key/, `${identity} FULL`)
  await refused('CREATE UNLOGGED TABLE u (n int PRIMARY KEY)', /u is unlogged/, 'DROP TABLE u')
  const trigger = 'ALTER TABLE parents ENABLE'
  await refused(
    `${trigger} ALWAYS TRIGGER on_touch`,
    /fires for replicated/,
    `${trigger} TRIGGER on_touch`,
  )
})

t.test('what a killed operator has left is cleared away by the next', async t => {
  const tenant = await startTenant()
  const { key, targetAdmin, wanted } = tenant
  const name = replicationName(tenant.tenant.id)
  // As a live move makes them, one after the other.
  const made = await makePlace(targetAdmin, wanted, null)
  await query(far.url(key, key, made.password), 'CREATE TABLE parents (id integer PRIMARY KEY)')
  await query(
    near.url('postgres', 'boss', 'b'),
    `CREATE ROLE ${name} LOGIN REPLICATION PASSWORD 'p'`,
  )
  await query(
    tenant.url,
    `GRANT SELECT ON parents TO ${name}; CREATE PUBLICATION ${name} FOR TABLE parents`,
  )
  const dsn = `host=127.0.0.1 port=${near.port} dbname=${key} user=${name} password=p`
  await query(far.url(key), `CREATE SUBSCRIPTION ${name} CONNECTION '${dsn}' PUBLICATION ${name}`)
  t.equal((await leftOf(tenant)).length >= 4, true)
  await query(
    far.url('postgres'),
    `GRANT ${key} TO boss; ALTER SUBSCRIPTION`.split(';')[0] as string,
  )
  const superuser = parsePgUrl(far.url('postgres'))
  t.equal(await dropLeftPlace(superuser, wanted, tenant.tenant.id, null), true)
  t.equal(await dropLeftPlace(superuser, wanted, tenant.tenant.id, null), false)
  await tenant.move()
  t.equal(await tenant.portNow(), far.port)
  t.strictSame(await leftOf(tenant), [])
})

t.test('a database that is not of such a move is never dropped', async t => {
  const { targetAdmin, wanted, tenant } = await startTenant()
  const made = await makePlace(targetAdmin, wanted, null)
  t.equal(await dropLeftPlace(targetAdmin, wanted, tenant.id, null), false)
  await t.resolves(query(far.url(wanted.database, wanted.user, made.password), 'SELECT 1'))
})

t.test('one that has come through meanwhile is not taken for what was left', async t => {
  const { targetAdmin, wanted, tenant } = await startTenant()
  const made = await makePlace(targetAdmin, wanted, null)
  const name = replicationName(tenant.id)
  const here = far.url(wanted.database)
  await query(
    here,
    `CREATE SUBSCRIPTION ${name} CONNECTION 'dbname=none' PUBLICATION ${name}
     WITH (connect = false, slot_name = NONE)`,
  )
  const link = await startFaultProxy({ host: '127.0.0.1', port: far.port })
  t.teardown(() => link.stop())
  const admin = { ...parsePgUrl(far.url('postgres')), port: link.port }
  const dropping = dropLeftPlace(admin, wanted, tenant.id, null)
  dropping.catch(() => {})
  // It has seen the subscription, and is on its way into that database.
  while (link.accepted < 2) await new Promise(setImmediate)
  link.set({ stall: true })
  // The last thing that the other move does there before the tenant is served from it.
  await query(here, `DROP SUBSCRIPTION ${name}`)
  link.set({ stall: false })
  t.equal(await dropping, false)
  await t.resolves(query(far.url(wanted.database, wanted.user, made.password), 'SELECT 1'))
})
