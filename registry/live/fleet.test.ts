import pg from 'pg'
import t from 'tap'
import { LIVE_MS, Membership } from '../membership.ts'
import { RegistryStore } from '../store.ts'
import { silent, startTestRegistry } from '../test-kit.ts'
import type { FleetAnswer, ReplicaSaid } from './answers.ts'
import { fleetOf } from './fleet.ts'
import { type Asked, parseQuestion, type Question, VIA_ASKED_MAX } from './question.ts'
import { GatewayQuestions, putAnswer } from './questions.ts'
import { whoCanTell } from './replicas-said.ts'

/*
 * Gateways that answer by way of a real Registry, and are otherwise made up: which replicas each can ask is the test's to
 * say. What real gateways answer is in deploy/e2e/live.test.ts.
 */
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

const ORIGINS = ['a', 'b', 'c', 'd', 'e', 'f'].map(name => `http://${name}:3000`)
const [A, B, C, D, E, F] = ORIGINS as [string, string, string, string, string, string]

const asked: Question[] = []
let hear: (question: Asked) => void = () => {}
listener.on('notification', ({ payload }) => {
  const question = parseQuestion(payload)
  if (question === null) return
  asked.push(question.question)
  hear(question)
})

interface Made {
  /** Replicas of which it knows a tenant. */
  readonly knows: readonly string[]
  /** Silent: it says nothing. Vague: it says that it can ask, and then does not. */
  readonly is?: 'silent' | 'vague'
  readonly said?: Partial<ReplicaSaid>
}

/** The first heard of longest ago. Asks for the fleet once, and ends them. */
async function look(made: readonly Made[]) {
  asked.length = 0
  const gateways = made.map((one, worker) => ({
    ...one,
    membership: new Membership({ store, log: silent, worker, version: '1', heartbeatMs: 60_000 }),
  }))
  for (const { membership } of gateways) await membership.join()
  const idOf = (index: number) => gateways[index]?.membership.id ?? ''
  hear = ({ id, question }) => {
    for (const one of gateways) {
      if (one.is === 'silent' || question.kind === 'pulse' || question.kind === 'tenant') continue
      const asks = question.via.includes(one.membership.id)
      if (question.kind === 'replicas' && !asks) continue
      const text = JSON.stringify(
        question.kind === 'fleet' ? fleetAnswerOf(one, asks) : replicasOf(one),
      )
      void putAnswer(store, id, one.membership.id, text).catch(() => {})
    }
  }
  const questions = new GatewayQuestions(store, { deadlineMs: 400, freshMs: 0 })
  const state = await fleetOf(questions, store, 3, LIVE_MS)
  for (const { membership } of gateways) await membership.leave()
  const told = state.replicas.flatMap(({ origin, app }) => (app === null ? [] : [origin]))
  return { state, told, idOf, asked: [...asked] }
}

function saidBy({ said = {} }: Made): ReplicaSaid {
  const counts = { db_connections: 1, db_connections_max: 5, db_connections_of_busiest_server: 1 }
  const more = { db_connections_per_server_max: 9, pools: 1, pools_max: 9, waiting: 0 }
  const rest = { tenants_in_line: 0, db_breakers_open: 0, bucket_breakers_open: 0 }
  const state = { name: 'x', version: '7', uptime_ms: 1, rss_bytes: 1, ...counts, ...more, ...rest }
  return { problem: null, state, age_ms: 10, ...said }
}

function replicasOf(made: Made) {
  const origins = made.is === 'vague' ? [] : made.knows
  return { replicas: origins.map(origin => ({ origin, app: saidBy(made) })) }
}

function fleetAnswerOf(made: Made, asks: boolean): FleetAnswer {
  return {
    ...{ figures: [], covers_s: 60, uptime_ms: 1, requests_in_flight: 0, requests_held: 0 },
    ...{ tenants_held: 0, client_connections: 0, client_connections_max: 9, open_sockets: 0 },
    ...{ loop_delay_ms: 0, shed_share: 0, rss_bytes: 1, cpu_share: 0, is_ready: true },
    registry: { is_listener_healthy: true, contact_age_ms: 0 },
    ...{ caches: [], top: [] },
    upstream: { connections: 0, connections_per_replica_max: 9, replicas: ORIGINS.length },
    replicas: ORIGINS.map(origin => ({
      ...{ origin, is_healthy: true, is_ready: true, ejected_ms: 0, resting_ms: 0, weight: 1 },
      ...{ full_weight: 1, requests_in_flight: 0, websockets: 0, connections: 0 },
      is_askable: made.knows.includes(origin),
      app: asks && made.is !== 'vague' && made.knows.includes(origin) ? saidBy(made) : null,
    })),
  }
}

const IDLE: Made = { knows: [] }

t.test(
  'replicas are told of by gateways that know them, though those heard of last are idle',
  async t => {
    const { state, told, asked, idOf } = await look([
      { knows: [A, B] },
      { knows: [A, B, C, D] },
      { knows: [E] },
      IDLE,
      IDLE,
    ])
    t.strictSame(told, [A, B, C, D, E])
    t.strictSame(state.app_versions, ['7'])
    t.equal(state.totals.db_connections, 5, 'each replica counts once')
    const nobodys = state.replicas.find(({ origin }) => origin === F)
    t.match(nobodys, { app: null, problem: null, seen_by: 5 }, 'nobody could ask it')
    t.strictSame(state.missing, [])
    const [first, second, ...more] = asked
    t.match(first, { kind: 'fleet', via: [idOf(4), idOf(3)] })
    t.strictSame(second, { kind: 'replicas', via: [idOf(1), idOf(2)] }, 'no more than needed')
    t.strictSame(more, [])
  },
)

t.test('one question does where those heard of last know all that is known', async t => {
  const { told, asked } = await look([IDLE, { knows: [A, B] }, { knows: [B, C] }])
  t.strictSame(told, [A, B, C])
  t.equal(asked.length, 1)
})

t.test('who can ask and does not is left, and another one asked; the rest is there', async t => {
  const vague = await look([{ knows: [A] }, { knows: [A, B], is: 'vague' }, IDLE, IDLE])
  t.strictSame(vague.told, [A])
  t.equal(vague.asked.length, 3)
  const silent = await look([{ knows: [A] }, { knows: [A, B], is: 'silent' }, IDLE, IDLE])
  t.strictSame(silent.told, [A])
  t.strictSame(silent.state.missing, [silent.idOf(1)])
})

t.test('many gateways that know one replica each: so many are asked, and no more', async t => {
  const { told, asked, state } = await look([
    ...ORIGINS.map(origin => ({ knows: [origin] })),
    IDLE,
    IDLE,
  ])
  t.strictSame(told, ORIGINS)
  t.equal(state.replicas.length, ORIGINS.length)
  t.strictSame(
    asked.map(question => ('via' in question ? question.via.length : 0)),
    [2, VIA_ASKED_MAX, ORIGINS.length - VIA_ASKED_MAX],
  )
})

t.test('of what two were told by one replica the better counts', async t => {
  const age = (age_ms: number, version: string): Made => ({
    knows: [A],
    said: { age_ms, state: { ...saidBy(IDLE).state, version } as ReplicaSaid['state'] },
  })
  const { state } = await look([age(4000, 'before'), age(20, 'now')])
  t.match(state.replicas[0], { origin: A, app: { version: 'now' } })
  const problem: Made = { knows: [A], said: { problem: 'no answer in time', state: null } }
  const reached = await look([age(4000, 'reached'), problem])
  t.match(reached.state.replicas[0], { app: { version: 'reached' }, problem: null })
  const alone = await look([problem, IDLE])
  t.match(alone.state.replicas[0], { app: null, problem: 'no answer in time' })
  t.equal(alone.asked.length, 1, 'it was asked')
})

t.test('few are chosen that together know what is not told', t => {
  const gateways = [
    { id: 'one', origins: [A] },
    { id: 'three', origins: [A, B, C] },
    { id: 'two', origins: [C, D] },
  ]
  t.strictSame(whoCanTell(gateways, new Set(), 4), ['three', 'two'])
  t.strictSame(whoCanTell(gateways, new Set(), 1), ['three'])
  t.strictSame(whoCanTell(gateways, new Set([B, C, D]), 4), ['one'])
  t.strictSame(whoCanTell(gateways, new Set(ORIGINS), 4), [])
  t.end()
})
