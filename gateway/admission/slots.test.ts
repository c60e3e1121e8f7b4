import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { ShareKind } from '../../registry/admission-shares.ts'
import type { Tenant } from '../../registry/tenant.ts'
import { silent } from '../../registry/test-kit.ts'
import { type Exchange, makeExchange } from '../exchange.ts'
import { Admission } from './admission.ts'
import { Quotas } from './quota.ts'

function makeAdmission(slotsMax: number, share = 1) {
  const clock = { nowMs: 1000 }
  const short: ShareKind[] = []
  const quotas = new Quotas({
    read: async () => ({ month: '', requests: new Map() }),
    slots: () => [],
    log: silent,
  })
  const admission = new Admission({
    ...{ isOn: true, quotas, standard: {}, slotsMax, now: () => clock.nowMs },
    planOf: () => undefined,
    partOf: () => ({ share, ahead: 0 }),
    onShort: (_: unknown, kind: ShareKind) => short.push(kind),
    onMalformed: () => {},
  })
  return { admission, clock, short }
}

function tenantWith(limits: object): Tenant {
  return { id: randomUUID(), key: 'k', plan: null, limits } as unknown as Tenant
}

function requestOf(tenant: Tenant, nowMs: number): Exchange {
  const client = { address: '', isTls: false }
  const exchange = makeExchange('GET', '/', [], client, null, null as never, null)
  return Object.assign(exchange, { tenant, startedAt: nowMs })
}

t.test(
  'a flood of many tenants is bounded, and forgets nobody who has something under way',
  async t => {
    const { admission, clock } = makeAdmission(100)
    const busy = tenantWith({ in_flight: 1 })
    const held = requestOf(busy, clock.nowMs)
    admission.enter(held)
    for (let i = 0; i < 5000; i++) {
      const exchange = requestOf(tenantWith({}), clock.nowMs)
      admission.enter(exchange)
      admission.leave(exchange)
    }
    t.ok(admission.size <= 101, `${admission.size}`)
    t.throws(() => admission.enter(requestOf(busy, clock.nowMs)), {
      code: 'TENANT_IN_FLIGHT_LIMITED',
    })
    admission.leave(held)
    admission.enter(requestOf(busy, clock.nowMs))
  },
)

t.test(
  'a tenant is forgotten when it has been quiet and its bucket is full again, and not before',
  async t => {
    const { admission, clock } = makeAdmission(100)
    const tenant = tenantWith({ requests_per_s: 0.01, burst: 2 })
    for (let i = 0; i < 2; i++) {
      const exchange = requestOf(tenant, clock.nowMs)
      admission.enter(exchange)
      admission.leave(exchange)
    }
    const refused = () => admission.enter(requestOf(tenant, clock.nowMs))
    t.throws(refused, { code: 'TENANT_RATE_LIMITED' })
    clock.nowMs += 70_000
    admission.sweep()
    t.equal(admission.size, 1, 'it would have a new burst by that')
    t.throws(refused, { code: 'TENANT_RATE_LIMITED' })
    clock.nowMs += 200_000
    admission.sweep()
    t.equal(admission.size, 0)
  },
)

t.test(
  'refusals that say the same are made once, and what is refused is not counted as under way',
  async t => {
    const { admission, clock } = makeAdmission(100)
    const tenant = tenantWith({ requests_per_s: 0.01, burst: 1, in_flight: 5 })
    admission.enter(requestOf(tenant, clock.nowMs))
    const faults = new Set<unknown>()
    for (let i = 0; i < 1000; i++) {
      try {
        admission.enter(requestOf(tenant, clock.nowMs))
      } catch (fault) {
        faults.add(fault)
      }
    }
    t.equal(faults.size, 1)
    t.equal(admission.refused.rate, 1000)
    t.equal(admission.refused.in_flight, 0)
  },
)

t.test(
  'who has the smallest part of a limit is not sent away for longer than it takes to grow',
  async t => {
    const { admission, clock } = makeAdmission(100, 0.01)
    const tenant = tenantWith({ requests_per_s: 10, burst: 1 })
    admission.enter(requestOf(tenant, clock.nowMs))
    const again = () => admission.enter(requestOf(tenant, clock.nowMs))
    t.throws(again, { code: 'TENANT_RATE_LIMITED', retryAfterS: 3 })
  },
)

t.test('a limit of 0 is nobody’s to divide', async t => {
  const { admission, clock, short } = makeAdmission(100)
  const tenant = tenantWith({ sockets: 0, in_flight: 1 })
  const socket = { ...requestOf(tenant, clock.nowMs), upgrade: {} as never }
  t.throws(() => admission.enter(socket), { code: 'TENANT_SOCKETS_LIMITED' })
  t.strictSame(short, [])
  admission.enter(requestOf(tenant, clock.nowMs))
  t.throws(() => admission.enter(requestOf(tenant, clock.nowMs)), { code: /IN_FLIGHT/ })
  t.strictSame(short, ['in_flight'])
})
