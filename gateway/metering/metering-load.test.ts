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
const REQUESTS = Number(process.env.METERING_LOAD_REQUESTS ?? 20_000)
const TENANTS = 7
const USERS = 40
const CONNECTIONS = 24

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

/** Two gateways of two workers each, whose Registry fails on demand. */
async function start(env: Record<string, string>) {
  const app = await startCountingApp(tenants.map(({ id }) => id))
  const options = {
    ...world.env,
    APP_UPSTREAMS: app.origin,
    TENANT_REGISTRY_DB_URL: world.registryUrl.replace(`:${port}/`, `:${link.port}/`),
    REGISTRY_QUERY_TIMEOUT_MS: '500',
    GATEWAY_WORKERS: '2',
    METERING_FLUSH_MS: '200',
    ACCESS_LOG_PERCENT: '0',
    TENANT_CACHE_TTL_MS: '3600000',
    ...env,
  }
  const gateways = await Promise.all([startGateway(options), startGateway(options)])
  for (const gateway of gateways) {
    await until(async () => /^doorman_workers_ready 2$/m.test(await metricsOf(gateway)))
  }
  const ports = gateways.map(gateway => gateway.port)
  const { counted } = app
  const load = (requests: number) =>
    runLoad({ ports, connections: CONNECTIONS, requests, of, counted })
  return { app, gateways, load, ports }
}

const metricsOf = async (gateway: RunningGateway) =>
  (await fetch(`${gateway.internalUrl}/metrics`)).text()

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

const forget = () =>
  registry.query('TRUNCATE customer_usage_daily, customer_usage_counters, user_activity_daily')

const sum = (counted: ReadonlyMap<string, Counted>, name: keyof Counted) =>
  [...counted.values()].reduce((all, one) => all + one[name], 0)

/** What goes wrong with the Registry, again and again, until `stop`. */
function startFaults(): { stop(): Promise<void>; rounds: number } {
  const state = { isStopped: false, rounds: 0 }
  const work = async () => {
    while (!state.isStopped) {
      // Committed, and the answer never comes.
      link.set({ stallAnswers: true })
      await delay(700)
      link.resetAll()
      link.set({ stallAnswers: false })
      await delay(300)
      link.cut()
      await delay(300)
      await link.restore()
      await delay(500)
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
    const { app, gateways, load } = await start({})
    t.teardown(async () => {
      app.close()
      for (const gateway of gateways) gateway.child.kill('SIGKILL')
    })
    const faults = startFaults()
    const startedAt = performance.now()
    let isOver = false
    const rolling = (async () => {
      while (!isOver) {
        for (const gateway of gateways) {
          gateway.child.kill('SIGHUP')
          await Promise.race([delay(4000), until(() => isOver, 4500).catch(() => {})])
        }
      }
    })()
    const result = await load(REQUESTS)
    isOver = true
    const tookS = (performance.now() - startedAt) / 1000
    await faults.stop()
    await rolling
    for (const gateway of gateways) t.equal(await gateway.stop(), 0)
    const rolled = gateways.flatMap(({ log }) =>
      log.filter(({ msg }) => msg === 'rolling restart done'),
    )
    t.comment(
      `${result.answered} answers in ${tookS.toFixed(1)} s, ${result.unanswered} connections ended without one, ` +
        `${faults.rounds} rounds of faults, ${rolled.length} rolling restarts`,
    )
    t.ok(faults.rounds > 0)
    const books = await billed()
    for (const [tenant, { app: answered, client, emails }] of app.counted) {
      t.match(books.get(tenant), { requests: answered, emails, people: USERS })
      if (result.unanswered === 0) t.equal(client, answered)
    }
    t.comment(`${sum(app.counted, 'app')} below 500, and as many are in the Registry`)
  },
)

t.test('with a journal no request is lost by SIGKILL, and none counts twice', async t => {
  await forget()
  const { app, gateways, load } = await start({ METERING_JOURNAL_DIR: dir })
  t.teardown(async () => {
    app.close()
    for (const gateway of gateways) gateway.child.kill('SIGKILL')
  })
  const faults = startFaults()
  let isOver = false
  let kills = 0
  const killing = (async () => {
    while (!isOver) {
      await delay(1200)
      const pids = workersOf(gateways[kills % 2] as RunningGateway)
      const pid = pids[kills % pids.length]
      if (pid === undefined || isOver) continue
      process.kill(pid, 'SIGKILL')
      kills++
    }
  })()
  const result = await load(Math.ceil(REQUESTS / 3))
  isOver = true
  await killing
  await faults.stop()
  await until(async () => {
    const counts = await Promise.all(gateways.map(metricsOf))
    return counts.every(text => /^doorman_workers_ready 2$/m.test(text))
  }, 20_000)
  for (const gateway of gateways) t.equal(await gateway.stop(), 0)
  // Whoever starts next brings in what is left.
  const last = await startGateway({
    ...world.env,
    APP_UPSTREAMS: app.origin,
    METERING_JOURNAL_DIR: dir,
  })
  await until(async () => (await readdir(dir)).length === 0, 20_000)
  t.equal(await last.stop(), 0)
  const books = await billed()
  let between = 0
  for (const [tenant, { app: answered, client, emails }] of app.counted) {
    const { requests = 0, emails: counted = 0, people } = books.get(tenant) ?? {}
    t.ok(requests >= client, `${requests} for ${client} that clients have read`)
    t.ok(requests <= answered, `${requests} for ${answered} that the app has answered`)
    t.ok(counted <= emails)
    t.equal(people, USERS)
    between += answered - client
  }
  t.ok(kills > 0)
  t.ok(between <= result.unanswered, 'the two differ by what was under way at a kill')
  t.comment(
    `${result.answered} answers, ${kills} kills, ${result.unanswered} connections ended without an answer: ` +
      `${sum(app.counted, 'client')} read, ${[...books.values()].reduce((all, { requests }) => all + requests, 0)} counted, ` +
      `${sum(app.counted, 'app')} answered by the app`,
  )
})
