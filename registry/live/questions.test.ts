import { randomUUID } from 'node:crypto'
import pg from 'pg'
import t from 'tap'
import { Membership } from '../membership.ts'
import { RegistryStore } from '../store.ts'
import type { TenantId } from '../tenant.ts'
import { silent, startTestRegistry, until } from '../test-kit.ts'
import { appState, fleetAnswer } from './answers.ts'
import { fleetOf } from './fleet.ts'
import { type Asked, parseQuestion, questionNotice, TENANTS_ASKED_MAX } from './question.ts'
import { GatewayQuestions, putAnswer, type Reply } from './questions.ts'

const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
const listener = new pg.Client({ connectionString: registry.url })
listener.on('error', () => {})
await listener.connect()
await listener.query('LISTEN gateway_asked')
t.teardown(async () => {
  await listener.end()
  await store.close()
  await registry.stop()
})

const members = [1, 2].map(
  worker => new Membership({ store, log: silent, worker, version: '1.2.3' }),
)
for (const member of members) await member.join()
t.teardown(() => Promise.all(members.map(member => member.leave())))
const [first, second] = members as [Membership, Membership]
const asked: Asked[] = []
/** What the two answer by the question's id; null: nothing. */
let answer: (member: Membership, question: Asked) => string | null = () => '{}'
listener.on('notification', ({ payload }) => {
  const question = parseQuestion(payload)
  if (question === null) return
  asked.push(question)
  for (const member of members) {
    const text = answer(member, question)
    if (text !== null) void putAnswer(store, question.id, member.id, text).catch(() => {})
  }
})
t.beforeEach(() => {
  asked.length = 0
  answer = () => '{}'
})
const FLEET = () => ({ kind: 'fleet' as const, top: 3, via: [] })
const all = (replies: readonly Reply[]) => replies
const rowsLeft = async () => (await registry.admin.query('SELECT FROM gateway_answers')).rowCount

t.test('all that are live answer, and nothing is left behind', async t => {
  const questions = new GatewayQuestions(store)
  answer = ({ id }) => JSON.stringify({ id })
  const replies = await questions.ask('x', FLEET, all)
  t.strictSame(
    replies.map(({ worker }) => worker),
    [1, 2],
  )
  for (const { id, answer, version, heartbeatAgeMs } of replies) {
    t.strictSame({ answer, version }, { answer: { id }, version: '1.2.3' })
    t.ok(heartbeatAgeMs >= 0 && heartbeatAgeMs < 10_000)
  }
  t.match(asked, [{ question: FLEET() }])
  t.equal(await rowsLeft(), 0)
})

t.test(
  'who is silent is missing after the deadline, and its late answer goes with the next',
  async t => {
    const questions = new GatewayQuestions(store, { deadlineMs: 150, freshMs: 0 })
    answer = ({ id }) => (id === first.id ? '{"ok":true}' : null)
    const replies = await questions.ask('x', FLEET, all)
    t.strictSame(
      replies.map(({ id, answer }) => [id, answer]),
      [
        [first.id, { ok: true }],
        [second.id, null],
      ],
    )
    await putAnswer(store, asked[0]?.id as string, second.id, '{"late":true}')
    t.equal(await rowsLeft(), 1)
    await registry.admin.query(
      `UPDATE gateway_answers SET answered_at = now() - interval '2 minutes'`,
    )
    answer = () => '{}'
    await questions.ask('y', FLEET, all)
    t.equal(await rowsLeft(), 0)
  },
)

t.test('one that left in order is not waited for, nor is one that is long gone', async t => {
  const questions = new GatewayQuestions(store, { deadlineMs: 5000, freshMs: 0 })
  const leaving = new Membership({ store, log: silent, worker: 3, version: '1.2.3' })
  await leaving.join()
  answer = member => {
    void leaving.leave()
    return JSON.stringify({ worker: member.id })
  }
  await registry.admin.query(
    `INSERT INTO gateway_instances (id, host, pid, version, started_at, heartbeat_at)
     VALUES ($1, 'gone', 1, '1.2.2', now(), now() - interval '30 seconds')`,
    [randomUUID()],
  )
  const startedAt = performance.now()
  const replies = await questions.ask('x', FLEET, all)
  t.ok(performance.now() - startedAt < 3000)
  t.strictSame(
    replies.map(({ id }) => id),
    [first.id, second.id],
  )
  const state = await fleetOf(questions, store, 3, 10_000)
  t.match(state.gone, [{ host: 'gone', version: '1.2.2' }], 'it is shown all the same')
  t.strictSame(state.missing, [first.id, second.id], 'an answer that cannot be read is none')
  t.strictSame(state.versions, ['1.2.3'])
})

t.test('the same question is put once, however many ask; it is put anew a while later', async t => {
  const questions = new GatewayQuestions(store, { freshMs: 200 })
  const results = await Promise.all(
    Array.from({ length: 100 }, () => questions.ask('same', FLEET, replies => ({ replies }))),
  )
  t.equal(new Set(results).size, 1)
  t.equal(await questions.ask('same', FLEET, all), results[0], 'also right after the answer')
  t.equal(asked.length, 1)
  await until('it is put anew', () => {
    void questions.ask('same', FLEET, all)
    return asked.length > 1
  })
})

t.test('a failure is not remembered', async t => {
  const questions = new GatewayQuestions(store)
  await t.rejects(
    questions.ask('x', FLEET, () => {
      throw new Error('unread')
    }),
    { message: 'unread' },
  )
  t.equal((await questions.ask('x', FLEET, all)).length, 2)
})

t.test('different questions get their turns at a bounded pace, and beyond it none', async t => {
  const questions = new GatewayQuestions(store, { perSecondMax: 5 })
  const startedAt = performance.now()
  const ended = await Promise.allSettled(
    Array.from({ length: 50 }, (_, i) => questions.ask(`q${i}`, FLEET, all)),
  )
  const seconds = (performance.now() - startedAt) / 1000
  const refused = ended.filter(one => one.status === 'rejected')
  t.ok(refused.length >= 30)
  for (const { reason } of refused) t.match(reason, { code: 'OVERLOADED' })
  t.equal(asked.length, 50 - refused.length)
  t.ok(asked.length <= 6 + 5 * seconds, `${asked.length} in ${seconds} s`)
})

t.test('nobody there: nothing is asked', async t => {
  const nobody = { query: async () => [] }
  t.strictSame(await new GatewayQuestions(nobody).ask('x', FLEET, all), [])
})

t.test('a question travels as it was put, and one that is none is not heard', async t => {
  const tenants = Array.from(
    { length: TENANTS_ASKED_MAX },
    () => randomUUID() as string as TenantId,
  )
  const question = { kind: 'pulse', tenants, step: 3 } as const
  const put = { id: randomUUID() as string, restMs: 1000, question }
  const notice = questionNotice(put)
  t.ok(Buffer.byteLength(notice) < 8000, 'it fits into a notice')
  t.strictSame(parseQuestion(notice), put)
  const bad = [
    ...[undefined, '', 'x', '{}', '[]', 'null'],
    notice.replace('pulse', 'other'),
    notice.replace(put.id, 'x'),
    notice.replace('1000', '-1'),
    notice.replace('1000', '1e9'),
    notice.replace(tenants[3] as string, 'x'),
    questionNotice({ ...put, question: { ...question, tenants: [...tenants, ...tenants] } }),
  ]
  for (const payload of bad) t.equal(parseQuestion(payload), null, String(payload).slice(0, 80))
})

t.test('what an answer says beyond what is asked for is dropped', async t => {
  const pool = {
    ...{ is_current: true, size: 1, max: 5, connecting: 0, idle: 1, active: 0, closing: 0 },
    ...{ waiting: 0, leases: 0, breaker: 'closed', password: 'marker' },
  }
  const read = appState.parse({ version: 1, pools: [pool], bucket: null, secret: 'marker' })
  t.notMatch(JSON.stringify(read), 'marker')
  t.notOk(fleetAnswer.safeParse({}).success)
})
