import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { makeLog } from '../../registry/lib/log.ts'
import { RegistryStore } from '../../registry/store.ts'
import { startTestRegistry } from '../../registry/test-kit.ts'
import { applyUsage, type UsageParts } from '../../registry/usage-batch.ts'
import { divideUsage } from '../../registry/usage-parts.ts'
import { adoptJournals } from './adopt-journals.ts'
import { pidSpace, UsageJournal } from './journal.ts'
import { type JournalHead, journalText } from './journal-file.ts'
import { Meter } from './meter.ts'
import { UsageWriter } from './usage-writer.ts'

const registry = await startTestRegistry()
t.teardown(() => registry.stop())
const log = makeLog('test', 'silent')
const store = new RegistryStore({ url: registry.url, log })
t.teardown(() => store.close())
const child = spawn(process.execPath, ['--version'], { stdio: 'ignore' })
await once(child, 'exit')
/** Nobody has it any more. */
const pid = child.pid as number

async function folder(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'doorman-journal-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

const headOf = (change: Partial<JournalHead> = {}): JournalHead => ({
  ...{ version: 1, instance: randomUUID(), sequence: 1, host: hostname(), pid },
  ...{ pidSpace: pidSpace(), openedAtMs: Date.now(), restOf: null, isFinal: false },
  ...change,
})

/** Of `count` tenants, some with users, sketches and counters. */
function usageOf(ids: readonly string[]): UsageParts {
  const of = (tenant_id: string) => ({ tenant_id, date: '2026-03-01' })
  const some = ids.slice(0, 20)
  return {
    days: ids.map((id, i) => ({ ...of(id), responses_2xx: (i % 7) + 1, bytes_out: 100 })),
    users: some.flatMap(id =>
      Array.from({ length: 300 }, (_, i) => ({ ...of(id), user_id: `u${i}`, user_mark: 65 })),
    ),
    sketches: some.map(id => ({
      ...of(id),
      marks: Array.from({ length: 400 }, (_, i) => i * 64 + 3),
    })),
    counters: some.map(id => ({ ...of(id), name: 'emails', value: 2 })),
  }
}

async function booksOf(ids: readonly string[]) {
  const { rows } = await registry.admin.query(
    `SELECT count(*)::int AS days, sum(api_requests)::int AS requests, sum(users_named)::int AS users,
       (SELECT sum(value)::int FROM customer_usage_counters WHERE tenant_id = ANY($1)) AS emails,
       (SELECT count(*)::int FROM user_sketch_daily WHERE tenant_id = ANY($1)) AS sketches
     FROM customer_usage_daily WHERE tenant_id = ANY($1)`,
    [ids],
  )
  return rows[0]
}

const requestsOf = ({ days }: UsageParts) =>
  days.reduce((sum, day) => sum + (day.responses_2xx ?? 0), 0)

const idsOf = (count: number) => Array.from({ length: count }, () => randomUUID() as string)

/** A store that fails at its statement number `at`: before the statement, or after it. */
function failing(at: number, isAfter: boolean) {
  const state = { statements: 0, longest: 0 }
  const query: typeof store.query = async (text, values) => {
    state.statements++
    if (state.statements === at && !isAfter) throw new Error('killed')
    const rows = await store.query(text, values)
    state.longest = Math.max(state.longest, JSON.stringify(values).length)
    if (state.statements === at) throw new Error('killed')
    return rows
  }
  return { state, query }
}

t.test('the same usage is divided in the same way, in whatever order it is given', async t => {
  const usage = usageOf(idsOf(450))
  const { digest, parts } = await divideUsage(usage, 200)
  const turned = {
    days: usage.days.toReversed(),
    users: usage.users.toReversed(),
    sketches: usage.sketches
      .toReversed()
      .map(({ marks, ...of }) => ({ ...of, marks: marks.toReversed() })),
    counters: usage.counters.toReversed(),
  }
  t.equal((await divideUsage(turned, 200)).digest, digest)
  t.not((await divideUsage(usage, 100)).digest, digest)
  for (const { days, users, sketches } of parts) {
    t.ok(days.length <= 200)
    t.ok(users.length + sketches.flatMap(({ marks }) => marks).length <= 5000)
  }
  t.strictSame(
    [requestsOf(usage), usage.users.length, 20 * 400],
    [
      parts.reduce((sum, part) => sum + requestsOf(part), 0),
      parts.flatMap(({ users }) => users).length,
      parts.flatMap(({ sketches }) => sketches.flatMap(({ marks }) => marks)).length,
    ],
  )
  const none = { days: [], users: [], sketches: [], counters: [] }
  t.equal((await divideUsage(none, 200)).parts.length, 1)
})

t.test('a large journal comes in in parts; killed anywhere, each part counts once', async t => {
  for (const [isAfter, atOnce] of [
    [false, 1],
    [true, 1],
    [true, 2],
  ] as const) {
    const dir = await folder(t)
    const ids = idsOf(700)
    const usage = usageOf(ids)
    const head = headOf()
    await writeFile(join(dir, `${head.instance}.1.usage`), journalText(head, usage))
    // Each attempt is killed a statement later than the one before, as is one beside it.
    let attempts = 0
    while ((await readdir(dir)).length > 0 && attempts < 40) {
      attempts++
      await Promise.all(
        Array.from({ length: atOnce }, async (_, i) => {
          const { query } = failing(attempts + i, isAfter)
          const options = { dir, instance: randomUUID(), store: { query }, log }
          await adoptJournals(options).catch(() => {})
        }),
      )
    }
    t.ok(attempts > 1, `${attempts} attempts`)
    t.strictSame(await readdir(dir), [])
    t.match(await booksOf(ids), {
      ...{ days: 700, requests: requestsOf(usage), users: 6000, emails: 40, sketches: 20 },
    })
    const again = headOf({ instance: head.instance })
    await writeFile(join(dir, `${head.instance}.1.usage`), journalText(again, usage))
    t.equal(
      await adoptJournals({ dir, instance: randomUUID(), store, log }),
      0,
      'a copy counts nothing',
    )
    t.match(await booksOf(ids), { requests: requestsOf(usage) })
  }
})

t.test('no statement of a large journal is longer than a part', async t => {
  const dir = await folder(t)
  const ids = idsOf(3000)
  const head = headOf()
  await writeFile(join(dir, `${head.instance}.1.usage`), journalText(head, usageOf(ids)))
  const { state, query } = failing(-1, false)
  t.equal(await adoptJournals({ dir, instance: randomUUID(), store: { query }, log }), 1)
  t.ok(state.statements >= 15, `${state.statements} statements`)
  t.ok(state.longest < 700_000, `${state.longest} bytes`)
  t.match(await booksOf(ids), { days: 3000, users: 6000 })
})

t.test(
  'what a process has sent itself counts no second time in parts, nor the other way',
  async t => {
    const dir = await folder(t)
    const ids = idsOf(450)
    const usage = usageOf(ids)
    const head = headOf()
    const batch = { instance: head.instance, sequence: 1, sealedAtMs: Date.now(), ...usage }
    t.equal(await applyUsage(store, batch), 'applied')
    await writeFile(join(dir, `${head.instance}.1.usage`), journalText(head, usage))
    t.equal(await adoptJournals({ dir, instance: randomUUID(), store, log }), 0)
    t.strictSame(await readdir(dir), [])
    t.match(await booksOf(ids), { requests: requestsOf(usage) })

    // While parts are coming in nothing of that process overtakes them: they would be refused after it.
    const other = headOf()
    await writeFile(join(dir, `${other.instance}.1.usage`), journalText(other, usage))
    const { query } = failing(2, true)
    await adoptJournals({ dir, instance: randomUUID(), store: { query }, log }).catch(() => {})
    for (const sequence of [1, 2]) {
      const own = { ...batch, instance: other.instance, sequence }
      await t.rejects(applyUsage(store, own), { cause: { code: '55006' } })
    }
    t.equal(await adoptJournals({ dir, instance: randomUUID(), store, log }), 1)
    t.equal(await applyUsage(store, { ...batch, instance: other.instance }), 'taken')
    t.match(await booksOf(ids), { requests: 2 * requestsOf(usage) })
  },
)

t.test('where a process was killed in the midst of parts another one goes on', async t => {
  const dir = await folder(t)
  const instance = randomUUID()
  const journal = new UsageJournal({ dir, instance, log })
  const meter = new Meter({ instance, usersExactMax: 2, journal })
  const ids = idsOf(8)
  for (const id of ids) {
    for (const sub of ['u1', 'u2', 'u3', 'é"\n']) {
      const exchange = {
        ...{ tenant: { id }, status: 200, principal: { sub }, appUsage: 'emails=2', metered: null },
        ...{ errorCode: null, bytesIn: 1, bytesOut: 2 },
      }
      meter.answered(exchange as never)
      meter.finished(exchange as never, 5)
    }
  }
  const bad = ids.toSorted()[2] as string
  await registry.admin.query(`
    CREATE FUNCTION test_fail() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'made to fail' USING ERRCODE = '23514'; END $$;
    CREATE TRIGGER test_fail BEFORE INSERT ON customer_usage_daily
      FOR EACH ROW WHEN (NEW.tenant_id = '${bad}') EXECUTE FUNCTION test_fail()`)
  t.teardown(() => registry.admin.query('DROP TRIGGER test_fail ON customer_usage_daily'))
  const { query, state } = failing(6, true)
  const writer = new UsageWriter({ store: { query }, meter, log, flushMs: 60_000 })
  await writer.flush()
  journal.close()
  t.equal(state.statements, 6)
  const left = await folder(t)
  for (const name of await readdir(dir)) {
    const [first = '', ...lines] = (await readFile(join(dir, name), 'utf8')).split('\n')
    const head = { ...JSON.parse(first.slice(9)), pid }
    const text = journalText(head, { days: [], users: [], sketches: [], counters: [] })
    await writeFile(join(left, name), text + lines.join('\n'))
  }
  t.equal(await adoptJournals({ dir: left, instance: randomUUID(), store, log }), 1)
  t.strictSame(await readdir(left), [])
  t.match(await booksOf(ids), { days: 7, requests: 28, users: 14, emails: 56, sketches: 7 })
  const { rows } = await registry.admin.query('SELECT code, batch FROM usage_refused')
  t.match(rows, [{ code: '23514' }])
  t.match(JSON.parse(rows[0].batch), { days: [{ tenant_id: bad, responses_2xx: 4 }] })
})

t.test('a file that has changed since it was begun is kept for whoever looks', async t => {
  const dir = await folder(t)
  const ids = idsOf(450)
  const head = headOf()
  const name = `${head.instance}.1.usage`
  await writeFile(join(dir, name), journalText(head, usageOf(ids)))
  const { query } = failing(2, true)
  await adoptJournals({ dir, instance: randomUUID(), store: { query }, log }).catch(() => {})
  const before = await booksOf(ids)
  await writeFile(join(dir, name), journalText(head, usageOf(ids.toReversed())))
  t.equal(await adoptJournals({ dir, instance: randomUUID(), store, log }), 0)
  t.strictSame(await readdir(dir), [`${name}.refused`])
  t.strictSame(await booksOf(ids), before, 'nobody could say what of it is in')
})

t.test('a process that was taken for dead and lives counts nothing twice', async t => {
  const dir = await folder(t)
  const instance = randomUUID()
  const journal = new UsageJournal({ dir, instance, log })
  t.teardown(() => journal.close())
  const limits = { batchTenantsMax: 100 }
  const meter = new Meter({ instance, usersExactMax: 10, journal, limits })
  let isAway = true
  const query: typeof store.query = (text, values) =>
    isAway ? Promise.reject(new Error('ECONNREFUSED')) : store.query(text, values)
  const writer = new UsageWriter({ store: { query }, meter, log, flushMs: 60_000 })
  const ids = idsOf(300)
  const serve = (id: string) =>
    meter.answered({
      ...{ tenant: { id }, status: 200, principal: null, appUsage: null, metered: null },
    } as never)
  for (const id of ids) serve(id)
  // As another host sees it, whose clock says that nobody has touched it for long.
  const left = await folder(t)
  const [name = ''] = await readdir(dir)
  const parts = usageFrom(ids)
  await writeFile(join(left, name), journalText(headOf({ instance }), parts))
  t.equal(await adoptJournals({ dir: left, instance: randomUUID(), store, log }), 1)
  // It wakes before its network does: that an attempt had no answer says nothing of who brought it in.
  await writer.flush()
  isAway = false
  await writer.flush()
  t.match(await booksOf(ids), { requests: 300 })
  t.equal(meter.unsealed, 0)
  serve(ids[0] as string)
  await writer.flush()
  t.match(await booksOf(ids), { requests: 301 }, 'and goes on')
  t.strictSame(await readdir(dir), [])
})

function usageFrom(ids: readonly string[]): UsageParts {
  const today = new Date().toISOString().slice(0, 10)
  const days = ids.map(tenant_id => ({ tenant_id, date: today, responses_2xx: 1 }))
  return { days, users: [], sketches: [], counters: [] }
}

t.test('a file that cannot come in holds up those of its own process and no others', async t => {
  const dir = await folder(t)
  const ids = idsOf(3)
  // Its clock was a year ahead.
  const ahead = headOf({ openedAtMs: Date.now() + 365 * 86_400_000 })
  for (const sequence of [1, 2]) {
    const head = { ...ahead, sequence, openedAtMs: sequence === 1 ? ahead.openedAtMs : Date.now() }
    const text = journalText(head, usageFrom([ids[0] as string]))
    await writeFile(join(dir, `${head.instance}.${sequence}.usage`), text)
  }
  const late = headOf({ openedAtMs: Date.now() - 31 * 86_400_000 })
  await writeFile(
    join(dir, `${late.instance}.1.usage`),
    journalText(late, usageFrom([ids[1] as string])),
  )
  const good = headOf({ sequence: 3 })
  await writeFile(
    join(dir, `${good.instance}.3.usage`),
    journalText(good, usageFrom([ids[2] as string])),
  )
  await t.rejects(adoptJournals({ dir, instance: randomUUID(), store, log }), {
    cause: { code: 'DM001' },
  })
  t.same(await booksOf(ids), { days: 1, requests: 1, users: 0, emails: null, sketches: 0 })
  t.strictSame(
    (await readdir(dir)).sort(),
    [
      ...[
        `${ahead.instance}.1.usage`,
        `${ahead.instance}.2.usage`,
        `${late.instance}.1.usage.refused`,
      ],
    ].sort(),
  )
})
