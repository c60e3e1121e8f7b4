import t from 'tap'
import { effectiveLimits } from '../../registry/limits.ts'
import type { Tenant, TenantId } from '../../registry/tenant.ts'
import { silent } from '../../registry/test-kit.ts'
import { Quotas } from './quota.ts'
import { Slot } from './slot.ts'

/** A tenant with a quota, a Registry that says what it is told to, and a clock. */
function makeWorld(limits: object) {
  const tenant = { id: 'a' as TenantId, key: 'acme' } as Tenant
  const world = {
    slot: new Slot(tenant, effectiveLimits([limits as Record<string, unknown>]), 0),
    nowMs: Date.UTC(2026, 0, 31, 23, 59, 50),
    month: '2026-01',
    written: 0,
    isDown: false,
    reads: 0,
    quotas: null as unknown as Quotas,
  }
  world.quotas = new Quotas({
    read: async ids => {
      world.reads++
      if (world.isDown) throw new Error('down')
      return { month: world.month, requests: new Map(ids.map(id => [id, world.written])) }
    },
    slots: () => [world.slot],
    log: silent,
    now: () => world.nowMs,
  })
  return world
}

t.test(
  'what is known of a month’s use never goes down, and is never more than was used',
  async t => {
    const world = makeWorld({ requests_per_month: 100 })
    world.slot.used = 5
    world.written = 3
    await world.quotas.refresh()
    t.equal(world.slot.used, 5, 'what was answered here is not written yet')
    world.written = 90
    await world.quotas.refresh()
    t.equal(world.slot.used, 90, 'what others answered comes with the next look')
    t.equal(world.quotas.refusal(world.slot), null)
    world.written = 100
    await world.quotas.refresh()
    const refusal = world.quotas.refusal(world.slot)
    t.match(refusal, { code: 'QUOTA_EXCEEDED', retryAfterS: 10 }, 'until the month ends')
    t.equal(world.quotas.refusal(world.slot), refusal, 'made once a second')
    world.isDown = true
    await world.quotas.refresh()
    t.ok(world.quotas.refusal(world.slot), 'with the Registry down it stands')
    t.strictSame(world.quotas.events, { soft: 0, hard: 1 }, 'told once')
  },
)

t.test(
  'a month begins by the Registry’s clock, and by ours where the Registry is down',
  async t => {
    const world = makeWorld({ requests_per_month: 100 })
    world.written = 100
    await world.quotas.refresh()
    world.nowMs += 11_000
    await world.quotas.refresh()
    t.ok(world.quotas.refusal(world.slot), 'our clock is ahead: the Registry still counts January')
    world.month = '2026-02'
    world.written = 2
    await world.quotas.refresh()
    t.equal(world.slot.used, 2)
    t.equal(world.quotas.refusal(world.slot), null)
    t.equal(world.quotas.policy(world.slot), `"month";q=100;w=${28 * 86_400}`)

    const cutOff = makeWorld({ requests_per_month: 100 })
    cutOff.written = 100
    await cutOff.quotas.refresh()
    cutOff.isDown = true
    cutOff.nowMs += 11_000
    await cutOff.quotas.refresh()
    t.equal(cutOff.quotas.refusal(cutOff.slot), null, 'nobody waits for a Registry that is down')
  },
)

t.test('a soft quota refuses nothing and is told once a month', async t => {
  const world = makeWorld({ requests_per_month: 1, quota: 'soft' })
  world.slot.used = 7
  for (let i = 0; i < 3; i++) t.equal(world.quotas.refusal(world.slot), null)
  t.match(world.quotas.state(world.slot), /^"month";r=0;t=/)
  t.equal(world.quotas.events.soft, 1)
  world.nowMs += 11_000
  world.month = '2026-02'
  await world.quotas.refresh()
  world.slot.used = 7
  world.quotas.refusal(world.slot)
  t.equal(world.quotas.events.soft, 2)
})

t.test('the Registry is asked about so many tenants at a time, in turn', async t => {
  const tenants = Array.from({ length: 2500 }, (_, i) => `t${i}` as TenantId)
  const limits = effectiveLimits([{ requests_per_month: 1 }])
  const slots = tenants.map(id => new Slot({ id } as Tenant, limits, 0))
  const asked: number[] = []
  const quotas = new Quotas({
    read: async ids => {
      asked.push(ids.length)
      return { month: '2026-01', requests: new Map(ids.map(id => [id, 5])) }
    },
    slots: () => slots,
    log: silent,
    now: () => Date.UTC(2026, 0, 2),
  })
  for (let i = 0; i < 3; i++) await quotas.refresh()
  t.strictSame(asked, [1000, 1000, 500])
  t.ok(
    slots.every(({ used }) => used === 5),
    'and all have been',
  )
})
