import t from 'tap'
import { pairedRatio, spreadOf } from './stats.ts'

t.test('the median of odd and even counts, with the outer values', async t => {
  t.same(spreadOf([3, 1, 2]), { median: 2, min: 1, max: 3 })
  t.same(spreadOf([4, 1, 2, 3]), { median: 2.5, min: 1, max: 4 })
})

t.test('numbers are ordered as numbers', async t => {
  t.same(spreadOf([10, 9, 100]), { median: 10, min: 9, max: 100 })
})

t.test('a failed round is left out, and nothing is made of nothing', async t => {
  t.same(spreadOf([Number.NaN, 5, Number.POSITIVE_INFINITY]), { median: 5, min: 5, max: 5 })
  t.equal(spreadOf([]), null)
  t.equal(spreadOf([Number.NaN]), null)
})

t.test('a disturbance that slows both sides of a round leaves the ratio alone', async t => {
  t.same(pairedRatio([50, 500, 50], [100, 1000, 100]), { median: 0.5, min: 0.5, max: 0.5 })
  t.same(pairedRatio([50, Number.NaN], [100, 100]), { median: 0.5, min: 0.5, max: 0.5 })
})

t.test('a reference within the noise, zero or below, is not divided by', async t => {
  t.equal(pairedRatio([1], [0]), null)
  t.same(pairedRatio([1, 4], [-0.5, 2]), { median: 2, min: 2, max: 2 })
})
