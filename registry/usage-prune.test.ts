import { randomUUID } from 'node:crypto'
import t from 'tap'
import { owner, startAdminWorld } from './admin/test-kit.ts'
import { priceListInput } from './billing/price-list.ts'
import { setPrices } from './billing/prices.ts'
import { freezeMonth, statementOf } from './billing/statements.ts'
import { runHere } from './cli/test-kit.ts'
import { sweep } from './cli/usage-sweep.ts'
import type { TenantId } from './tenant.ts'
import { applyUsage } from './usage-batch.ts'
import { pruneUsers } from './usage-prune.ts'

const world = await startAdminWorld()
t.teardown(() => world.stop())
const { deps, registry } = world
const { admin } = registry
const instance = randomUUID()
let sequence = 0

/** A hundred days after the end of May 2026. */
const NOW_MS = Date.UTC(2026, 4, 31) + 101 * 86_400_000
const options = { keepDays: 100, nowMs: NOW_MS }

const idsOf = (from: number, until: number) =>
  Array.from({ length: until - from }, (_, i) => `u${from + i}`)

async function use(
  id: string,
  date: string,
  users: readonly string[],
  marks: readonly number[] = [],
) {
  const of = { tenant_id: id, date }
  sequence++
  return applyUsage(deps.store, {
    ...{ instance, sequence, sealedAtMs: Date.now(), counters: [] },
    days: [{ ...of, responses_2xx: users.length }],
    users: users.map((user_id, i) => ({ ...of, user_id, user_mark: i * 64 + 5 })),
    sketches: marks.length === 0 ? [] : [{ ...of, marks }],
  })
}

const rowsOf = async (id: string) => {
  const { rows } = await admin.query(
    `SELECT (SELECT count(*)::int FROM user_activity_daily WHERE tenant_id = $1) AS names,
       (SELECT count(*)::int FROM user_sketch_daily WHERE tenant_id = $1) AS sketches,
       (SELECT array_agg(to_char(month, 'MM') || '=' || people ORDER BY month)
        FROM user_people_monthly WHERE tenant_id = $1) AS kept`,
    [id],
  )
  return rows[0]
}

/** As if an earlier run had been long ago. */
const wait = () => admin.query("UPDATE user_people_monthly SET kept_at = now() - interval '1 day'")

await setPrices(
  deps,
  owner,
  priceListInput.parse({
    ...{ plan: '*', from_month: '2026-01', currency: 'EUR' },
    prices: { lines: [{ metric: 'active_users', tiers: [{ price: '10' }] }] },
  }),
)

t.test('names go once their month is counted for good, and no invoice changes', async t => {
  const id = (await world.create('pruned')).id as TenantId
  await admin.query("UPDATE tenants SET created_at = '2026-01-01' WHERE id = $1", [id])
  await use(id, '2026-03-01', idsOf(0, 30))
  await use(id, '2026-03-31', idsOf(20, 50))
  const marks = Array.from({ length: 3000 }, (_, i) => i * 64 + 2)
  await use(id, '2026-04-10', idsOf(0, 10), marks)
  await use(id, '2026-05-31', idsOf(0, 5))
  await use(id, '2026-06-01', idsOf(0, 7))
  await freezeMonth(deps, owner, '2026-03')
  const draft = (month: string) => statementOf(deps, id, month)
  const before = await Promise.all(['2026-03', '2026-04', '2026-05', '2026-06'].map(draft))
  t.match(before[0]?.inputs.use.quantities, { active_users: '50' })
  const april = Number(before[1]?.inputs.use.quantities.active_users)
  t.ok(april > 2500 && april < 3500)

  const whole = { names: 82, sketches: 1 }
  t.strictSame(await pruneUsers(deps, options), { kept: 3, rows: 0 })
  const kept = ['03=50', `04=${april}`, '05=5']
  t.strictSame(await rowsOf(id), { ...whole, kept })
  t.strictSame(await pruneUsers(deps, options), { kept: 0, rows: 0 }, 'not before all batches know')
  await wait()
  t.strictSame(await pruneUsers(deps, options), { kept: 0, rows: 76 })
  t.strictSame(await rowsOf(id), { names: 7, sketches: 0, kept })
  t.strictSame(await pruneUsers(deps, options), { kept: 0, rows: 0 })
  const after = await Promise.all(['2026-03', '2026-04', '2026-05', '2026-06'].map(draft))
  t.strictSame(after, before)
  await freezeMonth(deps, owner, '2026-04')
  t.strictSame((await draft('2026-04')).lines, before[1]?.lines)

  t.equal(await use(id, '2026-03-01', idsOf(0, 30), marks), 'applied')
  t.strictSame(await rowsOf(id), { names: 7, sketches: 0, kept }, 'nobody is counted a second time')
  const { rows } = await admin.query(
    "SELECT api_requests, active_users FROM customer_usage_daily WHERE tenant_id = $1 AND date = '2026-03-01'",
    [id],
  )
  t.match(rows, [{ api_requests: '60', active_users: 30 }])
})

t.test('the bound is of days since the end of the month, and each tenant is met', async t => {
  const ids = Array.from({ length: 210 }, () => randomUUID() as string)
  for (const id of ids) await use(id, '2026-05-01', ['u'])
  const last = Date.UTC(2026, 4, 31) + 100 * 86_400_000
  t.strictSame(await pruneUsers(deps, { ...options, nowMs: last }), { kept: 0, rows: 0 })
  t.strictSame(await pruneUsers(deps, options), { kept: 210, rows: 0 })
  await wait()
  t.strictSame(await pruneUsers(deps, options), { kept: 0, rows: 210 })
  const ended = AbortSignal.abort()
  await use(randomUUID(), '2026-05-01', ['u'])
  t.strictSame(await pruneUsers(deps, { ...options, signal: ended }), { kept: 0, rows: 0 })
})

t.test('the sweep prunes, and says so', async t => {
  const id = randomUUID()
  await use(id, '2024-01-01', ['u'])
  const run = () =>
    runHere(world, (session, streams) =>
      sweep(session, { atOnce: 1, perHost: 1, tenantTimeout: 30 }, streams),
    )
  t.match((await run()).out, /^0 names and sketches pruned, \d+ months kept\n/)
  await wait()
  t.match((await run()).out, /^\d+ names and sketches pruned, 0 months kept\n/)
  t.match(await rowsOf(id), { names: 0, kept: ['01=1'] })
})
