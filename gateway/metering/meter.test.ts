import { randomUUID } from 'node:crypto'
import t from 'tap'
import type { UsageBatch, UsageDayCounts } from '../../registry/usage-batch.ts'
import type { Exchange } from '../exchange.ts'
import { Meter, type MeterLimits } from './meter.ts'

const DAY_MS = 86_400_000
const DAY_ONE = Date.UTC(2026, 2, 1)

function setUp({ usersExactMax = 5, limits = {} as Partial<MeterLimits> } = {}) {
  const clock = { nowMs: DAY_ONE + 3_600_000, monotonicMs: 0 }
  const meter = new Meter({
    instance: randomUUID(),
    usersExactMax,
    limits,
    clock: { now: () => clock.nowMs, monotonic: () => clock.monotonicMs },
  })
  return {
    meter,
    clock,
    pass(ms: number) {
      clock.nowMs += ms
      clock.monotonicMs += ms
    },
    /** Both clocks, as in a life without jumps. */
    passUntil(nowMs: number) {
      clock.monotonicMs += nowMs - clock.nowMs
      clock.nowMs = nowMs
    },
    sealAll() {
      const batches: UsageBatch[] = []
      for (let batch = meter.seal(); batch !== null; batch = meter.seal()) batches.push(batch)
      return batches
    },
  }
}

function exchangeOf(tenant: string, change: object = {}): Exchange {
  const base = { principal: null, status: 200, errorCode: null, appUsage: null, metered: null }
  const about = { tenant: { id: tenant }, bytesIn: 3, bytesOut: 7 }
  return { ...base, ...about, ...change } as unknown as Exchange
}

function serve(meter: Meter, tenant: string, change: object = {}, tookMs = 2.9): void {
  const exchange = exchangeOf(tenant, change)
  meter.answered(exchange)
  meter.finished(exchange, tookMs)
}

/** All batches of a tenant and day as one row. */
function sumOf(batches: readonly UsageBatch[], tenant: string, date: string) {
  const sum: Record<string, number> = {}
  for (const day of batches.flatMap(({ days }) => days)) {
    if (day.tenant_id !== tenant || day.date !== date) continue
    const { tenant_id: _, date: __, ...counts } = day as UsageDayCounts & Record<string, number>
    for (const [name, count] of Object.entries(counts)) {
      sum[name] = (sum[name] ?? 0) + (count as number)
    }
  }
  return sum
}

t.test(
  'what the app answered below 500 counts, by class; what failed or was refused does not',
  async t => {
    const { meter, sealAll } = setUp()
    for (const status of [200, 201, 304, 302, 404, 429]) serve(meter, 'a', { status })
    serve(meter, 'a', { status: 500 })
    const refused = exchangeOf('a', { status: 429, errorCode: 'TENANT_BUSY' })
    meter.finished(refused, 1)
    meter.finished(exchangeOf('a', { status: 0 }), 1)
    meter.finished(exchangeOf('a', { status: 200 }), 1)
    meter.finished({ ...refused, tenant: null } as Exchange, 1)
    const counts = { responses_2xx: 2, responses_3xx: 2, responses_4xx: 2, responses_5xx: 1 }
    const rest = { requests_refused: 1, requests_aborted: 1, duration_ms: 12 }
    const wanted = { ...counts, ...rest, bytes_in: 18, bytes_out: 42 }
    t.strictSame(sumOf(sealAll(), 'a', '2026-03-01'), wanted)
    t.equal(meter.seal(), null, 'and nothing is sealed twice')
  },
)

t.test('nobody without a token makes an invoice longer, but by a login that succeeds', async t => {
  const { meter, sealAll } = setUp()
  const login = { credential: 'login', counts: 'failures' }
  serve(meter, 'a', { route: login, status: 200, appUsage: 'emails=1' })
  serve(meter, 'a', { route: login, status: 401, appUsage: 'emails=1' })
  serve(meter, 'a', { route: login, status: 401, errorCode: 'INVALID_CREDENTIALS' })
  serve(meter, 'a', { route: { ...login, counts: 'attempts' }, appUsage: 'emails=1' })
  serve(meter, 'a', { route: { credential: 'refresh_token', counts: 'failures' }, status: 401 })
  const batches = sealAll()
  const counts = { responses_2xx: 1, responses_4xx: 1, requests_refused: 2 }
  t.match(sumOf(batches, 'a', '2026-03-01'), { ...counts, bytes_in: 6 })
  t.match(batches[0]?.counters, [{ name: 'emails', value: 1 }])
})

t.test(
  'an answer that breaks off by the app’s fault is taken back, by the client’s it stays',
  async t => {
    const { meter, sealAll, pass } = setUp()
    const broken = exchangeOf('a')
    meter.answered(broken)
    const first = sealAll()
    t.strictSame(sumOf(first, 'a', '2026-03-01'), { responses_2xx: 1 })
    pass(DAY_MS)
    meter.finished({ ...broken, errorCode: 'UPSTREAM_BAD_RESPONSE' }, 1)
    const left = exchangeOf('a')
    meter.answered(left)
    meter.finished({ ...left, errorCode: 'REQUEST_TIMEOUT' }, 1)
    const all = [...first, ...sealAll()]
    t.strictSame(sumOf(all, 'a', '2026-03-01'), { responses_2xx: 0, responses_5xx: 1 })
    t.match(sumOf(all, 'a', '2026-03-02'), { responses_2xx: 1, bytes_out: 7 })
  },
)

t.test('a WebSocket that broke by our fault costs no time any more', async t => {
  const { meter, pass, sealAll } = setUp()
  const socket = exchangeOf('a', { status: 101 })
  meter.answered(socket)
  pass(1000)
  meter.finished({ ...socket, errorCode: 'UPSTREAM_BAD_RESPONSE' }, 1000)
  pass(60_000)
  t.match(sumOf(sealAll(), 'a', '2026-03-01'), { responses_5xx: 1, websocket_ms: 1000 })
  t.strictSame(sealAll(), [])
})

t.test('a request is of the day of its answer, its bytes of the day of its end', async t => {
  const { meter, passUntil, sealAll } = setUp()
  passUntil(DAY_ONE + DAY_MS - 1)
  const exchange = exchangeOf('a', { principal: { sub: 'u' } })
  meter.answered(exchange)
  passUntil(DAY_ONE + DAY_MS)
  meter.finished(exchange, 10)
  serve(meter, 'a', { principal: { sub: 'u' } })
  const batches = sealAll()
  t.strictSame(sumOf(batches, 'a', '2026-03-01'), { responses_2xx: 1 })
  t.match(sumOf(batches, 'a', '2026-03-02'), { responses_2xx: 1, bytes_in: 6 })
  const users = batches.flatMap(batch => batch.users).map(user => user.date)
  t.strictSame(users.sort(), ['2026-03-01', '2026-03-02'], 'a user is new on each day')
})

t.test('a clock that jumps forward and back dates nothing to a day that has not come', async t => {
  const { meter, clock, pass, sealAll } = setUp()
  serve(meter, 'a')
  clock.nowMs += 40 * DAY_MS
  serve(meter, 'a')
  pass(59_000)
  serve(meter, 'a')
  clock.nowMs -= 40 * DAY_MS
  serve(meter, 'a')
  const batches = sealAll()
  t.equal(sumOf(batches, 'a', '2026-03-01').responses_2xx, 4)
  t.strictSame(
    batches.map(({ sealedAtMs }) => Math.floor(sealedAtMs / DAY_MS)),
    [DAY_ONE / DAY_MS],
    'nor was the batch sealed then',
  )
  t.ok(batches.every(({ days }) => days.every(({ date }) => date === '2026-03-01')))
})

t.test(
  'a clock that stays ahead is believed after a minute, and no longer than it stays',
  async t => {
    const { meter, clock, pass, sealAll } = setUp()
    const see = (sub: string) => serve(meter, 'a', { principal: { sub } })
    const socket = exchangeOf('a', { status: 101 })
    meter.answered(socket)
    see('u')
    clock.nowMs += DAY_MS
    see('u')
    pass(60_000)
    see('u')
    const batches = sealAll()
    pass(10_000)
    see('u')
    clock.nowMs -= DAY_MS
    see('u')
    see('v')
    pass(5000)
    batches.push(...sealAll())
    meter.finished(socket, 1e9)
    clock.nowMs += DAY_MS
    see('u')
    batches.push(...sealAll())
    const [first, second] = ['2026-03-01', '2026-03-02'].map(date => sumOf(batches, 'a', date))
    t.equal(first?.responses_2xx, 5)
    t.equal(second?.responses_2xx, 2, 'those of the time for which it was believed')
    t.equal(
      (first?.websocket_ms ?? 0) + (second?.websocket_ms ?? 0),
      75_000,
      'and the time of a socket is counted once',
    )
    const named = batches.flatMap(({ users }) => users.map(user => `${user.date} ${user.user_id}`))
    t.equal(new Set(named).size, 3)
  },
)

t.test('a request that ends on a day that was left and came back is of one record', async t => {
  const { meter, clock, pass, sealAll } = setUp()
  const early = exchangeOf('a')
  meter.answered(early)
  const batches = sealAll()
  clock.nowMs += DAY_MS
  pass(60_000)
  serve(meter, 'a')
  pass(60_000)
  serve(meter, 'a')
  batches.push(...sealAll())
  clock.nowMs -= DAY_MS
  serve(meter, 'a')
  meter.finished(early, 1)
  const last = sealAll()
  t.equal(last.flatMap(({ days }) => days).length, 1)
  batches.push(...last)
  t.match(sumOf(batches, 'a', '2026-03-01'), { responses_2xx: 3, bytes_out: 21 })
  t.match(sumOf(batches, 'a', '2026-03-02'), { responses_2xx: 1, bytes_out: 7 })
})

t.test('a clock that is set back is followed at once, over midnight too', async t => {
  const { meter, clock, passUntil, sealAll } = setUp()
  passUntil(DAY_ONE + DAY_MS + 200)
  serve(meter, 'a')
  const batches = sealAll()
  clock.nowMs -= 400
  serve(meter, 'a')
  passUntil(DAY_ONE + DAY_MS)
  serve(meter, 'a')
  batches.push(...sealAll())
  t.equal(sumOf(batches, 'a', '2026-03-01').responses_2xx, 1)
  t.equal(sumOf(batches, 'a', '2026-03-02').responses_2xx, 2)
  t.equal(meter.unsealed, 0)
})

t.test('what another brought in of a process that was taken for dead is dropped here', async t => {
  const { meter, sealAll } = setUp({ limits: { batchTenantsMax: 1 } })
  const journal = { seal() {}, drop() {}, dropCurrent() {}, add() {}, write() {}, touch() {} }
  const journalling = new Meter({
    ...{ instance: randomUUID(), usersExactMax: 5, limits: { batchTenantsMax: 1 } },
    journal: journal as never,
  })
  for (const tenant of ['a', 'b', 'c']) serve(journalling, tenant)
  const first = journalling.seal() as UsageBatch
  journalling.written(first.sequence)
  t.equal(journalling.unsealed, 2, 'an answer of the usual kind drops nothing')
  const second = journalling.seal() as UsageBatch
  journalling.written(second.sequence, true)
  t.equal(journalling.seal(), null, 'its file held the rest too')
  serve(journalling, 'a')
  const third = journalling.seal() as UsageBatch
  serve(journalling, 'b')
  journalling.written(third.sequence, true)
  t.equal(journalling.unsealed, 1, 'what came after a batch without a rest is of no file of then')
  serve(meter, 'a')
  meter.written(1, true)
  t.equal(sealAll().length, 1)
})

t.test(
  'the time of open sockets is split at midnight to the millisecond, and never grows by a clock that jumps',
  async t => {
    const { meter, clock, pass, passUntil, sealAll } = setUp()
    passUntil(DAY_ONE + DAY_MS - 10_000)
    const sockets = [1, 2].map(() => exchangeOf('a', { status: 101 }))
    meter.answered(sockets[0] as Exchange)
    pass(4000)
    meter.answered(sockets[1] as Exchange)
    const batches = sealAll()
    pass(16_000)
    batches.push(...sealAll())
    t.match(sumOf(batches, 'a', '2026-03-01'), { websockets: 2, websocket_ms: 10_000 + 6000 })
    t.match(sumOf(batches, 'a', '2026-03-02'), { websocket_ms: 20_000 })
    pass(500)
    clock.nowMs += 3_600_000
    for (const socket of sockets) meter.finished(socket, 1e9)
    pass(60_000)
    batches.push(...sealAll())
    t.match(sumOf(batches, 'a', '2026-03-02'), { websocket_ms: 21_000, duration_ms: undefined })
    t.strictSame(sealAll(), [], 'nothing is open any more')
  },
)

t.test('users are named once a day up to the bound, and go into the sketch beyond it', async t => {
  const { meter, sealAll } = setUp({ usersExactMax: 5 })
  const come = (from: number, until: number) => {
    for (let i = from; i < until; i++) serve(meter, 'a', { principal: { sub: `u${i}` } })
  }
  come(0, 4)
  come(0, 4)
  t.equal(sealAll().flatMap(({ users }) => users).length, 4)
  come(0, 105)
  const [batch] = sealAll()
  t.strictSame(
    batch?.users.map(({ user_id }) => user_id),
    ['u4'],
  )
  const marks = batch?.sketches[0]?.marks.length ?? 0
  t.ok(marks > 90 && marks <= 100, 'the other hundred')
  come(0, 105)
  t.strictSame(sealAll()[0]?.sketches, [], 'who is known moves nothing')
  serve(meter, 'b', { status: 500, principal: { sub: 'nobody' } })
  t.strictSame(sealAll()[0]?.users, [], 'who was not served did not use anything')
})

t.test('a user id that a database cannot keep stands as its hash', async t => {
  const { meter, sealAll } = setUp()
  const odd = ['a\0b', '\ud800', 'x'.repeat(256), 'fine']
  for (const sub of [...odd, ...odd]) serve(meter, 'a', { principal: { sub } })
  const ids = sealAll().flatMap(({ users }) => users.map(({ user_id }) => user_id))
  t.equal(ids.length, 4)
  t.equal(ids.filter(id => /^sha256:[0-9a-f]{64}$/.test(id)).length, 3)
})

t.test('the app’s counters add up; a field that is none counts nothing and is noticed', async t => {
  const { meter, sealAll } = setUp({ limits: { counterNamesMax: 2 } })
  for (const appUsage of [
    'pdf_generated=2, emails=3',
    'emails=4,sms=1',
    'faxes=1',
    'emails=-1',
    'emails=1;a',
    'api_requests=9',
    'e=1, '.repeat(20),
  ]) {
    serve(meter, 'a', { appUsage })
  }
  serve(meter, 'a', { appUsage: 'emails=100', status: 503 })
  const batches = sealAll()
  t.match(sumOf(batches, 'a', '2026-03-01'), { pdf_generated: 2 })
  t.strictSame(
    batches.flatMap(({ counters }) => counters.map(({ name, value }) => [name, value])),
    [
      ['emails', 7],
      ['sms', 1],
    ],
  )
  t.match(meter.fieldProblems, { malformed: 2, reserved: 1, 'too-long': 1 })
  t.match(meter.lost, { counters: 1 })
})

t.test('bounds hold, are told, and count downward only', async t => {
  const { meter, sealAll, pass } = setUp({
    limits: { tenantsMax: 3, usersMax: 2, sketchesMax: 1, batchTenantsMax: 2, batchUsersMax: 1 },
  })
  for (const tenant of ['a', 'b', 'c', 'd', 'd']) {
    for (const sub of ['x', 'y', 'z']) serve(meter, tenant, { principal: { sub } })
  }
  t.equal(meter.lost.tenants, 6)
  t.equal(meter.lost.users, 6, 'of the two tenants without a sketch')
  const batches = sealAll()
  t.ok(batches.length > 2)
  t.strictSame(
    batches.map(({ sequence }) => sequence),
    batches.map((_, i) => i + 1),
  )
  for (const { days, users, sketches } of batches) {
    t.ok(days.length <= 2)
    t.ok(users.length + sketches.flatMap(({ marks }) => marks).length <= 1)
  }
  for (const tenant of ['a', 'b', 'c']) {
    t.match(sumOf(batches, tenant, '2026-03-01'), { responses_2xx: 3 })
  }
  t.strictSame(sumOf(batches, 'd', '2026-03-01'), {})
  pass(DAY_MS)
  serve(meter, 'd')
  t.match(sumOf(sealAll(), 'd', '2026-03-02'), { responses_2xx: 1 }, 'a new day has room again')
})

t.test('a batch has no more sketches than a statement takes in in time', async t => {
  const { meter, sealAll } = setUp({ usersExactMax: 0, limits: { batchSketchesMax: 3 } })
  for (let i = 0; i < 10; i++) serve(meter, `t${i}`, { principal: { sub: 'u' } })
  const batches = sealAll()
  for (const { sketches } of batches) t.ok(sketches.length <= 3)
  t.equal(new Set(batches.flatMap(({ sketches }) => sketches.map(s => s.tenant_id))).size, 10)
  t.equal(batches.flatMap(({ sketches }) => sketches).length, 10, 'each once')
})

t.test('days that could not be written are kept apart until they are', async t => {
  const { meter, pass, sealAll } = setUp()
  for (let day = 0; day < 3; day++) {
    for (let i = 0; i <= day; i++) serve(meter, 'a')
    pass(DAY_MS)
  }
  serve(meter, 'a')
  const batches = sealAll()
  const counts = [1, 2, 3, 4].map(day => sumOf(batches, 'a', `2026-03-0${day}`).responses_2xx)
  t.strictSame(counts, [1, 2, 3, 1])
})
