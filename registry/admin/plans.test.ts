import t from 'tap'
import { LIMIT_RULES, tenantLimitsInput } from '../limits.ts'
import { RegistryStore } from '../store.ts'
import { insertTenant } from '../tenant-write.ts'
import { newTenant, silent, startTestRegistry } from '../test-kit.ts'
import { listAudit } from './audit.ts'
import { readFields } from './fields.ts'
import {
  changePlan,
  createPlan,
  getPlan,
  listPlans,
  planInput,
  planPatch,
  removePlan,
} from './plans.ts'
import { operator } from './test-kit.ts'

const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
t.teardown(async () => {
  await store.close()
  await registry.stop()
})
const deps = { store }

t.test('a plan is made, changed and taken away, and each of that is in the audit', async t => {
  const input = { code: 'basic', limits: { requests_per_s: 5, quota: 'soft' } }
  const made = await createPlan(deps, operator, readFields(planInput, input))
  t.match(made, { code: 'basic', name: 'basic', weight: 1, tenants: 0, limits: input.limits })
  await t.rejects(createPlan(deps, operator, readFields(planInput, input)), { code: 'CONFLICT' })
  const patch = readFields(planPatch, { limits: { sockets: null }, weight: 7 })
  await changePlan(deps, operator, 'basic', patch)
  t.match(await getPlan(deps, 'basic'), { name: 'basic', weight: 7 })
  t.strictSame((await getPlan(deps, 'basic')).limits, { sockets: null }, 'in place of all limits')
  await changePlan(deps, operator, 'basic', readFields(planPatch, { weight: 7 }))
  await removePlan(deps, operator, 'basic')
  const gone: (() => Promise<unknown>)[] = [
    () => removePlan(deps, operator, 'basic'),
    () => getPlan(deps, 'basic'),
    () => changePlan(deps, operator, 'basic', patch),
  ]
  for (const act of gone) await t.rejects(act() as Promise<void>, { code: 'NOT_FOUND' })
  t.strictSame(await listPlans(deps), [])
  const { items } = await listAudit({ store }, { limit: 10 })
  t.strictSame(
    items.map(({ action, actor }) => [action, actor]),
    ['plan.delete', 'plan.update', 'plan.create'].map(action => [action, operator.name]),
    'and a change of nothing leaves no trace',
  )
})

t.test('a plan that a tenant has cannot go, and one that is not there cannot be taken', async t => {
  await createPlan(deps, operator, readFields(planInput, { code: 'used' }))
  const { id } = await insertTenant(store, newTenant())
  const take = (plan: string | null) =>
    store.query('UPDATE tenants SET plan = $2 WHERE id = $1', [id, plan])
  await take('used')
  await t.rejects(removePlan(deps, operator, 'used'), { code: 'CONFLICT' })
  t.match(await getPlan(deps, 'used'), { tenants: 1 })
  await t.rejects(store.query("DELETE FROM plans WHERE code = 'used'", []), { code: 'CONFLICT' })
  await t.rejects(take('none'), { code: 'VALIDATION_FAILED', reason: /no such plan/ })
  await take(null)
  await removePlan(deps, operator, 'used')
})

t.test('a plan is changed and deleted as it was seen, or not at all', async t => {
  const made = await createPlan(deps, operator, {
    name: 'seen',
    code: 'seen',
    limits: {},
    weight: 1,
  })
  const seen = { tags: [made.etag] }
  const late = { code: 'PRECONDITION_FAILED', publicMessage: /plan seen/ }
  await store.query("UPDATE plans SET weight = 3 WHERE code = 'seen'", [])
  await t.rejects(changePlan({ store }, operator, 'seen', { weight: 2 }, seen), late)
  await t.rejects(removePlan({ store }, operator, 'seen', seen), late)
  const now = await getPlan({ store }, 'seen')
  t.match(now, { weight: 3 })
  const { etag } = await changePlan(
    { store },
    operator,
    'seen',
    { weight: 2 },
    { tags: [now.etag] },
  )
  await removePlan({ store }, operator, 'seen', { tags: [etag] })
})

t.test('the API and the Registry refuse the same limits', async t => {
  const refusesHere = (limits: object) => !tenantLimitsInput.safeParse(limits).success
  const refusesThere = async (limits: object) => {
    const [row] = await store.query('SELECT doorman_limit_problem($1) AS problem', [limits])
    return row?.problem !== null
  }
  for (const [name, { min, max, isWhole }] of Object.entries(LIMIT_RULES)) {
    const good = [min, max, null, ...(isWhole ? [] : [min + 0.5])]
    const bad = [min - 1, max + 1, '5', true, [], {}, ...(isWhole ? [min + 0.5] : [])]
    for (const value of [...good, ...bad]) {
      const limits = { [name]: value }
      const isBad = !good.includes(value as never)
      t.equal(refusesHere(limits), isBad, `${JSON.stringify(limits)} here`)
      t.equal(await refusesThere(limits), isBad, `${JSON.stringify(limits)} there`)
    }
  }
  for (const quota of ['soft', 'hard']) {
    t.notOk(refusesHere({ quota }) || (await refusesThere({ quota })))
  }
  for (const quota of ['none', null, 1]) {
    t.ok(refusesHere({ quota }) && (await refusesThere({ quota })))
  }
})

t.test(
  'limits of an older tool stand in no other change’s way, new ones have to be right',
  async t => {
    const { id } = await insertTenant(store, newTenant())
    const set = (column: string, value: unknown) =>
      store.query(`UPDATE tenants SET ${column} = $2 WHERE id = $1`, [id, value])
    await registry.admin.query('ALTER TABLE tenants DISABLE TRIGGER tenants_limits_known')
    await set('limits', { requests_per_s: 'many', seats: 5 })
    await registry.admin.query('ALTER TABLE tenants ENABLE TRIGGER tenants_limits_known')
    await set('status', 'suspended')
    await t.rejects(set('limits', { requests_per_s: 'more' }), { code: 'VALIDATION_FAILED' })
    await set('limits', { requests_per_s: 1, seats: 6 })
  },
)

t.test('a Registry that names plans already keeps them, without limits', async t => {
  const old = await startTestRegistry()
  t.teardown(() => old.stop())
  const { readFile } = await import('node:fs/promises')
  const file = new URL('../../migrations/registry/0017_plans.sql', import.meta.url)
  await old.admin.query(
    'ALTER TABLE tenants DROP CONSTRAINT tenants_plan_known; DROP TABLE plans CASCADE; DROP INDEX tenants_plan',
  )
  const oldStore = new RegistryStore({ url: old.url, log: silent })
  t.teardown(() => oldStore.close())
  for (const plan of ['gold', 'gold', 'Old Plan (2019)']) {
    const { id } = await insertTenant(oldStore, newTenant())
    await oldStore.query('UPDATE tenants SET plan = $2 WHERE id = $1', [id, plan])
  }
  await old.admin.query(await readFile(file, 'utf8'))
  t.match(await listPlans({ store: oldStore }), [{ code: 'gold', limits: {}, tenants: 2 }])
  await oldStore.query("UPDATE tenants SET status = 'suspended' WHERE plan LIKE 'Old%'", [])
  await old.admin.query(await readFile(file, 'utf8'))
  t.pass('and it may run twice')
})
