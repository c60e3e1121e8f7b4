import fc from 'fast-check'
import t from 'tap'
import { FairQueue } from './fair-queue.ts'

interface Item {
  readonly tenant: number
  readonly n: number
}

t.test(
  'property: of tenants that wait all the time none is ahead by more than its turn',
  async () => {
    const weights = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 12 })
    const property = fc.property(weights, fc.integer({ min: 1, max: 400 }), (all, serves) => {
      const queue = new FairQueue<Item>()
      const served = all.map(() => 0)
      let n = 0
      const add = (tenant: number) =>
        queue.push(String(tenant), all[tenant] as number, { tenant, n: n++ })
      for (const [tenant] of all.entries()) for (let i = 0; i < 3; i++) add(tenant)
      for (let i = 0; i < serves; i++) {
        const item = queue.pop() as Item
        served[item.tenant] = (served[item.tenant] as number) + 1
        add(item.tenant)
      }
      const by = served.map((count, tenant) => count / (all[tenant] as number))
      const bound = 1 / Math.min(...all) + 1 / Math.max(...all) + 1e-9
      return Math.max(...by) - Math.min(...by) <= Math.max(bound, 2 / Math.min(...all))
    })
    fc.assert(property)
  },
)

t.test(
  'property: whatever comes, goes and leaves: each once, in line within its tenant',
  async () => {
    const steps = fc.array(
      fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 2 })),
      {
        maxLength: 500,
      },
    )
    const property = fc.property(steps, all => {
      const queue = new FairQueue<Item>()
      const waiting = new Map<number, Item[]>()
      let n = 0
      for (const [tenant, what] of all) {
        const own = waiting.get(tenant) ?? []
        waiting.set(tenant, own)
        if (what === 0) {
          const item = { tenant, n: n++ }
          own.push(item)
          queue.push(String(tenant), 1 + (tenant % 3), item)
        } else if (what === 1) {
          const item = queue.pop()
          if (item === undefined) {
            if (queue.size !== 0) return false
          } else if (waiting.get(item.tenant)?.shift() !== item) return false
        } else {
          // The last one leaves.
          const item = own.pop()
          if (item !== undefined && !queue.remove(String(tenant), item)) return false
          if (item !== undefined && queue.remove(String(tenant), item)) return false
        }
        const sizes = [...waiting.values()].map(({ length }) => length)
        if (queue.size !== sizes.reduce((sum, size) => sum + size, 0)) return false
        if (queue.flows !== sizes.filter(size => size > 0).length) return false
      }
      return true
    })
    fc.assert(property)
  },
)

/** Items are told apart by what they are. */
class Named {
  readonly name: string

  constructor(name: string) {
    this.name = name
  }
}

t.test('who comes new waits for one of each other, however long their lines are', async t => {
  const queue = new FairQueue<Named>()
  const push = (key: string) => queue.push(key, 1, new Named(key))
  for (let i = 0; i < 10_000; i++) push('noisy')
  for (let i = 0; i < 500; i++) queue.pop()
  for (let i = 0; i < 20; i++) push(`quiet ${i}`)
  let noisy = 0
  for (let quiet = 0; quiet < 20; ) {
    if (queue.pop()?.name === 'noisy') noisy++
    else quiet++
  }
  t.ok(noisy <= 1, `${noisy} of the noisy one came before them`)
  // One request at a time, each as soon as the last one was served: no advantage over who has a long line.
  let own = 0
  let others = 0
  push('eager')
  for (let i = 0; i < 200; i++) {
    if (queue.pop()?.name === 'eager') {
      own++
      push('eager')
    } else others++
  }
  t.ok(Math.abs(own - others) <= 2, `${own} and ${others}`)
})

t.test('a weight of three is three turns of four', async t => {
  const queue = new FairQueue<Named>()
  for (let i = 0; i < 100; i++) {
    queue.push('gold', 3, new Named('gold'))
    queue.push('basic', 1, new Named('basic'))
  }
  let gold = 0
  for (let i = 0; i < 100; i++) if (queue.pop()?.name === 'gold') gold++
  t.ok(gold >= 74 && gold <= 76, `${gold}`)
})

t.test('tenants without anything that waits are forgotten', async t => {
  const queue = new FairQueue<Named>()
  queue.push('long', 1, new Named('long'))
  for (let i = 0; i < 100_000; i++) {
    queue.push('long', 1, new Named('long'))
    queue.push(`t${i}`, 1000, new Named('x'))
    queue.pop()
    queue.pop()
  }
  t.ok(queue.flows <= 2, `${queue.flows}`)
  t.ok(queue.remembered <= 3 * queue.flows + 100, `${queue.remembered} of 100,000`)
  t.equal(queue.oldestOfLongest()?.key, 'long')
})
