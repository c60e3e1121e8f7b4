import t from 'tap'
import { RecentCache } from './recent.ts'

t.test('never holds more than its bound, and keeps what is asked for', async t => {
  const cache = new RecentCache<{ n: number }>(100)
  const hot = { n: -1 }
  cache.set('hot', hot)
  for (let n = 0; n < 10_000; n++) {
    cache.set(`cold-${n}`, { n })
    t.equal(cache.get('hot'), hot)
    if (cache.size > 100) t.fail(`${cache.size} entries`)
  }
  t.equal(cache.get('cold-0'), undefined)
  t.strictSame(cache.get('cold-9999'), { n: 9999 })
})

t.test('a newer value wins and a deleted one is gone, whichever generation it is in', async t => {
  const cache = new RecentCache<{ n: number }>(4)
  for (const key of ['a', 'b', 'c']) cache.set(key, { n: 1 })
  cache.set('a', { n: 2 })
  t.strictSame(cache.get('a'), { n: 2 })
  cache.delete('a')
  cache.delete('b')
  t.equal(cache.get('a'), undefined)
  t.equal(cache.get('b'), undefined)
})
