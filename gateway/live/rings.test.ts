import fc from 'fast-check'
import t from 'tap'
import { fieldOf, SLOT_MS, SLOTS } from '../../registry/live/figures.ts'
import type { Tenant, TenantId, TenantKey } from '../../registry/tenant.ts'
import { slotOf } from './ring.ts'
import { Rings } from './rings.ts'

const NOW_MS = 1_800_000_000_000

function tenantOf(name: string): Tenant {
  return { id: name as TenantId, key: `key-${name}` as TenantKey } as Tenant
}

t.test(
  'property: a ring that was taken from a tenant shows nothing of it to the next',
  async () => {
    const request = fc.record({
      tenant: fc.nat(11),
      pauseMs: fc.oneof(fc.constant(0), fc.nat(8_000), fc.nat(2 * SLOTS * SLOT_MS)),
    })
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6 }),
        fc.array(request, { maxLength: 80 }),
        (max, all) => {
          const rings = new Rings(max)
          /** Of each tenant with a ring, since it has it. */
          const counted = new Map<string, { slot: number; bytes: number }[]>()
          let nowMs = NOW_MS
          for (const [i, { tenant, pauseMs }] of all.entries()) {
            nowMs += pauseMs
            const { id, ...rest } = tenantOf(`t${tenant}`)
            const known = rings.get(id)
            if (known === undefined) counted.set(id, [])
            const ring = known ?? rings.add({ id, ...rest } as Tenant)
            ring.note(slotOf(nowMs), 200, 1, i + 1, 0)
            counted.get(id)?.push({ slot: slotOf(nowMs), bytes: i + 1 })
          }
          const last = slotOf(nowMs)
          const isRight = (id: string) => {
            const ring = rings.get(id as TenantId)
            if (ring === undefined) return true
            const kept = (counted.get(id) ?? []).filter(({ slot }) => slot > last - SLOTS)
            const figures = ring.figures(last - SLOTS + 1, last) ?? []
            return (
              ring.id === id &&
              ring.key === `key-${id}` &&
              ring.requests(last - SLOTS + 1, last) === kept.length &&
              fieldOf(figures, 'requests') === kept.length &&
              fieldOf(figures, 'bytes_in') === kept.reduce((sum, { bytes }) => sum + bytes, 0)
            )
          }
          return rings.size <= max && [...counted.keys()].every(isRight)
        },
      ),
      { numRuns: 300 },
    )
  },
)

t.test('who has traffic keeps its ring, however many others come once', async t => {
  const rings = new Rings(100)
  const busy = rings.add(tenantOf('busy'))
  let taken = 0
  for (let i = 0; i < 5000; i++) {
    if (rings.get('busy' as TenantId) !== busy) taken++
    rings.add(tenantOf(`once-${i}`))
  }
  t.equal(taken, 0)
  t.equal(rings.size, 100)
  t.equal(rings.get('once-0' as TenantId), undefined)
  t.equal(rings.values().length, new Set(rings.values().map(({ id }) => id)).size)
})

t.test('a ring goes over without the series of the tenant before', async t => {
  const rings = new Rings(1)
  const ring = rings.add(tenantOf('one'))
  ring.cell = {} as never
  t.equal(rings.add(tenantOf('two')), ring)
  t.equal(ring.cell, null)
  t.equal(rings.get('one' as TenantId), undefined)
})
