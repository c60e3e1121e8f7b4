import { Registry } from 'prom-client'
import t from 'tap'
import type { TenantId, TenantKey } from '../registry/tenant.ts'
import type { Busy } from './live/pulse.ts'
import { TenantSeries } from './tenant-series.ts'

/** Series for three tenants over a load that the test sets: key to requests of the last minute. */
function setUp() {
  let loads: Record<string, number> = {}
  const named = new Set<string>()
  const series = new TenantSeries({
    tenantsMax: 3,
    busiest: count =>
      Object.entries(loads)
        .map(
          ([key, requests]): Busy => ({
            id: `id-${key}` as TenantId,
            key: key as TenantKey,
            requests,
          }),
        )
        .sort((a, b) => b.requests - a.requests)
        .slice(0, count),
    assign: (id, cell) => (cell === null ? named.delete(id) : named.add(id)),
  })
  return {
    series,
    set: (now: Record<string, number>) => {
      loads = now
    },
    at(seconds: number): string[] {
      series.update(seconds * 1000)
      return [...named].map(id => id.slice(3)).sort()
    },
  }
}

t.test('the busiest tenants have series, however many there are', async t => {
  const { set, at } = setUp()
  set(Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`t${i}`, i])))
  t.strictSame(at(0), ['t4997', 't4998', 't4999'])
})

t.test('series do not change with each look', async t => {
  const { set, at } = setUp()
  set({ a: 100, b: 90, c: 80, d: 79, e: 1 })
  t.strictSame(at(0), ['a', 'b', 'c'])
  set({ a: 100, b: 90, c: 80, d: 120, e: 1 })
  t.strictSame(at(5), ['a', 'b', 'c'], 'nor at once')
  t.strictSame(at(300), ['a', 'b', 'c'], 'two that are near each other do not take turns')
  set({ a: 100, b: 90, c: 80, d: 160 })
  t.strictSame(at(600), ['a', 'b', 'd'], 'who has twice the load of another takes its place')
  set({ a: 1, b: 1, d: 1, x: 1e6 })
  t.strictSame(at(620), ['b', 'd', 'x'], 'an attack is seen at once')
})

t.test('tenants that take turns make few new series', async t => {
  const { set, at } = setUp()
  const seen = new Set<string>()
  for (let second = 0; second < 600; second += 10) {
    set(Object.fromEntries([0, 1, 2].map(i => [`wave-${second}-${i}`, 1e6])))
    for (const key of at(second)) seen.add(key)
  }
  t.ok(seen.size >= 3)
  t.ok(seen.size <= 3 + 3 * 10, `${seen.size}: three a minute`)
})

t.test('a tenant keeps its series for five minutes without traffic, and no longer', async t => {
  const { set, at } = setUp()
  set({ a: 1 })
  t.strictSame(at(0), ['a'])
  set({})
  t.strictSame(at(290), ['a'])
  t.strictSame(at(300), [])
})

t.test('a tenant that has the name of one that was deleted is told from it by its id', async t => {
  const keyed = (id: string): Busy => ({
    id: id as TenantId,
    key: 'acme' as TenantKey,
    requests: 9,
  })
  let busy = [keyed('id-old')]
  const series = new TenantSeries({ tenantsMax: 3, busiest: () => busy, assign: () => {} })
  series.update(Date.now() - 70_000)
  busy = [keyed('id-new')]
  series.update(Date.now() - 10_000)
  for (const id of ['id-old', 'id-new']) series.cellOf(id as TenantId)?.note(200, 1, null)
  const registry = new Registry()
  series.show(registry)
  const text = await registry.metrics()
  t.match(text, 'doorman_tenant_requests_total{tenant="acme",status="2xx"} 1')
  t.match(text, 'doorman_tenant_requests_total{tenant="id-new",status="2xx"} 1')
})

t.test('a tenant named like all others together is told from them by its id', async t => {
  const { series, set, at } = setUp()
  set({ other: 5 })
  t.strictSame(at(0), ['other'])
  series.cellOf('id-other' as TenantId)?.note(503, 12, null)
  series.others.note(200, 1, null)
  const registry = new Registry()
  series.show(registry)
  const lines = (await registry.metrics()).split('\n')
  t.ok(lines.includes('doorman_tenant_requests_total{tenant="id-other",status="5xx"} 1'))
  t.ok(lines.includes('doorman_tenant_requests_total{tenant="other",status="2xx"} 1'))
  t.ok(lines.includes('doorman_tenant_seconds_bucket{tenant="id-other",le="0.025"} 1'))
})
