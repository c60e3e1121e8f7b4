import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { owner, startAdminWorld } from '../admin/test-kit.ts'
import { exportStatements, freeze, setPricesFrom } from '../cli/billing.ts'
import { runHere, spawnCli } from '../cli/test-kit.ts'
import type { TenantId } from '../tenant.ts'
import { applyUsage } from '../usage-batch.ts'
import { giveCredit, listCredits } from './credits.ts'
import { type PriceListInput, priceListInput } from './price-list.ts'
import { listPrices, removePrices, setPrices } from './prices.ts'
import { freezeMonth, listStatements, type Statement, statementOf } from './statements.ts'

const world = await startAdminWorld()
t.teardown(() => world.stop())
const { deps, registry } = world
const sql = registry.admin
/** A moment at which months up to and with `month` of 2026 can be frozen. */
const after = (month: number) => Date.UTC(2026, month, 1) + 2 * 3_600_000

const PRICES = {
  base_fee: 3100,
  lines: [
    {
      metric: 'api_requests',
      included: '100',
      per: '1000',
      tiers: [{ up_to: '1000', price: '500' }, { price: '100' }],
    },
    { metric: 'storage_gb', tiers: [{ price: '25' }] },
    { metric: 'counter:emails', per: '10', tiers: [{ price: '1' }] },
  ],
}
const listOf = (change: object = {}): PriceListInput =>
  priceListInput.parse({
    plan: '*',
    from_month: '2026-01',
    currency: 'EUR',
    prices: PRICES,
    ...change,
  })
await setPrices(deps, owner, listOf())

/** A tenant that was there, and active, since the year began; its history is as the audit has it. */
async function makeTenant(key: string, change: object = {}) {
  const item = await world.create(key, change)
  const id = item.id as TenantId
  await sql.query("UPDATE tenants SET created_at = '2026-01-01' WHERE id = $1", [id])
  // The test's tenants are made today, long after the months that they are billed for.
  await backdate(id, '2026-01-01')
  return id
}

async function backdate(id: string, at: string) {
  await sql.query('ALTER TABLE admin_audit DISABLE TRIGGER admin_audit_append_only')
  await sql.query(
    `UPDATE admin_audit SET at = $2 WHERE id = (SELECT max(id) FROM admin_audit
      WHERE tenant_id = $1 AND (before ? 'status' OR after ? 'status'))`,
    [id, at],
  )
  await sql.query('ALTER TABLE admin_audit ENABLE TRIGGER admin_audit_append_only')
}

let sequence = 0
const instance = randomUUID()
async function use(id: string, date: string, requests: number, emails = 0) {
  const of = { tenant_id: id, date }
  sequence++
  await applyUsage(deps.store, {
    ...{ instance, sequence, sealedAtMs: Date.now() },
    days: [{ ...of, responses_2xx: requests }],
    counters: emails === 0 ? [] : [{ ...of, name: 'emails', value: emails }],
    ...{ users: [], sketches: [] },
  })
}

const setStorage = (id: string, date: string, gb: number) =>
  sql.query(
    `INSERT INTO customer_usage_daily (tenant_id, date, storage_gb, storage_measured_at) VALUES ($1, $2, $3, now())
     ON CONFLICT (tenant_id, date) DO UPDATE SET storage_gb = $3, storage_measured_at = now()`,
    [id, date, gb],
  )

async function freezeAll(month: string, nowMs: number) {
  const all = { frozen: 0, failed: [] as { tenant_id: string; problem: string }[] }
  let next: string | null = null
  do {
    const done = await freezeMonth(deps, owner, month, next, nowMs, 3)
    all.frozen += done.frozen
    all.failed.push(...done.failed)
    next = done.next
  } while (next !== null)
  return all
}

const amounts = ({ lines }: Statement) =>
  lines.map(({ kind, metric, amount_minor: amount }) => [kind === 'usage' ? metric : kind, amount])

t.test(
  'a statement is worked out from usage, levels and active days, and is frozen as it is',
  async t => {
    const id = await makeTenant('billed')
    await use(id, '2026-03-05', 600, 25)
    await use(id, '2026-03-20', 1500)
    await setStorage(id, '2026-02-20', 2)
    await setStorage(id, '2026-03-16', 4)
    // Away from the 11th to the 20th, both of which were active in part.
    await sql.query("UPDATE tenants SET status = 'suspended' WHERE id = $1", [id])
    await backdate(id, '2026-03-11T12:00:00Z')
    await sql.query("UPDATE tenants SET status = 'active' WHERE id = $1", [id])
    await backdate(id, '2026-03-20T12:00:00Z')
    const draft = await statementOf(deps, id, '2026-03', after(3))
    t.match(draft, { id: null, frozen_at: null, currency: 'EUR', month: '2026-03' })
    t.match(draft.inputs.use, { active_days: 23, days_in_month: 31, plan: null })
    // (11 days × 2 GB + 12 days × 4 GB) / 31.
    t.equal(draft.inputs.use.quantities.storage_gb, '2.258064')
    t.strictSame(amounts(draft), [
      ['base_fee', 2300],
      ['api_requests', 600],
      ['storage_gb', 56],
      ['counter:emails', 2],
    ])
    t.equal(draft.total_minor, 2958)
    const early = freezeMonth(deps, owner, '2026-03', null, Date.UTC(2026, 3, 1) + 60_000)
    await t.rejects(early, { code: 'CONFLICT' })
    t.match(await freezeAll('2026-03', after(3)), { frozen: 1, failed: [] })
    const frozen = await statementOf(deps, id, '2026-03')
    t.match(frozen, { frozen_by: owner.name, total_minor: 2958, lines: draft.lines })
    t.strictSame(frozen.inputs, draft.inputs)

    await setPrices(deps, owner, listOf({ prices: { base_fee: 9_999_999 } }))
    await use(id, '2026-03-31', 1_000_000)
    await sql.query("UPDATE tenants SET name = 'Other' WHERE id = $1", [id])
    t.strictSame(await statementOf(deps, id, '2026-03'), frozen)
    t.match(await freezeAll('2026-03', after(3)), { frozen: 0 }, 'a second run changes nothing')
    for (const change of [
      'UPDATE statements SET total_minor = 0',
      'DELETE FROM statements',
      'TRUNCATE statements CASCADE',
    ]) {
      await t.rejects(sql.query(change), /never changes/)
    }
    t.strictSame(await statementOf(deps, id, '2026-03'), frozen)
    await setPrices(deps, owner, listOf())
  },
)

t.test('late usage and credits come with the next statement, and only once', async t => {
  const id = await makeTenant('late')
  await use(id, '2026-04-10', 100)
  await freezeAll('2026-04', after(4))
  const april = await statementOf(deps, id, '2026-04')
  t.equal(april.total_minor, 3100)
  await use(id, '2026-04-30', 1000)
  const credit = { amount_minor: 150, currency: 'EUR', reason: 'outage of the 12th' }
  await giveCredit(deps, owner, id, credit)
  await freezeAll('2026-05', after(5))
  const may = await statementOf(deps, id, '2026-05')
  t.match(
    may.lines.slice(1).filter(({ amount_minor: amount }) => amount !== 0),
    [
      { kind: 'adjustment', of_month: '2026-04', metric: 'api_requests', amount_minor: 500 },
      { kind: 'credit', amount_minor: -150, text: 'outage of the 12th' },
    ],
  )
  t.equal(may.total_minor, 3100 + 500 - 150)
  // Mended again, by what came since; and what was given is not given again.
  await use(id, '2026-04-30', 1000)
  await freezeAll('2026-06', after(6))
  const june = await statementOf(deps, id, '2026-06')
  t.match(
    june.lines.slice(1).filter(({ amount_minor: amount }) => amount !== 0),
    [{ kind: 'adjustment', of_month: '2026-04', amount_minor: 100 }],
  )
  await freezeAll('2026-07', after(7))
  t.equal((await statementOf(deps, id, '2026-07')).total_minor, 3100)
  t.equal((await statementOf(deps, id, '2026-04')).total_minor, april.total_minor)
  await t.rejects(sql.query('UPDATE billing_credits SET amount_minor = 1'), /never changes/)
  await t.rejects(sql.query('UPDATE billing_credits SET statement_id = NULL'), /never changes/)
  await t.rejects(giveCredit(deps, owner, randomUUID() as TenantId, credit), { code: 'NOT_FOUND' })
})

t.test('months may be frozen in any order, and nothing is mended twice', async t => {
  const id = await makeTenant('unordered')
  await use(id, '2026-04-10', 100)
  await freezeAll('2026-04', after(4))
  await use(id, '2026-04-30', 1000)
  await freezeAll('2026-06', after(6))
  await freezeAll('2026-05', after(6))
  await freezeAll('2026-07', after(7))
  const totals: number[] = []
  for (const month of ['2026-04', '2026-05', '2026-06', '2026-07']) {
    totals.push((await statementOf(deps, id, month)).total_minor)
  }
  t.strictSame(totals, [3100, 3100, 3600, 3100])
})

t.test('prices are those of the plan and month; who has none is told and stops nobody', async t => {
  const gold = listOf({ plan: 'gold', from_month: '2026-08', prices: { base_fee: 31_000 } })
  await setPrices(deps, owner, gold)
  await sql.query("INSERT INTO plans (code, name) VALUES ('gold', 'Gold') ON CONFLICT DO NOTHING")
  const id = await makeTenant('golden', { plan: 'gold' })
  const [july, august] = await Promise.all([
    statementOf(deps, id, '2026-07', after(8)),
    statementOf(deps, id, '2026-08', after(8)),
  ])
  t.match([july.total_minor, august.total_minor], [3100, 31_000])
  t.equal(august.inputs.price_list.plan, 'gold')
  const early = await statementOf(deps, id, '2025-12', after(8)).catch(error => error)
  t.match(early, { code: 'CONFLICT' })
  await freezeAll('2026-08', after(8))
  // By the time that it is due they are in another currency.
  await giveCredit(deps, owner, id, { amount_minor: 1, currency: 'EUR', reason: 'x' })
  await setPrices(deps, owner, { ...gold, from_month: '2026-09', currency: 'USD' })
  await use(id, '2026-08-02', 5)
  const { failed } = await freezeAll('2026-09', after(9))
  t.match(failed, [{ tenant_id: id, problem: 'a credit is in EUR' }])
  t.equal((await listPrices(deps)).length, 3)
})

t.test(
  'prices are set over those that were seen, and their removal moves no frozen statement',
  async t => {
    const from = listOf({ plan: 'gold', from_month: '2026-10', prices: { base_fee: 62_000 } })
    const made = await setPrices(deps, owner, from, { isNew: true })
    const late = { code: 'PRECONDITION_FAILED' }
    await t.rejects(setPrices(deps, owner, from, { isNew: true }), late, 'there is one already')
    const twice = listOf({ plan: 'gold', from_month: '2026-11' })
    const both = [1, 2].map(() => setPrices(deps, owner, twice, { isNew: true }))
    t.strictSame(
      (await Promise.allSettled(both)).map(({ status }) => status).sort(),
      ['fulfilled', 'rejected'],
      'one of two who begin at the same moment',
    )
    await removePrices(deps, owner, twice)
    const seen = { tags: [made.etag] }
    const dearer = { ...from, prices: { ...from.prices, base_fee: 93_000 } }
    const changed = await setPrices(deps, owner, dearer, seen)
    t.not(changed.etag, made.etag)
    await t.rejects(setPrices(deps, owner, from, seen), late, 'changed since it was read')
    await t.rejects(removePrices(deps, owner, from, seen), late)
    const id = await makeTenant('seen', { plan: 'gold' })
    await freezeAll('2026-10', after(10))
    const frozen = await statementOf(deps, id, '2026-10')
    t.equal(frozen.lines[0]?.amount_minor, 93_000)
    await removePrices(deps, owner, from, { tags: [changed.etag] })
    t.strictSame(await statementOf(deps, id, '2026-10'), frozen)
    await t.rejects(removePrices(deps, owner, from), { code: 'NOT_FOUND' })
    const { rows } = await sql.query(
      'SELECT action, before, after FROM admin_audit ORDER BY id DESC LIMIT 1',
    )
    t.match(rows, [{ action: 'prices.remove', before: { prices: { base_fee: 93_000 } } }])
  },
)

t.test('a credit is given once, and in the currency of the prices', async t => {
  const id = await makeTenant('given')
  const credit = { amount_minor: 250, currency: 'EUR', reason: 'a day without mail' }
  const first = await giveCredit(deps, owner, id, credit, 'once')
  t.strictSame(await giveCredit(deps, owner, id, credit, 'once'), first, 'asked again')
  const other = { ...credit, amount_minor: 251 }
  await t.rejects(giveCredit(deps, owner, id, other, 'once'), { code: 'CONFLICT' })
  await t.rejects(giveCredit(deps, owner, id, { ...credit, currency: 'USD' }), {
    ...{ code: 'VALIDATION_FAILED', problems: { currency: /EUR/ } },
  })
  t.match(await listCredits(deps, id), [{ ...first, month: null, created_by: owner.name }])
  await freezeAll('2026-10', after(10))
  t.match(await listCredits(deps, id), [{ id: first.id, month: '2026-10' }])
  const { rows } = await sql.query(
    "SELECT FROM admin_audit WHERE action = 'tenant.credit' AND tenant_id = $1",
    [id],
  )
  t.equal(rows.length, 1)
})

t.test('a count that makes no sense is told, and stops nobody', async t => {
  const odd = await makeTenant('odd')
  const vast = await makeTenant('vast')
  const insert = `INSERT INTO customer_usage_daily (tenant_id, date, api_requests, bytes_out)
    VALUES ($1, '2025-06-01', $2, $3)`
  await sql.query(insert, [odd, -5, 0])
  await sql.query(insert, [vast, 0, '900000000000000000'])
  const tiers = [{ price: '1' }]
  const lines = [
    { metric: 'api_requests', tiers },
    { metric: 'bytes_out', per: '1000000000', tiers },
  ]
  await setPrices(deps, owner, listOf({ from_month: '2025-06', prices: { lines } }))
  const { failed } = await freezeAll('2025-06', after(12))
  t.match(failed, [{ tenant_id: odd, problem: /^cannot be worked out: not a decimal$/ }])
  t.equal((await statementOf(deps, vast, '2025-06')).total_minor, 900_000_000)
  await sql.query('DELETE FROM customer_usage_daily WHERE tenant_id = $1', [odd])
})

t.test(
  'a tenant that is deleted is billed for its last days, one that was never active is not',
  async t => {
    const id = await makeTenant('leaver')
    await use(id, '2026-10-03', 1100)
    await sql.query('DELETE FROM tenants WHERE id = $1', [id])
    await backdate(id, '2026-10-10T00:00:00Z')
    const idle = await makeTenant('idle', { status: 'suspended' })
    await freezeAll('2026-10', after(10))
    const last = await statementOf(deps, id, '2026-10')
    t.match(last, { tenant_key: 'leaver', inputs: { use: { active_days: 9 } } })
    t.strictSame(amounts(last).slice(0, 2), [
      ['base_fee', 900],
      ['api_requests', 500],
    ])
    t.equal((await statementOf(deps, idle, '2026-10', after(10))).id, null, 'a draft of nothing')
  },
)

t.test('who freezes at the same moment does each once', async t => {
  for (const key of ['many-1', 'many-2', 'many-3']) await makeTenant(key)
  const runs = await Promise.all([freezeAll('2026-11', after(11)), freezeAll('2026-11', after(11))])
  const { items } = await listStatements(deps, '2026-11', 200, null)
  t.equal(
    runs.reduce((sum, { frozen }) => sum + frozen, 0),
    items.length,
  )
  t.equal(new Set(items.map(item => item.tenant_id)).size, items.length)
  const paged: Statement[] = []
  let cursor: string | null = null
  do {
    const page = await listStatements(deps, '2026-11', 2, cursor)
    paged.push(...page.items)
    cursor = page.next_cursor
  } while (cursor !== null)
  t.strictSame(paged, items)
})

t.test('an export is CSV that no spreadsheet runs, or JSON lines', async t => {
  const id = await makeTenant('sheet', { name: '=HYPERLINK("http://evil.example","x"), "a"' })
  await use(id, '2026-02-01', 50)
  await giveCredit(deps, owner, id, { amount_minor: 7, currency: 'EUR', reason: '+1 (555) @home' })
  t.equal((await freezeAll('2026-02', after(2))).frozen > 0, true)
  const flags = { month: '2026-02', format: 'csv' as const }
  const csv = await runHere(world, (session, streams) => exportStatements(session, flags, streams))
  const mine = csv.out.split('\r\n').filter(line => line.includes(id))
  t.match(csv.out, /^month,tenant_id,tenant_key,/)
  t.ok(mine[0]?.includes(`,"'=HYPERLINK(""http://evil.example"",""x""), ""a""",`))
  t.match(mine.at(-1), /,credit,credit,,1,-7,\d+,'\+1 \(555\) @home,/, 'numbers are numbers')
  for (const line of csv.out.split('\r\n')) t.notMatch(line, /(^|,)"?[=+@]/)
  const json = await runHere(world, (session, streams) =>
    exportStatements(session, { ...flags, format: 'json' }, streams),
  )
  const statements = json.out
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Statement)
  t.ok(statements.some(statement => statement.tenant_id === id))
})

t.test('a month of many people is frozen by statements that each end in time', async t => {
  const id = await makeTenant('crowd')
  for (const month of ['2025-07', '2025-08', '2025-09', '2025-10']) {
    await sql.query(
      `INSERT INTO user_sketch_daily (tenant_id, date, registers, is_counted)
       SELECT $1, $2::date + day, decode(repeat('03', 16384), 'hex'), true FROM generate_series(0, 27) AS day`,
      [id, `${month}-01`],
    )
    await use(id, `${month}-02`, 1)
  }
  const { rows } = await sql.query(
    "SELECT usage_people($1, date '2025-10-01', date '2025-11-01')::text AS people",
    [id],
  )
  // All of a month by one statement is what took too long.
  await sql.query(`ALTER FUNCTION usage_people RENAME TO usage_people_away`)
  t.teardown(() => sql.query(`ALTER FUNCTION usage_people_away RENAME TO usage_people`))
  await setPrices(deps, owner, listOf({ from_month: '2025-07' }))
  for (const month of ['2025-07', '2025-08', '2025-09', '2025-10']) {
    t.strictSame((await freezeAll(month, after(12))).failed, [])
    t.strictSame((await freezeAll(month, after(12))).frozen, 0, 'and not again')
  }
  const frozen = await statementOf(deps, id, '2025-10')
  t.equal(frozen.inputs.use.quantities.active_users, rows[0].people, 'as the function has it')
})

t.test('the command line sets prices, freezes, and says what it did', async t => {
  const dir = t.testdir({ 'prices.json': '' })
  const file = join(dir, 'prices.json')
  const lists = [listOf({ plan: 'cli' }), listOf({ plan: 'cli', from_month: '2026-12' })]
  await writeFile(file, JSON.stringify(lists))
  const set = await runHere(world, (session, streams) => setPricesFrom(session, file, streams))
  t.match(set, { code: 0, out: /prices of cli from 2026-12 on are set, in EUR/ })
  await writeFile(file, JSON.stringify([listOf({ plan: 'cli' }), { plan: 'x' }]))
  t.equal((await runHere(world, (s, streams) => setPricesFrom(s, file, streams))).code, 2)
  const month = await runHere(world, (s, streams) => freeze(s, { month: '2026-01' }, streams))
  t.match(month, { code: 0, out: /^2026-01: \d+ statements frozen, \d+ without one, 0 failed\n$/ })
  const help = await spawnCli(['billing', '--help'], {})
  t.match(help, { code: 0, out: /set-prices.*freeze.*export/s })
  const wrong = await spawnCli(['billing', 'freeze', '--month', '2026-1'], world.env)
  t.equal(wrong.code, 2)
  const shown = await spawnCli(['billing', 'show', 'billed', '--month', '2026-03'], world.env)
  t.equal((JSON.parse(shown.out) as Statement).total_minor, 2958)
})
