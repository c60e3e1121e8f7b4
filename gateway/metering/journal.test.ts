import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { makeLog } from '../../registry/lib/log.ts'
import type { UsageBatch, UsageParts } from '../../registry/usage-batch.ts'
import { adoptJournals } from './adopt-journals.ts'
import { pidSpace, UsageJournal } from './journal.ts'
import { type JournalHead, journalText, readJournal } from './journal-file.ts'
import { Meter, type MeterLimits } from './meter.ts'

const log = makeLog('test', 'silent')

async function folder(t: Test): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'doorman-journal-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  return dir
}

/** A process id that nobody has. */
async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ['--version'], { stdio: 'ignore' })
  await once(child, 'exit')
  return child.pid as number
}

/**
 * The Registry's side, as `usage_apply` and `usage_apply_part` do it: shown against the real one in metering.test.ts and
 * bring-in.test.ts.
 */
function makeBooks() {
  const last = new Map<string, { sequence: number; parts: number }>()
  const requests = new Map<string, number>()
  const add = (json: string) => {
    for (const day of (JSON.parse(json) as UsageParts).days) {
      requests.set(day.tenant_id, (requests.get(day.tenant_id) ?? 0) + (day.responses_2xx ?? 0))
    }
    return [{ outcome: 'applied' }]
  }
  const apply = (instance: string, sequence: number, json: string) => {
    if ((last.get(instance)?.sequence ?? 0) >= sequence) return [{ outcome: 'known' }]
    last.set(instance, { sequence, parts: Number.POSITIVE_INFINITY })
    return add(json)
  }
  const query = async (text: string, values: readonly unknown[]) => {
    const [instance, sequence, , part] = values as [string, number, number, number]
    if (!text.includes('usage_apply_part')) return apply(instance, sequence, String(values[3]))
    const known = last.get(instance) ?? { sequence: 0, parts: 0 }
    const parts = known.sequence < sequence ? 0 : known.parts
    if (known.sequence > sequence || parts >= part) return [{ outcome: 'known' }]
    last.set(instance, { sequence, parts: part })
    return add(String(values[8]))
  }
  return { store: { query }, requests }
}

function headOf(change: Partial<JournalHead> = {}): JournalHead {
  const who = { instance: randomUUID(), sequence: 1, host: hostname(), pid: process.pid }
  const about = { openedAtMs: Date.now(), restOf: null, isFinal: false, pidSpace: pidSpace() }
  return { version: 1, ...who, ...about, ...change }
}

function startMeter(dir: string, limits: Partial<MeterLimits> = {}, fileBytesMax?: number) {
  const instance = randomUUID()
  const options = { dir, instance, log, ...(fileBytesMax && { fileBytesMax }) }
  const journal = new UsageJournal(options)
  const meter = new Meter({ instance, usersExactMax: 100, journal, limits })
  const serve = (tenant: string, change: object = {}) => {
    const base = { tenant: { id: tenant }, status: 200, errorCode: null, bytesIn: 0, bytesOut: 0 }
    const exchange = { ...base, principal: null, appUsage: null, metered: null, ...change }
    meter.answered(exchange as never)
    meter.finished(exchange as never, 1)
  }
  return { meter, journal, instance, serve }
}

/** As another process would find it after this one was killed. */
async function asLeft(t: Test, dir: string): Promise<string> {
  const left = await folder(t)
  const pid = await deadPid()
  for (const name of await readdir(dir)) {
    const text = await readFile(join(dir, name), 'utf8')
    const file = readJournal(text)
    if (file === null) continue
    // The head alone names the process.
    const [first = ''] = text.split('\n')
    const head = journalText(
      { ...file.head, pid },
      { days: [], users: [], sketches: [], counters: [] },
    )
    await writeFile(join(left, name), head + text.slice(first.length + 1))
  }
  return left
}

const adopt = (dir: string, books: ReturnType<typeof makeBooks>) =>
  adoptJournals({ dir, instance: randomUUID(), store: books.store as never, log })

const arbitraryParts: fc.Arbitrary<UsageParts> = fc
  .array(
    fc.record({
      of: fc.record({ tenant_id: fc.uuid(), date: fc.constantFrom('2026-03-01', '2026-03-02') }),
      responses_2xx: fc.integer({ min: 1, max: 1e6 }),
      users: fc.uniqueArray(fc.string({ unit: 'grapheme', maxLength: 20 }), { maxLength: 4 }),
      marks: fc.uniqueArray(fc.integer({ min: 64, max: 16_383 * 64 + 33 }), {
        minLength: 1,
        maxLength: 4,
      }),
    }),
    { maxLength: 6 },
  )
  .map(all => ({
    days: all.map(({ of, responses_2xx }) => ({ ...of, responses_2xx })),
    users: all.flatMap(({ of, users }) =>
      users.map(user_id => ({ ...of, user_id, user_mark: 65 })),
    ),
    sketches: all.map(({ of, marks }) => ({ ...of, marks })),
    counters: all.map(({ of }) => ({ ...of, name: 'emails', value: 2 })),
  }))

t.test(
  'property: a file says what was written; cut or damaged anywhere it says less and never more',
  async t => {
    fc.assert(
      fc.property(arbitraryParts, fc.nat(), fc.nat(255), (parts, at, byte) => {
        const text = journalText(headOf(), parts)
        t.strictSame(readJournal(text)?.parts, parts)
        const whole = Buffer.from(text)
        const sum = (read: UsageParts | undefined) =>
          (read?.days ?? []).reduce((all, day) => all + (day.responses_2xx ?? 0), 0)
        const place = at % whole.length
        t.ok(sum(readJournal(whole.subarray(0, place).toString())?.parts) <= sum(parts))
        const damaged = Buffer.from(whole)
        damaged[place] = byte
        const read = readJournal(damaged.toString())
        t.ok(sum(read?.parts) <= sum(parts))
        t.ok((read?.parts.users.length ?? 0) <= parts.users.length)
      }),
      { numRuns: 200 },
    )
  },
)

t.test('what is counted is in the file before the client can see its answer', async t => {
  const dir = await folder(t)
  const { meter, serve } = startMeter(dir)
  serve('a', { principal: { sub: 'a user\nwith "odd" signs 🙂' }, appUsage: 'emails=3' })
  const exchange = {
    tenant: { id: 'a' },
    status: 404,
    principal: null,
    appUsage: null,
    metered: null,
  }
  meter.answered(exchange as never)
  const [name = ''] = await readdir(dir)
  const found = readJournal(await readFile(join(dir, name), 'utf8'))
  t.match(found?.parts, {
    days: [{ tenant_id: 'a', responses_2xx: 1, responses_4xx: 1 }],
    users: [{ user_id: 'a user\nwith "odd" signs 🙂' }],
    counters: [{ name: 'emails', value: 3 }],
  })
  const batch = meter.seal() as UsageBatch
  t.match(batch, found?.parts as object)
  meter.written(batch.sequence)
  t.strictSame(await readdir(dir), [], 'nothing is left of what the Registry has')
})

t.test('killed at any point, all is brought in and counts once', async t => {
  const dir = await folder(t)
  // Batches take two tenants each, so that most leave a rest.
  const { meter, serve } = startMeter(dir, { batchTenantsMax: 2 }, 2000)
  const served = new Map<string, number>()
  const points: { left: string; sent: UsageBatch[]; served: Map<string, number> }[] = []
  const sent: UsageBatch[] = []
  const look = async () => {
    points.push({ left: await asLeft(t, dir), sent: [...sent], served: new Map(served) })
  }
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 40; i++) {
      const tenant = `tenant-${i % (round === 1 ? 1 : 7)}`
      serve(tenant)
      served.set(tenant, (served.get(tenant) ?? 0) + 1)
    }
    await look()
    meter.tend()
    await look()
    for (let batch = meter.seal(); batch !== null; batch = meter.seal()) {
      await look()
      sent.push(batch)
      await look()
      meter.written(batch.sequence)
      await look()
    }
  }
  for (const { left, sent, served } of points) {
    const books = makeBooks()
    for (const { instance, sequence, sealedAtMs, ...parts } of sent) {
      await books.store.query('', [instance, sequence, sealedAtMs, JSON.stringify(parts)])
    }
    await Promise.all([adopt(left, books), adopt(left, books)])
    await adopt(left, books)
    t.strictSame([...books.requests].sort(), [...served].sort())
    t.strictSame(await readdir(left), [])
  }
  t.ok(points.length > 30)
})

t.test('a file that grows while the Registry is down is written anew as its sums', async t => {
  const dir = await folder(t)
  const { meter, serve } = startMeter(dir, {}, 5000)
  for (let i = 0; i < 2000; i++) {
    serve(`tenant-${i % 3}`)
    if (i % 50 === 0) meter.tend()
  }
  const [name = '', ...others] = await readdir(dir)
  t.strictSame(others, [])
  const text = await readFile(join(dir, name), 'utf8')
  t.ok(text.length < 20_000, `${text.length} bytes for 2,000 requests`)
  const days = readJournal(text)?.parts.days ?? []
  t.equal(
    days.reduce((sum, day) => sum + (day.responses_2xx ?? 0), 0),
    2000,
  )
})

t.test(
  'a process that lives is not overtaken, one that was left behind is not forgotten',
  async t => {
    const parts = {
      days: [{ tenant_id: 'a', date: '2026-03-01', responses_2xx: 1 }],
      users: [],
      sketches: [],
      counters: [],
    }
    const cases = [
      { head: headOf({ pid: process.ppid }), ageS: 0, isAdopted: false },
      { head: headOf({ pid: process.ppid }), ageS: 400, isAdopted: true },
      { head: headOf(), ageS: 30, isAdopted: false },
      { head: headOf(), ageS: 90, isAdopted: true },
      { head: headOf({ host: 'elsewhere' }), ageS: 200, isAdopted: false },
      { head: headOf({ host: 'elsewhere' }), ageS: 400, isAdopted: true },
      { head: headOf({ pid: await deadPid() }), ageS: 0, isAdopted: true },
      // Of a container beside this one, under the name of the same host.
      { head: headOf({ pid: await deadPid(), pidSpace: 'pid:[1]' }), ageS: 200, isAdopted: false },
      { head: headOf({ pid: await deadPid(), pidSpace: 'pid:[1]' }), ageS: 400, isAdopted: true },
    ]
    for (const { head, ageS, isAdopted } of cases) {
      const dir = await folder(t)
      const path = join(dir, `${head.instance}.1.usage`)
      await writeFile(path, journalText(head, parts))
      const at = new Date(Date.now() - ageS * 1000)
      await utimes(path, at, at)
      t.equal(await adopt(dir, makeBooks()), isAdopted ? 1 : 0)
      t.equal((await readdir(dir)).length, isAdopted ? 0 : 1)
    }
    const dir = await folder(t)
    await writeFile(join(dir, `${randomUUID()}.1.usage`), 'no journal\n')
    await utimes(join(dir, (await readdir(dir))[0] as string), 1, 1)
    t.equal(await adopt(dir, makeBooks()), 0)
    t.match(await readdir(dir), [/\.refused$/], 'kept for whoever looks')
  },
)

t.test('a rest whose batch was not written anew is void, for that one holds it too', async t => {
  const days = (count: number) => [{ tenant_id: 'a', date: '2026-03-01', responses_2xx: count }]
  const none = { users: [], sketches: [], counters: [] }
  const head = headOf({ pid: await deadPid() })
  for (const [isFinal, wanted] of [
    [false, 5],
    [true, 8],
  ] as const) {
    const dir = await folder(t)
    const fileOf = (sequence: number) => join(dir, `${head.instance}.${sequence}.usage`)
    await writeFile(fileOf(1), journalText({ ...head, isFinal }, { days: days(5), ...none }))
    const rest = { ...head, sequence: 2, restOf: 1 }
    await writeFile(fileOf(2), journalText(rest, { days: days(3), ...none }))
    const books = makeBooks()
    await Promise.all([adopt(dir, books), adopt(dir, books)])
    t.equal(books.requests.get('a'), wanted)
    t.strictSame(await readdir(dir), [])
  }
})

t.test('a disk that refuses costs the journal and no count', async t => {
  const dir = await folder(t)
  const { meter, journal, serve } = startMeter(dir)
  serve('a')
  await rm(dir, { recursive: true })
  const first = meter.seal()
  serve('a')
  serve('b')
  t.ok(journal.failures > 0)
  const second = meter.seal()
  for (const batch of [first, second]) meter.written(batch?.sequence ?? 0)
  t.match(first?.days, [{ tenant_id: 'a', responses_2xx: 1 }])
  t.match(second?.days, [
    { tenant_id: 'a', responses_2xx: 1 },
    { tenant_id: 'b', responses_2xx: 1 },
  ])
})
