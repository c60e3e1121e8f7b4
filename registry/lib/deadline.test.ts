import t from 'tap'
import { withDeadline } from './deadline.ts'

const late = () => new Error('late')

t.test('work in time gives its value or its error, and nothing is released', async t => {
  const released: number[] = []
  const release = (n: number) => released.push(n)
  t.equal(await withDeadline(Promise.resolve(1), 1000, late, release), 1)
  await t.rejects(withDeadline(Promise.reject(new Error('own')), 1000, late, release), /own/)
  t.strictSame(released, [])
})

t.test('late work is given up, and what it brings is released', async t => {
  let deliver: (n: number) => void = () => {}
  const work = new Promise<number>(resolve => {
    deliver = resolve
  })
  const released: number[] = []
  await t.rejects(
    withDeadline(work, 5, late, n => released.push(n)),
    /late/,
  )
  t.strictSame(released, [])
  deliver(7)
  await work
  t.strictSame(released, [7])
})

t.test('late work that fails is no unhandled rejection', async t => {
  let fail: (error: Error) => void = () => {}
  const work = new Promise<number>((_, reject) => {
    fail = reject
  })
  const unhandled: unknown[] = []
  const listener = (error: unknown) => unhandled.push(error)
  process.on('unhandledRejection', listener)
  await t.rejects(withDeadline(work, 5, late), /late/)
  fail(new Error('too late'))
  await new Promise(resolve => setImmediate(resolve))
  process.off('unhandledRejection', listener)
  t.strictSame(unhandled, [])
})
