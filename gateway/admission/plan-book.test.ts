import t from 'tap'
import type { Plan } from '../../registry/plans.ts'
import { silent, until } from '../../registry/test-kit.ts'
import { PlanBook } from './plan-book.ts'

/** A Registry whose answers come when the test says so. */
function makeBook(pollMs = 60_000) {
  let plans: readonly Plan[] = []
  const reads: { answer: () => void; fail: () => void }[] = []
  let changes = 0
  const book = new PlanBook({
    read: () => {
      // As it is when the read begins.
      const seen = plans
      return new Promise((resolve, reject) => {
        reads.push({ answer: () => resolve(seen), fail: () => reject(new Error('down')) })
      })
    },
    onChange: () => changes++,
    log: silent,
    pollMs,
  })
  return {
    ...{ book, reads },
    set: (weight: number) => {
      plans = [{ code: 'gold', limits: {}, weight }]
    },
    get changes() {
      return changes
    },
  }
}

t.test('a change that comes during a read is read again', async t => {
  const { book, reads, set } = makeBook()
  t.teardown(() => book.close())
  set(1)
  const loading = book.load()
  await until('a read', () => reads.length === 1)
  set(2)
  book.refresh()
  book.refresh()
  reads[0]?.answer()
  await loading
  await until('another read', () => reads.length === 2)
  reads[1]?.answer()
  await until('the change', () => book.get('gold')?.weight === 2)
  t.equal(reads.length, 2, 'once for all that came meanwhile')
})

t.test('a notice that is lost is made up for, and an outage changes nothing', async t => {
  const world = makeBook(20)
  const { book, reads, set } = world
  t.teardown(() => book.close())
  set(1)
  const loading = book.load()
  await until('a read', () => reads.length === 1)
  reads[0]?.answer()
  await loading
  await until('a poll', () => reads.length === 2)
  reads[1]?.fail()
  await until('the next poll', () => reads.length === 3)
  t.equal(book.get('gold')?.weight, 1)
  reads[2]?.answer()
  set(3)
  await until('and the next', () => reads.length === 4)
  t.equal(world.changes, 1, 'what is the same is no change')
  reads[3]?.answer()
  await until('the change', () => book.get('gold')?.weight === 3)
})
