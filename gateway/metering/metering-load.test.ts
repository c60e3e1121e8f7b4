import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import { startFaultProxy } from '../../registry/fault-proxy.ts'
import { type RunningGateway, startGateway, startWorld, until } from '../test-kit.ts'
import { type Counted, runLoad, startCountingApp } from './test-kit.ts'

/** `npm run bench -- metering` runs this file with a million. */
const REQUESTS = Number(process.env.METERING_LOAD_REQUESTS ?? 12_000)
const TENANTS = 7
const USERS = 40
const CONNECTIONS = 24
const KILLS_MAX = Math.ceil(REQUESTS / 6000)
/** A multiple of all tenants' users. */
const PIECE = 2800

t.setTimeout(Math.max(120_000, REQUESTS * 2))

const world = await startWorld()
t.teardown(world.close)
const registry = new pg.Client({ connectionString: world.registryUrl })
registry.on('error', () => {})
await registry.connect()
t.teardown(() => registry.end())
const dir = await mkdtemp(join(tmpdir(), 'doorman-metering-'))
t.teardown(() => rm(dir, { recursive: true, force: true }))
const port = world.postgres.port
const link = await startFaultProxy({ host: '127.0.0.1', port })
t.teardown(() => link.stop())

const tenants = await Promise.all(
  Array.from({ length: TENANTS }, (_, i) => world.createTenant(`load-${i}`)),
)
const users = tenants.map(tenant =>
  Array.from({ length: USERS }, (_, i) =>
    world.token(tenant, { id: `user-${i}`, exp: nowS() + 7200 }),
  ),
)
const of = (i: number) => ({
  tenant: tenants[i % TENANTS]?.id as string,
  token: users[i % TENANTS]?.[((i / TENANTS) | 0) % USERS] as string,
})

function nowS(): number {
  return Math.floor(Date.now() / 1000)
}

const app = await startCountingApp(tenants.map(({ id }) => id))
t.teardown(() => app.close())
const { counted } = app
const options = {
  ...world.env,
  APP_UPSTREAMS: app.origin,
  TENANT_REGISTRY_DB_URL: world.registryUrl.replace(`:${port}/`, `:${link.port}/`),
  REGISTRY_QUERY_TIMEOUT_MS: '500',
  GATEWAY_WORKERS: '2',
  METERING_FLUSH_MS: '200',
  ACCESS_LOG_PERCENT: '0',
  TENANT_CACHE_TTL_MS: '3600000',
}
/** Of two workers each, whose Registry fails on demand; the second one with a journal. */
const gateways = await Promise.all([
  startGateway(options),
  startGateway({ ...options, METERING_JOURNAL_DIR: dir }),
])
t.teardown(() => {
  for (const gateway of gateways) gateway.child.kill('SIGKILL')
})
await allReady()

/** In pieces, at least `requests`, and until `isEnough`: a fast machine is done before anything goes wrong. */
async function load(requests: number, isEnough: () => boolean) {
  const sum = { answered: 0, unanswered: 0 }
  const ports = gateways.map(gateway => gateway.port)
  for (let sent = 0; sent < requests || !isEnough(); sent += PIECE) {
    const piece = { ports, connections: CONNECTIONS, requests: PIECE, of, counted }
    const { answered, unanswered } = await runLoad(piece)
    sum.answered += answered
    sum.unanswered += unanswered
  }
  return sum
}

async function allReady(): Promise<void> {
  await until(async () => {
    const texts = await Promise.all(gateways.map(metricsOf))
    return texts.every(text => /^doorman_workers_ready 2$/m.test(text))
  }, 30_000)
}

async function metricsOf(gateway: RunningGateway): Promise<string> {
  return (await fetch(`${gateway.internalUrl}/metrics`)).text()
}

/** Process ids of the workers, by what their primary says of them. */
function workersOf(gateway: RunningGateway): readonly number[] {
  const pids = new Set<number>()
  for (const { msg, worker_pid: pid } of gateway.log) {
    if (msg === 'worker started') pids.add(pid as number)
    if (msg === 'worker ended' || msg === 'worker stopped') pids.delete(pid as number)
  }
  return [...pids]
}

interface Billed {
  readonly requests: number
  readonly emails: number
  readonly people: number
}

async function billed(): Promise<ReadonlyMap<string, Billed>> {
  const { rows } = await registry.query(`
    SELECT tenant_id, sum(api_requests) AS requests, max(active_users) AS people,
      (SELECT coalesce(sum(value), 0) FROM customer_usage_counters AS c
        WHERE c.tenant_id = d.tenant_id AND name = 'emails') AS emails
    FROM customer_usage_daily AS d GROUP BY tenant_id`)
  return new Map(
    rows.map(({ tenant_id, requests, emails, people }) => [
      tenant_id,
      { requests: Number(requests), emails: Number(emails), people: Number(people) },
    ]),
  )
}

const sum = (counted: ReadonlyMap<string, Counted>, name: keyof Counted) =>
  [...counted.values()].reduce((all, one) => all + one[name], 0)

/** What goes wrong with the Registry, again and again, until `stop`. */
function startFaults(): { stop(): Promise<void>; rounds: number } {
  const state = { isStopped: false, rounds: 0 }
  const work = async () => {
    while (!state.isStopped) {
      // Committed, and the answer never comes.
      link.set({ stallAnswers: true })
      await delay(400)
      link.resetAll()
      link.set({ stallAnswers: false })
      await delay(600)
      link.cut()
      await delay(200)
      await link.restore()
      await delay(600)
      state.rounds++
    }
  }
  const working = work()
  return {
    get rounds() {
      return state.rounds
    },
    async stop() {
      state.isStopped = true
      await working
    },
  }
}

t.test(
  'every request counts once through rolling restarts, a Registry that is cut off, and lost answers',
  async t => {
    const faults = startFaults()
    const startedAt = performance.now()
    let isOver = false
    const rolling = (async () => {
      for (let turn = 0; !isOver; turn++) {
        gateways[turn % 2]?.child.kill('SIGHUP')
        await until(() => isOver, 6000).catch(() => {})
      }
    })()
    /** Workers that have drained and ended, with others in their place. */
    const rolled = () =>
      gateways.flatMap(({ log }) => log.filter(({ msg }) => msg === 'worker stopped')).length
    const result = await load(REQUESTS, () => faults.rounds > 0 && rolled() > 0)
    isOver = true
    const tookS = (performance.now() - startedAt) / 1000
    await faults.stop()
    await rolling
    t.comment(
      `${result.answered} answers in ${tookS.toFixed(1)} s, ${result.unanswered} connections ended without one, ` +
        `${faults.rounds} rounds of faults, ${rolled()} workers replaced`,
    )
    t.ok(faults.rounds > 0)
    const requestsOf = (books: Awaited<ReturnType<typeof billed>>) =>
      [...books.values()].reduce((all, { requests }) => all + requests, 0)
    await until(async () => requestsOf(await billed()) >= sum(counted, 'app'), 20_000)
    const books = await billed()
    for (const [tenant, { app: answered, client, emails }] of counted) {
      t.match(books.get(tenant), { requests: answered, emails, people: USERS })
      if (result.unanswered === 0) t.equal(client, answered)
    }
    t.comment(`${sum(counted, 'app')} below 500, and as many are in the Registry`)
  },
)

t.test('with a journal no request is lost by SIGKILL, and none counts twice', async t => {
  // What is rolling still is over by then.
  await allReady()
  const faults = startFaults()
  const [, journalling] = gateways
  let isOver = false
  let kills = 0
  const killing = (async () => {
    // Many in a row make the primary wait longer each time.
    while (!isOver && kills < KILLS_MAX) {
      await delay(600)
      const pids = workersOf(journalling as RunningGateway)
      const pid = pids[kills % pids.length]
      // One is always there to answer, however long the primary waits for the other.
      if (pid === undefined || pids.length < 2 || isOver) continue
      process.kill(pid, 'SIGKILL')
      kills++
    }
  })()
  const result = await load(REQUESTS / 3, () => kills > 0)
  isOver = true
  await killing
  await faults.stop()
  await allReady()
  t.strictSame(await Promise.all(gateways.map(gateway => gateway.stop())), [0, 0])
  if ((await readdir(dir)).length > 0) {
    // Whoever starts next brings in what is left.
    const last = await startGateway({ ...options, METERING_JOURNAL_DIR: dir })
    await until(async () => (await readdir(dir)).length === 0, 20_000)
    t.equal(await last.stop(), 0)
  }
  const books = await billed()
  let between = 0
  let requests = 0
  for (const [tenant, { app: answered, client, emails }] of counted) {
    const own = books.get(tenant) ?? { requests: 0, emails: 0, people: 0 }
    t.ok(own.requests >= client, `${own.requests} for ${client} that clients have read`)
    t.ok(own.requests <= answered, `${own.requests} for ${answered} that the app has answered`)
    t.ok(own.emails <= emails)
    t.equal(own.people, USERS)
    between += answered - client
    requests += own.requests
  }
  t.ok(kills > 0)
  t.ok(between <= result.unanswered, 'the two differ by what was under way at a kill')
  t.comment(
    `${result.answered} answers more, ${kills} kills, ${result.unanswered} connections ended without an answer: ` +
      `${sum(counted, 'client')} read, ${requests} counted, ${sum(counted, 'app')} answered by the app`,
  )
})
