import t from 'tap'
import { seededRandom } from './random.ts'
import { zipfSampler } from './zipf.ts'

t.test('ranks come as often as 1/rank says, and every rank is in range', async t => {
  const size = 100
  const draws = 200_000
  const sample = zipfSampler(size, 1, seededRandom(1))
  const counts = new Array<number>(size).fill(0)
  for (let i = 0; i < draws; i++) {
    const rank = sample()
    counts[rank] = (counts[rank] as number) + 1
  }
  t.equal(counts.length, size)
  const harmonic = counts.reduce((sum, _, rank) => sum + 1 / (rank + 1), 0)
  for (const rank of [0, 1, 9]) {
    const expected = draws / (rank + 1) / harmonic
    t.ok(Math.abs((counts[rank] as number) - expected) < expected * 0.05, `rank ${rank}`)
  }
  t.ok((counts[99] as number) > 0, 'the tail is visited')
})

t.test('exponent 0 is uniform and one rank is always 0', async t => {
  const even = zipfSampler(2, 0, seededRandom(3))
  let zeros = 0
  for (let i = 0; i < 10_000; i++) if (even() === 0) zeros++
  t.ok(Math.abs(zeros - 5000) < 300)
  const only = zipfSampler(1, 1, seededRandom(3))
  t.equal(only(), 0)
})

t.test('the same seed draws the same sequence, another seed another', async t => {
  const draw = (seed: number) => {
    const sample = zipfSampler(1000, 1, seededRandom(seed))
    return Array.from({ length: 50 }, sample)
  }
  t.same(draw(5), draw(5))
  t.notSame(draw(5), draw(6))
})
