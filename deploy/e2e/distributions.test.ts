import t from 'tap'
import { chanceAbove, greatestDistance, noiseDistance, quantile } from './distributions.ts'

const upTo = (count: number, shift = 0) => Array.from({ length: count }, (_, i) => i + shift)

t.test('equal samples have no distance, samples apart have all of it', async t => {
  t.equal(chanceAbove(upTo(100), upTo(100)), 0.5)
  t.equal(greatestDistance(upTo(100), upTo(100)), 0)
  t.equal(chanceAbove(upTo(100, 1000), upTo(100)), 1)
  t.equal(chanceAbove(upTo(100), upTo(100, 1000)), 0)
  t.equal(greatestDistance(upTo(100), upTo(100, 1000)), 1)
})

t.test('a shift of a quarter is a distance of a quarter', async t => {
  const distance = greatestDistance(upTo(100, 25), upTo(100))
  t.ok(Math.abs(distance - 0.25) < 1e-9)
  t.ok(chanceAbove(upTo(100, 25), upTo(100)) > 0.7)
})

t.test('a difference of shape alone is seen', async t => {
  const wide = upTo(100, -50)
  const narrow = wide.map(value => value / 10)
  t.ok(Math.abs(chanceAbove(wide, narrow) - 0.5) < 0.02)
  t.ok(greatestDistance(wide, narrow) > 0.4)
})

t.test('more samples bear less noise', async t => {
  t.ok(noiseDistance(60) < 0.45)
  t.ok(noiseDistance(1000) < 0.11)
  t.equal(quantile(upTo(100), 0.5), 50)
})
