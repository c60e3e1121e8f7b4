import t from 'tap'
import { BodyRate } from './server-body-rate.ts'

t.test('every stretch must bring its share, whatever came before it', async t => {
  const rate = new BodyRate()
  rate.restart(1000)
  t.ok(rate.keepsUp(1, 1900, 1000, 100), 'a stretch is judged when it is over')
  t.ok(rate.keepsUp(100_000, 2000, 1000, 100))
  t.notOk(rate.keepsUp(99, 3000, 1000, 100), 'a fast start is no credit')
  t.ok(rate.keepsUp(100, 4000, 1000, 100), 'exactly the minimum')
  t.notOk(rate.keepsUp(250, 7000, 1000, 100), 'a stretch that took longer must bring more')
})

t.test('time in which nothing was wanted does not count, and 0 allows any pace', async t => {
  const rate = new BodyRate()
  rate.restart(0)
  rate.keepsUp(1, 500, 1000, 100)
  rate.restart(60_000)
  t.ok(rate.keepsUp(1, 60_500, 1000, 100))
  t.notOk(rate.keepsUp(1, 61_000, 1000, 100))
  t.ok(rate.keepsUp(0, 99_000, 1000, 0))
})
