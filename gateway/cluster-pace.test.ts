import t from 'tap'
import { RestartPace } from './cluster-pace.ts'

t.test('a crash loop slows down to one restart in 10 s, and no further', async t => {
  const pace = new RestartPace()
  const delays = Array.from({ length: 20 }, () => pace.delayMs(50))
  t.strictSame(delays.slice(0, 9), [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000])
  t.equal(delays.at(-1), 10_000)
})

t.test('a worker that ran for long is replaced at once, also after a crash loop', async t => {
  const pace = new RestartPace()
  for (let i = 0; i < 20; i++) pace.delayMs(50)
  t.equal(pace.delayMs(60_000), 100)
  t.equal(pace.delayMs(50), 200)
})
