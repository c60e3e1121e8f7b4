import { randomBytes } from 'node:crypto'
import t from 'tap'
import { FailureSketch, limitKey } from './failure-sketch.ts'

const MINUTE_MS = 60_000
const WINDOW_MS = 15 * MINUTE_MS
const key = () => limitKey(randomBytes(32).toString('base64url'))

t.test('failures count one by one, and are forgiven evenly over the window', async t => {
  const sketch = new FailureSketch(10, WINDOW_MS)
  const one = key()
  t.equal(sketch.count(one, 0), 0)
  for (let failures = 1; failures <= 10; failures++) {
    sketch.add(one, 0)
    t.equal(sketch.count(one, 0), failures)
  }
  t.equal(sketch.untilFewerMs(one, 0), 1.5 * MINUTE_MS)
  t.equal(sketch.count(one, 1.5 * MINUTE_MS - 1), 10)
  t.equal(sketch.count(one, 1.5 * MINUTE_MS), 9)
  t.equal(sketch.count(one, WINDOW_MS / 2), 5)
  t.equal(sketch.count(one, WINDOW_MS), 0)
  t.equal(sketch.untilFewerMs(one, WINDOW_MS), 0)
})

t.test('more failures than the most do not last longer than the window', async t => {
  const sketch = new FailureSketch(10, WINDOW_MS)
  const one = key()
  for (let i = 0; i < 50; i++) sketch.add(one, 0)
  t.equal(sketch.count(one, 0), 10)
  t.equal(sketch.count(one, WINDOW_MS), 0)
})

t.test('a flood of other keys never makes it forget one', async t => {
  const sketch = new FailureSketch(10, WINDOW_MS)
  const victim = key()
  for (let i = 0; i < 10; i++) sketch.add(victim, 0)
  for (let i = 0; i < 100_000; i++) sketch.add(key(), 1)
  t.ok(sketch.count(victim, 2) >= 10)
})

t.test('a flood befalls few of the keys that have not failed', async t => {
  const sketch = new FailureSketch(10, WINDOW_MS)
  // In one minute, each up to the limit: 10,000 failed logins per second.
  for (let i = 0; i < 65_536; i++) {
    const other = key()
    for (let n = 0; n < 10; n++) sketch.add(other, (i * MINUTE_MS) / 65_536)
  }
  let blocked = 0
  for (let i = 0; i < 10_000; i++) if (sketch.count(key(), MINUTE_MS) >= 10) blocked++
  t.ok(blocked < 500, `${blocked} of 10,000 were taken for failed`)
})
