import { spawnSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'
import t, { type Test } from 'tap'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import { holdsInForce, placeHold, releaseHold } from '../holds.ts'
import { parsePgUrl } from '../lib/pg.ts'
import { Membership } from '../membership.ts'
import { RegistryStore } from '../store.ts'
import type { TenantId } from '../tenant.ts'
import { findListedTenant } from '../tenant-list.ts'
import { insertTenant, writeDb } from '../tenant-write.ts'
import { newTenant, silent, startTestRegistry } from '../test-kit.ts'
import { MoveAborted, type MoveOptions, type MoveStep, moveTenant } from './move.ts'
import { makePlace } from './place.ts'

const [registry, far] = await Promise.all([startTestRegistry(), startTestPostgres()])
const store = new RegistryStore({ url: registry.url, log: silent })
t.teardown(async () => {
  await store.close()
  await Promise.all([registry.stop(), far.stop()])
})

/** Of all that can be copied, and values that are easy to lose on the way. */
const RICH = `
  CREATE SCHEMA extra;
  CREATE TYPE mood AS ENUM ('fine', 'it''s bad');
  CREATE SEQUENCE extra.loose START 7 INCREMENT 5;
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'touched'; RETURN NEW; END $$;
  CREATE FUNCTION half(n integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT n / 2';
  CREATE TABLE "Odd ""name""" (
    id serial PRIMARY KEY, "select" text COLLATE "C", mood mood DEFAULT 'fine', n integer NOT NULL CHECK (n > 0),
    doubled integer GENERATED ALWAYS AS (n * 2) STORED, note text, raw bytea, doc jsonb, list text[], at timestamptz,
    amount numeric(20, 5), ratio float8, parent integer REFERENCES "Odd ""name""" DEFERRABLE INITIALLY DEFERRED);
  CREATE TABLE extra.counted (id bigint GENERATED ALWAYS AS IDENTITY (START 100) PRIMARY KEY, gone text, odd integer
    REFERENCES "Odd ""name""" (id) ON DELETE CASCADE, UNIQUE (odd, id)) WITH (fillfactor = 70);
  ALTER TABLE extra.counted DROP COLUMN gone;
  CREATE UNLOGGED TABLE scratch (k text PRIMARY KEY, v integer DEFAULT half(9));
  CREATE UNIQUE INDEX partly ON "Odd ""name""" (lower("select")) WHERE n > 1;
  CREATE VIEW shown WITH (security_barrier = true) AS SELECT id, n FROM "Odd ""name""" WHERE n < 1000;
  INSERT INTO "Odd ""name""" ("select", mood, n, raw, doc, list, at, amount, ratio, parent) VALUES
    (E'tab\\tline\\nback\\\\slash \\\\N', 'it''s bad', 1, '\\x00ff5c', '{"a": [1, null]}', '{"a,b",NULL,"\\"q\\""}',
      'infinity', 'NaN', '-Infinity', NULL),
    ('ünïcode 🚪', 'fine', 2, '', 'null', '{}', '2024-02-29 12:00:00.123456+14', 12345678901234.56789, 0.1, 1),
    (NULL, NULL, 3, NULL, NULL, NULL, '-infinity', NULL, 1e-300, 2);
  COMMIT;
  CREATE TRIGGER on_touch BEFORE INSERT ON "Odd ""name""" FOR EACH ROW EXECUTE FUNCTION touch();
  CREATE TRIGGER off_touch BEFORE UPDATE ON "Odd ""name""" FOR EACH ROW EXECUTE FUNCTION touch();
  ALTER TABLE "Odd ""name""" DISABLE TRIGGER off_touch;
  INSERT INTO extra.counted (odd) SELECT 1 + i % 3 FROM generate_series(1, 5000) i;
  SELECT nextval('extra.loose')`

/** A tenant with a database of its own on the first server, and an empty one on the second. */
async function startTenant(sql = RICH) {
  const key = `t${randomBytes(6).toString('hex')}`
  const password = randomUUID()
  for (const server of [registry.server, far]) {
    await query(server.url('postgres'), `CREATE ROLE ${key} LOGIN PASSWORD '${password}'`)
    await query(server.url('postgres'), `CREATE DATABASE ${key} OWNER ${key}`)
  }
  const [oldUrl, newUrl] = [registry.server, far].map(server => server.url(key, key, password))
  if (sql !== '') await query(oldUrl as string, sql)
  const place = {
    ...{ host: '127.0.0.1', name: key, user: key, password },
    sslMode: null,
    poolMax: null,
  }
  const from = { ...place, port: registry.server.port }
  const to = { ...place, port: far.port }
  const db = { ...from, passwordEncrypted: 'v1.old' }
  const tenant = await insertTenant(store, newTenant({ db }))
  const steps: MoveStep[] = []
  const options: MoveOptions = {
    ...{ store, tenant, from, to, passwordEncrypted: 'v1.new', ca: undefined, addressPolicy: null },
    ...{ holdMs: 30_000, isDryRun: false, signal: new AbortController().signal },
    switchTo: (...args) => writeDb(store, ...args),
    onStep: step => steps.push(step),
  }
  const portNow = async () => (await findListedTenant(store, tenant.id))?.db.port
  return { key, tenant, options, steps, oldUrl: String(oldUrl), newUrl: String(newUrl), portNow }
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const RUN_SQL = `import pg from 'pg'
const client = new pg.Client(process.argv[1])
await client.connect()
const { rowCount } = await client.query(process.argv[2])
await client.end()
if (rowCount === 0) throw new Error('there was nothing to end')`

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

/** It is where it was, is not held, takes writes, and the target is ready for the next attempt. */
async function unmoved(t: Test, { portNow, oldUrl, newUrl, tenant }: Started) {
  t.equal(await portNow(), registry.server.port)
  const held = (await holdsInForce(store)).filter(({ tenantId }) => tenantId === tenant.id)
  t.strictSame(held, [], 'it is not held')
  await query(oldUrl, 'INSERT INTO scratch (k) VALUES (gen_random_uuid()::text)')
  const left = await query(
    newUrl,
    `SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname IN ('public', 'extra') UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace`,
  )
  t.strictSame(left, [], 'nothing is left in the target')
}

type Started = Awaited<ReturnType<typeof startTenant>>

t.test('a move brings over every object and every value', async t => {
  const started = await startTenant()
  const { options, oldUrl, newUrl, key } = started
  await query(oldUrl, 'SELECT 1')
  const dump = async (url: string) => {
    const odd = await query(url, 'SELECT *, xmin IS NULL AS x FROM "Odd ""name""" ORDER BY id')
    const counted = await query(url, 'SELECT * FROM extra.counted ORDER BY id')
    const catalog = await query(
      url,
      `SELECT c.relname, c.relkind, c.relpersistence, c.reloptions::text, pg_get_indexdef(c.oid) AS index,
        (SELECT string_agg(pg_get_constraintdef(k.oid), ';' ORDER BY contype, conname) FROM pg_constraint k
          WHERE conrelid = c.oid) AS keys,
        (SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
          pg_get_expr(adbin, adrelid)), ';' ORDER BY attnum) FROM pg_attribute a LEFT JOIN pg_attrdef d
          ON adrelid = attrelid AND adnum = attnum WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns,
        (SELECT string_agg(pg_get_triggerdef(g.oid) || tgenabled::text, ';' ORDER BY tgname) FROM pg_trigger g
          WHERE tgrelid = c.oid AND NOT tgisinternal) AS triggers
      FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE nspname IN ('public', 'extra') ORDER BY nspname, relname`,
    )
    return { odd, counted, catalog }
  }
  const before = await dump(oldUrl)
  t.equal(before.counted.length, 5000)
  const app = new Client(oldUrl)
  app.on('error', () => {})
  await app.connect()
  const cut = new Promise(resolve => app.once('end', resolve))
  const report = await moveTenant(options)
  t.match(report, { tables: 3, rows: 5003, fenceProblem: null, notes: [] })
  t.strictSame(await dump(newUrl), before)
  t.equal(await started.portNow(), far.port)
  const [next] = await query(newUrl, "SELECT nextval('extra.loose') AS loose")
  t.equal(next?.loose, '12', 'sequences go on')
  const [row] = await query(
    newUrl,
    'INSERT INTO "Odd ""name""" (n) VALUES (9) RETURNING id, note, mood',
  )
  t.match(row, { id: 4, note: 'touched', mood: 'fine' }, 'so do keys, defaults and triggers')

  t.comment('the old one')
  await cut
  await t.rejects(query(oldUrl, 'SELECT 1'), { code: '42501' }, 'lets the tenant’s role in no more')
  const asRole = registry.server.url(key)
  const write = `SET ROLE ${key}; INSERT INTO scratch (k) VALUES ('late')`
  await t.rejects(query(asRole, write), { code: '42501' }, 'and would take none of its writes')
  for (const undo of report.undo) await query(asRole, undo)
  await t.resolves(query(oldUrl, "INSERT INTO scratch (k) VALUES ('undone')"))
})

t.test('a write that waits for the locks is refused, never lost', async t => {
  const { options, oldUrl, newUrl } = await startTenant()
  const app = new Client(oldUrl)
  app.on('error', () => {})
  await app.connect()
  let write: Promise<string> | null = null
  const onStep = (step: MoveStep) => {
    // By now the tables are locked; this is a gateway that heard of no hold.
    if (step === 'copy') {
      write = app.query("INSERT INTO scratch (k) VALUES ('late')").then(
        () => 'written',
        error => String(error.code),
      )
    }
  }
  await moveTenant({ ...options, onStep })
  t.match(await write, /42501|57P01|undefined/, 'its client learns that it failed')
  t.strictSame(await query(newUrl, "SELECT 1 FROM scratch WHERE k = 'late'"), [])
  await app.end().catch(() => {})
})

t.test('whatever fails before the switch, the tenant is where it was', async t => {
  const started = await startTenant()
  const { options, oldUrl, tenant } = started
  const fails = async (t: Test, change: Partial<MoveOptions>, error: { message: RegExp }) => {
    await t.rejects(moveTenant({ ...options, ...change }), error)
    await unmoved(t, started)
  }

  await t.test('stopped at each step', async t => {
    for (const stopAt of ['drain', 'copy', 'switch'] as const) {
      const stop = new AbortController()
      const onStep = (step: MoveStep) => {
        if (step === stopAt) stop.abort(new Error('stopped'))
      }
      const aborted = Object.assign(new MoveAborted(), {
        message: /^stopped\. The tenant is where/,
      })
      await fails(t, { signal: stop.signal, onStep }, aborted)
    }
  })

  await t.test('a gateway that does not hold it', async t => {
    const deaf = new Membership({ store, log: silent, worker: 0, version: 'v', heartbeatMs: 500 })
    await deaf.join()
    await fails(
      t,
      { holdMs: 5100 },
      { message: /not all gateways hold it in time: .* has not answered/ },
    )
    await deaf.leave()
  })

  await t.test('a transaction that does not end', async t => {
    const app = new Client(oldUrl)
    await app.connect()
    await app.query("BEGIN; INSERT INTO scratch (k) VALUES ('open')")
    await fails(t, { holdMs: 5100 }, { message: /lock timeout|longer than requests may wait/ })
    await app.end()
  })

  await t.test(
    'a schema that changes meanwhile, a tenant that changes meanwhile, a hold that ends',
    async t => {
      const during = (at: MoveStep, work: () => Promise<unknown>) => {
        let done: Promise<unknown> = Promise.resolve()
        // The move goes on only once the change is there.
        const slow: MoveOptions['store'] = {
          query: async (text, values) => {
            await done
            return store.query(text, values)
          },
        }
        const switchTo: MoveOptions['switchTo'] = async (...args) => {
          await done
          return writeDb(store, ...args)
        }
        const onStep = (step: MoveStep) => {
          if (step === at) done = work()
        }
        return { store: slow, switchTo, onStep }
      }
      const alter = () => query(oldUrl, 'ALTER TABLE scratch ADD COLUMN late integer')
      await fails(t, during('hold', alter), { message: /schema was changed/ })
      const release = () => releaseHold(store, tenant.id, null)
      await fails(t, during('switch', release), { message: /hold has ended/ })
      const edit = () =>
        query(registry.url, `UPDATE tenants SET name = 'x' WHERE id = '${tenant.id}'`)
      await fails(t, during('switch', edit), { message: /changed by someone else/ })
    },
  )

  await t.test('a target that goes down during the copy', async t => {
    const { port } = far
    const onStep = (step: MoveStep) => {
      if (step !== 'copy') return
      // While nothing of the move goes on: a few rows are copied sooner than another connection is made.
      const sql = `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE application_name = 'doorman-move'`
      const ended = spawnSync(
        process.execPath,
        ['--input-type=module', '-e', RUN_SQL, far.url('postgres'), sql],
        { cwd: ROOT, encoding: 'utf8', timeout: 20_000 },
      )
      t.equal(ended.status, 0, ended.stderr)
    }
    await t.rejects(moveTenant({ ...options, onStep, tenant: await fresh(tenant.id) }), MoveAborted)
    t.equal(far.port, port)
    await unmoved(t, started)
  })

  await t.test('two operators at once', async t => {
    const hold = await placeHold(store, tenant.id, 30_000, null)
    await t.rejects(moveTenant(options), { message: /held already/ })
    const held = (await holdsInForce(store)).map(({ holdId }) => holdId)
    t.strictSame(held, [hold.id], 'the other one’s hold stands')
    await releaseHold(store, tenant.id, hold.id)
    await unmoved(t, started)
  })

  await t.test('a dry run', async t => {
    const steps: MoveStep[] = []
    const onStep = (step: MoveStep) => steps.push(step)
    const report = await moveTenant({ ...options, isDryRun: true, onStep })
    t.match(report, { tables: 3, rows: 0, heldMs: 0 })
    t.strictSame(steps, ['preflight', 'rehearse'])
    await unmoved(t, started)
  })

  await t.resolves(
    moveTenant({ ...options, tenant: await fresh(tenant.id) }),
    'and can be moved after all',
  )
})

async function fresh(id: TenantId) {
  const listed = await findListedTenant(store, id)
  return { id, configVersion: listed?.configVersion ?? 0 }
}

t.test('what cannot be moved is refused before anybody waits', async t => {
  const started = await startTenant('')
  const { options, steps, oldUrl, newUrl } = started
  const refused = async (make: string, message: RegExp, change: Partial<MoveOptions> = {}) => {
    await query(oldUrl, make)
    const to = { ...options.to, ...change.to }
    await t.rejects(moveTenant({ ...options, ...change, to }), { name: 'MoveRefused', message })
    await query(oldUrl, 'DROP OWNED BY CURRENT_USER; CREATE SCHEMA IF NOT EXISTS public')
  }
  const one = 'CREATE TABLE one (n integer)'
  await refused('CREATE TABLE p (n int) PARTITION BY RANGE (n)', /partitioned table public\.p/)
  await refused(`${one}; ALTER TABLE one ENABLE ROW LEVEL SECURITY`, /row level/)
  await refused('CREATE DOMAIN d AS int', /type public\.d/)
  await refused('CREATE MATERIALIZED VIEW m AS SELECT 1', /materialized view public\.m/)
  await refused('SELECT lo_create(0)', /large objects/)
  const big = "CREATE TABLE big AS SELECT i, repeat('x', 1000) FROM generate_series(1, 60000) i"
  await refused(big, /MB may take \d+ s to copy, .*--seconds \d+/, { holdMs: 10_000 })
  const to = (change: object) => ({ to: change as MoveOptions['to'] })
  await refused(one, /password authentication failed/, to({ password: 'wrong' }))
  await refused(one, /the very database/, to({ port: registry.server.port }))
  await query(newUrl, one)
  await refused(one, /not empty/)
  t.notOk(steps.includes('hold'))
})

t.test('a place that is made opens by its password, and goes again', async t => {
  const admin = parsePgUrl(far.url('postgres'))
  const wanted = { database: `New "db"`, user: `New role` }
  const made = await makePlace(admin, wanted, null)
  const url = far.url(wanted.database, wanted.user, made.password)
  const [row] = await query(
    url,
    `SELECT current_user AS me, has_database_privilege(current_database(), 'CREATE') AS may`,
  )
  t.strictSame(row, { me: wanted.user, may: true })
  await t.rejects(makePlace(admin, wanted, null), /already/, 'what is there is nobody’s to take')
  await made.unmake()
  await t.rejects(query(url, 'SELECT 1'))
  const [left] = await query(
    far.url('postgres'),
    `SELECT count(*)::int AS n FROM pg_roles WHERE rolname = 'New role'`,
  )
  t.equal(left?.n, 0)
})
