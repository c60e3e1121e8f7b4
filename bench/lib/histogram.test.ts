import t from 'tap'
import { Histogram } from './histogram.ts'
import { seededRandom } from './random.ts'

t.test('percentiles are exact below 2,048 µs', async t => {
  const histogram = new Histogram()
  for (let value = 1; value <= 1000; value++) histogram.record(value)
  t.equal(histogram.percentile(0.5), 500)
  t.equal(histogram.percentile(0.99), 990)
  t.equal(histogram.percentile(1), 1000)
  t.equal(histogram.percentile(0), 1)
  t.equal(histogram.count, 1000)
})

t.test('percentiles are within 1/1024 of the sorted values over six decades', async t => {
  const random = seededRandom(7)
  const histogram = new Histogram()
  const values: number[] = []
  for (let i = 0; i < 20_000; i++) {
    const value = Math.floor(10 ** (random() * 9))
    values.push(value)
    histogram.record(value)
  }
  values.sort((a, b) => a - b)
  for (const quantile of [0.01, 0.25, 0.5, 0.9, 0.99, 0.999]) {
    const exact = values[Math.ceil(quantile * values.length) - 1] as number
    const found = histogram.percentile(quantile)
    t.ok(found >= exact, `${quantile}: ${found} is not below ${exact}`)
    t.ok(found - exact <= exact / 1024 + 1, `${quantile}: ${found} is close to ${exact}`)
  }
  t.equal(histogram.maxUs, values.at(-1))
})

t.test('merging two histograms equals recording into one', async t => {
  const [one, left, right] = [new Histogram(), new Histogram(), new Histogram()]
  for (let i = 0; i < 5000; i++) {
    const value = (i * 7919) % 100_003
    one.record(value)
    const half = i % 2 === 0 ? left : right
    half.record(value)
  }
  left.merge(right)
  t.equal(left.count, one.count)
  t.equal(left.maxUs, one.maxUs)
  for (const quantile of [0.1, 0.5, 0.99]) {
    t.equal(left.percentile(quantile), one.percentile(quantile))
  }
})

t.test('an empty histogram has no percentile, and absurd values are kept in range', async t => {
  const histogram = new Histogram()
  t.ok(Number.isNaN(histogram.percentile(0.5)))
  histogram.record(-5)
  t.equal(histogram.percentile(1), 0)
  histogram.record(1e12)
  t.equal(histogram.count, 2)
  t.equal(histogram.maxUs, 1e12)
  t.ok(histogram.percentile(1) >= 2 ** 32 - 1)
})
