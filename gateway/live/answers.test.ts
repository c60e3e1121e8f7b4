import { randomUUID } from 'node:crypto'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { makeLog } from '../../registry/lib/log.ts'
import { ANSWER_BYTES_MAX } from '../../registry/live/answers.ts'
import { until } from '../test-kit.ts'
import { Answers, QUESTIONS_MAX } from './answers.ts'

const log = makeLog('test', 'silent')
const ask = (restMs = 1000) => ({
  id: randomUUID(),
  restMs,
  question: { kind: 'fleet' as const, top: 0, via: [] },
})

t.test('a flood of questions is bounded, and each that was taken is answered once', async t => {
  const release = Promise.withResolvers<string>()
  const written: string[] = []
  let made = 0
  let atOnce = 0
  let most = 0
  const answers = new Answers({
    async make() {
      made++
      most = Math.max(most, ++atOnce)
      const answer = await release.promise
      atOnce--
      return answer
    },
    write: async id => void written.push(id),
    log,
  })
  for (let i = 0; i < 1000; i++) answers.take(ask())
  t.equal(made, most)
  t.ok(most <= 4, `${most} at work`)
  release.resolve('x')
  await until(() => written.length === QUESTIONS_MAX)
  await turn()
  t.equal(new Set(written).size, QUESTIONS_MAX)
  answers.take(ask())
  await until(() => written.length === QUESTIONS_MAX + 1)
})

t.test('what is late, too long, or fails is not written; the next one is', async t => {
  const written: string[] = []
  const made: (() => unknown)[] = []
  const answers = new Answers({
    make: async () => made.shift()?.(),
    write: async (_, answer) => void written.push(answer),
    log,
  })
  const run = async (make: () => unknown, restMs?: number) => {
    made.push(make)
    answers.take(ask(restMs))
    await turn()
  }
  await run(() => 'late', 0)
  made.length = 0
  await run(() => 'x'.repeat(ANSWER_BYTES_MAX))
  await run(() => {
    throw new Error('no answer')
  })
  await run(() => 'good')
  await until(() => written.length > 0)
  t.strictSame(written, ['"good"'])
  answers.close()
  await run(() => 'after the end')
  t.equal(written.length, 1)
})
