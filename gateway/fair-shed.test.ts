import fc from 'fast-check'
import t from 'tap'
import type { TenantId } from '../registry/tenant.ts'
import { FairShed } from './fair-shed.ts'

const id = (name: string) => name as TenantId
const evenly = () => 1

/** One window: so many requests of each tenant, and of nobody known. */
const send = (fair: FairShed, tenants: Readonly<Record<string, number>>, strangers = 0) => {
  for (const [name, requests] of Object.entries(tenants)) {
    for (let i = 0; i < requests; i++) {
      fair.pass()
      fair.charge(id(name))
    }
  }
  for (let i = 0; i < strangers; i++) fair.pass()
}

t.test('what is shed falls on who sends most, and on nobody below', async t => {
  const fair = new FairShed(evenly)
  send(fair, { flood: 900, a: 20, b: 30, c: 50 })
  fair.settle(0.3)
  t.ok(Math.abs(fair.partOf(id('flood')) - 1 / 3) < 0.001, '300 of 900')
  for (const name of ['a', 'b', 'c', 'new']) t.equal(fair.partOf(id(name)), 0, name)
  fair.settle(0)
  t.equal(fair.partOf(id('flood')), 0, 'nothing is to be shed any more')
})

t.test('two that send too much are cut to the same level; a weight counts so often', async t => {
  const served = (weightOf: (tenant: TenantId) => number) => {
    const fair = new FairShed(weightOf)
    send(fair, { big: 600, large: 300, small: 100 })
    fair.settle(0.5)
    return { big: 600 * (1 - fair.partOf(id('big'))), large: 300 * (1 - fair.partOf(id('large'))) }
  }
  const even = served(evenly)
  t.ok(Math.abs(even.big - 200) < 1 && Math.abs(even.large - 200) < 1, JSON.stringify(even))
  const weighted = served(tenant => (tenant === 'big' ? 3 : 1))
  t.ok(Math.abs(weighted.big - 300) < 1, JSON.stringify(weighted))
  t.ok(Math.abs(weighted.large - 100) < 1)
})

t.test('who is shed and sends on is shed as much; who sends less is soon served', async t => {
  const fair = new FairShed(evenly)
  for (let window = 0; window < 5; window++) {
    send(fair, { flood: 900, a: 100 })
    fair.settle(0.4)
  }
  t.ok(fair.partOf(id('flood')) > 0.4)
  for (let window = 0; window < 8; window++) {
    send(fair, { flood: 40, a: 100, b: 100 })
    fair.settle(0.4)
  }
  t.equal(fair.partOf(id('flood')), 0)
})

t.test('a new flood is seen in its first window', async t => {
  const fair = new FairShed(evenly)
  for (let window = 0; window < 5; window++) {
    send(fair, { a: 100, b: 100 })
    fair.settle(0.1)
  }
  send(fair, { a: 100, b: 100, flood: 5000 })
  fair.settle(0.3)
  t.ok(fair.partOf(id('flood')) > 0.3)
  t.equal(fair.partOf(id('a')), 0)
})

t.test('a flood of requests of nobody known is shed as one, and charged to no tenant', async t => {
  const fair = new FairShed(evenly)
  send(fair, { a: 20, b: 30 }, 950)
  fair.settle(0.5)
  t.ok(Math.abs(fair.strangersPart - 500 / 950) < 0.001)
  t.equal(fair.partOf(id('a')) + fair.partOf(id('b')), 0)
  // From now on that part of them does not pass, and still the flood is known to be as large.
  const first = fair.strangersPart
  for (let window = 0; window < 10; window++) {
    send(fair, { a: 20, b: 30 }, Math.round(950 * (1 - fair.strangersPart)))
    fair.settle(0.5)
  }
  t.ok(Math.abs(fair.strangersPart - first) < 0.02, `${fair.strangersPart}`)
  for (let window = 0; window < 10; window++) {
    send(fair, { a: 20, b: 30 }, 1)
    fair.settle(0.5)
  }
  t.equal(fair.strangersPart, 0, 'when it is over, that is seen by those that pass')
})

t.test('logins have a fifth of what is served, however many tenants there are', async t => {
  const fair = new FairShed(evenly)
  const tenants = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`t${i}`, 2]))
  send(fair, tenants, 100)
  fair.settle(0.3)
  t.equal(fair.strangersPart, 0, 'a hundred of 1,100: many people, and not one that sends too much')
  t.ok(fair.partOf(id('t0')) > 0)
})

t.test('memory is bounded however many tenants come, and the flood among them is seen', async t => {
  const fair = new FairShed(evenly)
  for (let window = 0; window < 3; window++) {
    for (let i = 0; i < 20_000; i++) {
      fair.pass()
      fair.charge(id(`${window}-${i}`))
      if (i % 4 === 0) send(fair, { flood: 4 })
    }
    t.equal(fair.size, 4096)
    fair.settle(0.3)
  }
  t.ok(fair.partOf(id('flood')) > 0.29)
  t.ok(fair.strangersPart < 0.01, 'those that are not counted are nobody’s flood')
  for (let window = 0; window < 20; window++) fair.settle(0.3)
  t.equal(fair.size, 0, 'who sends nothing is forgotten')
})

t.test(
  'property: as much is shed as is wanted, and of nobody who sends less than another is served',
  async () => {
    const one = fc.record({
      requests: fc.integer({ min: 1, max: 500 }),
      weight: fc.integer({ min: 1, max: 20 }),
    })
    fc.assert(
      fc.property(
        fc.array(one, { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 0, max: 500 }),
        fc.double({ min: 0.01, max: 0.9, noNaN: true }),
        (tenants, strangers, share) => {
          const weights = new Map(tenants.map(({ weight }, i) => [id(`t${i}`), weight]))
          const fair = new FairShed(tenant => weights.get(tenant) ?? 1)
          const sent = Object.fromEntries(tenants.map(({ requests }, i) => [`t${i}`, requests]))
          send(fair, sent, strangers)
          fair.settle(share)
          const total = tenants.reduce((sum, { requests }) => sum + requests, strangers)
          const parts = tenants.map((_, i) => fair.partOf(id(`t${i}`)))
          const shed = tenants.reduce(
            (sum, { requests }, i) => sum + requests * (parts[i] as number),
            strangers * fair.strangersPart,
          )
          // Strangers alone may keep a twentieth more than they are to.
          if (Math.abs(shed - share * total) > 0.001 * total + 0.05 * strangers) return false
          const served = tenants.map(
            ({ requests, weight }, i) => (requests * (1 - (parts[i] as number))) / weight,
          )
          const most = Math.max(...served)
          return parts.every(
            (part, i) => part === 0 || (served[i] as number) > most - 0.001 * total,
          )
        },
      ),
      { numRuns: 300 },
    )
  },
)
