import t from 'tap'
import { percentileOf, undisturbed } from './stalls.ts'

t.test('a sample that a stall or its aftermath touches is left out, and no other', async t => {
  const stalls = [
    { fromMs: 20, toMs: 22 },
    { fromMs: 10, toMs: 13 },
    { fromMs: 12, toMs: 14 },
  ]
  const kept = (startedMs: number, tookMs: number) =>
    undisturbed([{ startedMs, tookMs }], stalls).length === 1
  t.equal(kept(0, 9), true, 'over before')
  t.equal(kept(0, 10), false, 'reaches into it')
  t.equal(kept(11, 0.1), false, 'within')
  t.equal(kept(5, 100), false, 'around')
  t.equal(kept(15.9, 0.1), false, 'while the rest is worked off')
  t.equal(kept(16.1, 1), true, 'between')
  t.equal(kept(19, 1.5), false, 'reaches into the next')
  t.equal(kept(24.1, 1), true, 'after all')
  t.strictSame(undisturbed([{ startedMs: 11, tookMs: 1 }], []).length, 1)
})

t.test('percentiles are by nearest rank', async t => {
  const values = Array.from({ length: 100 }, (_, i) => 100 - i)
  t.equal(percentileOf(values, 0.5), 50)
  t.equal(percentileOf(values, 0.99), 99)
  t.equal(percentileOf(values, 1), 100)
  t.equal(percentileOf([7], 0.01), 7)
  t.equal(Number.isNaN(percentileOf([], 0.5)), true)
})
