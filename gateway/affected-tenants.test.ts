import { Registry } from 'prom-client'
import t from 'tap'
import type { TenantId } from '../registry/tenant.ts'
import { AffectedTenants, mergeAffected } from './affected-tenants.ts'

const MINUTE_MS = 60_000
const id = (i: number) => `00000000-0000-4000-8000-${String(i).padStart(12, '0')}` as TenantId
const count = (affected: AffectedTenants, nowMs: number) =>
  mergeAffected([{ marks: affected.marks(nowMs) }])[0]?.value as number

t.test('tenants that met failures are counted, each once, and forgotten after a while', async t => {
  const affected = new AffectedTenants()
  t.equal(count(affected, 0), 0)
  for (let round = 0; round < 50; round++) {
    for (let i = 0; i < 20; i++) affected.note(id(i), MINUTE_MS * (round % 3))
  }
  t.equal(count(affected, 2 * MINUTE_MS), 20)
  affected.note(id(99), 6 * MINUTE_MS)
  t.equal(count(affected, 6 * MINUTE_MS), 21)
  t.equal(count(affected, 8 * MINUTE_MS), 1)
  t.equal(count(affected, 20 * MINUTE_MS), 0)
})

t.test('of many the estimate is near', async t => {
  for (const many of [1000, 10_000, 100_000]) {
    const affected = new AffectedTenants()
    for (let i = 0; i < many; i++) affected.note(id(i), 0)
    // Three standard errors of 0.81 %.
    t.ok(Math.abs(count(affected, 0) - many) < 0.025 * many, `${count(affected, 0)} of ${many}`)
  }
})

t.test('it is one gauge', async t => {
  const registry = new Registry()
  const affected = new AffectedTenants()
  affected.show(registry)
  affected.note(id(1), Date.now())
  t.match(await registry.metrics(), /^doorman_tenants_affected 1$/m)
})
