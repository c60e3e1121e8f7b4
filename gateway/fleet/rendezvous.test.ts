import t from 'tap'
import { hashText, rank } from './rendezvous.ts'

const KEYS = Array.from({ length: 20_000 }, (_, i) => hashText(`tenant-${i}`))
const members = (n: number) =>
  Array.from({ length: n }, (_, i) => ({
    origin: `http://10.0.0.${i}:3000`,
    hash: hashText(`http://10.0.0.${i}:3000`),
    weight: 1,
  }))

t.test('every gateway ranks alike, whatever order it learnt the members in', async t => {
  const ten = members(10)
  const reversed = [...ten].reverse()
  for (const key of KEYS.slice(0, 500)) {
    t.strictSame(rank(key, ten, 3), rank(key, reversed, 3))
  }
  t.strictSame(rank(1, [], 2), [])
  t.equal(rank(1, members(1), 2).length, 1)
})

t.test('a member that leaves moves its own tenants and no other', async t => {
  const ten = members(10)
  const gone = ten[3]
  const nine = ten.filter(member => member !== gone)
  let moved = 0
  let wrong = 0
  for (const key of KEYS) {
    const before = rank(key, ten, 2)
    const after = rank(key, nine, 2)
    const stay = before.filter(member => member !== gone)
    if (stay.length === 1) {
      moved++
      // The other one stays, and leads.
      if (after[0] !== stay[0]) wrong++
    } else if (before[0] !== after[0] || before[1] !== after[1]) wrong++
  }
  t.equal(wrong, 0)
  // 2 of 10 replicas are a tenant's home: a fifth of them lose one.
  t.ok(Math.abs(moved / KEYS.length - 0.2) < 0.02, `${moved} moved`)
})

t.test('tenants spread evenly, and by weight', async t => {
  const weighted = members(4).map((member, i) => ({ ...member, weight: i === 0 ? 3 : 1 }))
  const counts = new Map(weighted.map(member => [member, 0]))
  for (const key of KEYS) {
    const [first] = rank(key, weighted, 1)
    if (first !== undefined) counts.set(first, (counts.get(first) ?? 0) + 1)
  }
  const shares = [...counts.values()].map(count => count / KEYS.length)
  t.ok(Math.abs((shares[0] ?? 0) - 0.5) < 0.02, String(shares))
  for (const share of shares.slice(1)) t.ok(Math.abs(share - 1 / 6) < 0.02, String(shares))
})
