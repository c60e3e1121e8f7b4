import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { Agent, type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { run } from '../deploy/local/run.ts'
import { DEFAULT_ROUTES } from './route.ts'
import { type RunningGateway, startGateway, startUpstream, startWorld, until } from './test-kit.ts'

const ROOT = join(import.meta.dirname, '..')
const START_MS = 20_000
const LOAD_CLIENTS = 16

t.test('a bad number of workers is one of the problems of the environment', async t => {
  const { code, output } = await run(
    process.execPath,
    ['gateway/main.ts', '--workers', 'many'],
    START_MS,
    { cwd: ROOT, env: { PORT: 'http' } },
  )
  t.equal(code, 1)
  t.match(output, /- GATEWAY_WORKERS must be auto or a whole number/)
  t.match(output, /- PORT /)
  t.notMatch(output, / at .*\.ts/)
})

t.test('two workers are one gateway', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const answerAtOnce = upstream.respond
  const tenant = await world.createTenant('acme')
  const routesFile = join(t.testdir({ 'routes.json': '' }), 'routes.json')
  writeFileSync(routesFile, JSON.stringify({ routes: DEFAULT_ROUTES }))
  const env = {
    ...world.env,
    APP_UPSTREAMS: upstream.origin,
    GATEWAY_WORKERS: '2',
    ROUTES_FILE: routesFile,
  }
  const headers = { authorization: `Bearer ${world.token(tenant)}` }
  const running: RunningGateway[] = []
  t.teardown(async () => {
    upstream.close()
    for (const gateway of running) gateway.child.kill('SIGKILL')
    await world.close()
  })
  const start = async () => {
    const gateway = await startGateway(env)
    running.push(gateway)
    await until(async () => (await metric(gateway, 'doorman_workers_ready')) === 2)
    return gateway
  }
  /** Rejects where no whole answer comes. */
  const get = (gateway: RunningGateway, agent: Agent | false = false, id = randomUUID()) =>
    new Promise<IncomingMessage>((resolve, reject) => {
      const options = { agent, headers: { ...headers, 'x-request-id': id }, timeout: 10_000 }
      const req = request(`${gateway.url}/api/x`, options, res => {
        res.on('error', reject)
        res.resume().on('end', () => resolve(res))
      })
      req.on('error', reject)
      req.on('timeout', () => req.destroy(new Error('no answer in time')))
      req.end()
    })
  const getMany = async (gateway: RunningGateway, count: number) => {
    const answers = await Promise.all(Array.from({ length: count }, () => get(gateway)))
    return answers.filter(({ statusCode }) => statusCode === 200).length
  }
  /** Requests that wait at the upstream for `release`, at least one at each worker. */
  const hold = async (gateway: RunningGateway) => {
    const held: (() => void)[] = []
    upstream.respond = (_, res) => held.push(() => res.end('late'))
    const answers: Promise<IncomingMessage>[] = []
    // One after the other they go to the workers by turns.
    for (let i = 1; i <= 4; i++) {
      const answer = get(gateway)
      answer.catch(() => {})
      answers.push(answer)
      await until(() => held.length === i)
    }
    return {
      answers,
      release() {
        upstream.respond = answerAtOnce
        for (const answer of held) answer()
      },
    }
  }

  const gateway = await start()

  await t.test('the metrics of all workers add up to what was sent', async t => {
    // One after the other they go to the workers by turns; then many at once.
    for (let i = 0; i < 4; i++) await get(gateway)
    t.equal(await getMany(gateway, 36), 36)
    t.equal(await metric(gateway, 'doorman_requests_total'), 40)
    t.equal(await metric(gateway, 'doorman_request_seconds_count'), 40)
    t.equal(await metric(gateway, 'doorman_requests_in_flight'), 0)
    t.equal(await metric(gateway, 'doorman_registry_listener_healthy'), 1)
    // A process of the cluster says of each line who wrote it.
    await until(() => requestsIn(gateway).length === 40)
    t.strictSame(new Set(requestsIn(gateway).map(({ worker }) => worker)), new Set([1, 2]))
    t.equal(gateway.log.find(({ msg }) => msg === 'listening')?.primary, true)
  })

  await t.test('a worker that hangs does not keep a scrape waiting', async t => {
    const [pid = 0] = pidsOf(gateway)
    process.kill(pid, 'SIGSTOP')
    const began = performance.now()
    t.equal(await metric(gateway, 'doorman_requests_total'), 40)
    t.ok(performance.now() - began < 5000)
    process.kill(pid, 'SIGCONT')
  })

  await t.test('a killed worker is replaced, the other serves on, no count is lost', async t => {
    const before = pidsOf(gateway)
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    t.teardown(() => agent.destroy())
    const id = randomUUID()
    await get(gateway, agent, id)
    const isAtWorker = () => requestsIn(gateway).find(entry => entry.request_id === id)?.worker
    await until(() => isAtWorker() !== undefined)
    const other = gateway.log.find(
      ({ msg, worker }) => msg === 'worker started' && worker !== isAtWorker(),
    )
    t.equal(await metric(gateway, 'doorman_requests_total'), 41)

    process.kill(other?.worker_pid as number, 'SIGKILL')
    await until(() => gateway.log.some(({ msg }) => msg === 'worker ended'))
    t.equal((await get(gateway, agent)).statusCode, 200, 'on the connection that was open')
    t.equal(await getMany(gateway, 9), 9, 'on new connections')
    t.equal(await metric(gateway, 'doorman_requests_total'), 51)
    t.equal((await fetch(`${gateway.internalUrl}/readyz`)).status, 200)

    await until(async () => (await metric(gateway, 'doorman_workers_ready')) === 2)
    const after = pidsOf(gateway)
    t.equal(after.length, 2)
    t.equal(after.filter(pid => before.includes(pid)).length, 1)
    t.equal(await metric(gateway, 'doorman_worker_ends_total'), 1)
    t.equal(await metric(gateway, 'doorman_requests_total'), 51)
  })

  await t.test('SIGHUP under load replaces every worker, and no request fails', async t => {
    const before = pidsOf(gateway)
    const counted = await metric(gateway, 'doorman_requests_total')
    const agent = new Agent({ keepAlive: true, maxSockets: LOAD_CLIENTS })
    t.teardown(() => agent.destroy())
    let isOver = false
    const statuses = new Map<number | string, number>()
    const client = async (use: Agent | false) => {
      while (!isOver) {
        const outcome = await get(gateway, use).then(
          ({ statusCode = 0 }) => statusCode,
          error => String(error),
        )
        statuses.set(outcome, (statuses.get(outcome) ?? 0) + 1)
      }
    }
    // Connections that stay, and some that are made for each request.
    const clients = Array.from({ length: LOAD_CLIENTS }, (_, i) => client(i < 12 ? agent : false))
    gateway.child.kill('SIGHUP')
    await until(() => gateway.log.some(({ msg }) => msg === 'rolling restart done'), START_MS)
    isOver = true
    await Promise.all(clients)
    const sent = [...statuses.values()].reduce((sum, count) => sum + count, 0)
    t.strictSame([...statuses.keys()], [200])
    t.ok(sent > 100, `${sent} requests`)
    const after = pidsOf(gateway)
    t.equal(after.length, 2)
    t.strictSame(
      after.filter(pid => before.includes(pid)),
      [],
    )
    t.equal(await metric(gateway, 'doorman_requests_total'), counted + sent)
  })

  await t.test('SIGHUP with a broken file keeps the workers that serve', async t => {
    const before = pidsOf(gateway)
    writeFileSync(routesFile, '{')
    gateway.child.kill('SIGHUP')
    const stopped = () =>
      gateway.log.find(({ msg }) => String(msg).startsWith('rolling restart stopped'))
    await until(() => stopped() !== undefined && pidsOf(gateway).length === 2)
    writeFileSync(routesFile, JSON.stringify({ routes: DEFAULT_ROUTES }))
    t.match(stopped()?.reason, /ROUTES_FILE/)
    t.strictSame(pidsOf(gateway), before)
    t.equal(await getMany(gateway, 4), 4)
  })

  await t.test('SIGTERM lets requests in flight end in all workers', async t => {
    const pids = pidsOf(gateway)
    const { answers, release } = await hold(gateway)
    const exited = gateway.stop('SIGTERM')
    await until(async () => (await fetch(`${gateway.internalUrl}/readyz`)).status === 503)
    const readyz = await (await fetch(`${gateway.internalUrl}/readyz`)).json()
    t.match(readyz, { reason: 'draining' })
    await until(() => isRefused(gateway.port))
    release()
    for (const answer of answers) {
      t.match(await answer, { statusCode: 200, headers: { connection: 'close' } })
    }
    t.equal(await exited, 0)
    t.strictSame(pids.filter(isAlive), [])
  })

  await t.test('a killed primary leaves no worker behind, and cuts no request', async t => {
    const gateway = await start()
    const pids = pidsOf(gateway)
    t.equal(pids.filter(isAlive).length, 2)
    const { answers, release } = await hold(gateway)
    gateway.child.kill('SIGKILL')
    await gateway.exited
    await until(() => isRefused(gateway.port))
    release()
    for (const answer of answers) t.equal((await answer).statusCode, 200)
    await until(() => !pids.some(isAlive))
  })

  await t.test('a wrong master key is one message and the end of all', async t => {
    const { code, output } = await run(
      process.execPath,
      ['gateway/main.ts', '--workers', '2'],
      START_MS,
      {
        cwd: ROOT,
        env: {
          ...env,
          GATEWAY_WORKERS: '1',
          MASTER_ENCRYPTION_KEY: randomBytes(32).toString('hex'),
        },
      },
    )
    t.equal(code, 1)
    t.equal(output.split('MASTER_ENCRYPTION_KEY is not the key').length - 1, 1)
    t.notMatch(output, / at .*\.ts/)
    const pids = [...output.matchAll(/"worker_pid":(\d+)/g)].map(([, pid]) => Number(pid))
    t.equal(new Set(pids).size, 2)
    await until(() => !pids.some(isAlive))
  })

  await t.test('without its Registry a new worker stays away from those that serve', async t => {
    const gateway = await start()
    const [first = 0, second = 0] = pidsOf(gateway)
    // By turns: both know the tenant then.
    for (let i = 0; i < 4; i++) await get(gateway)
    await world.postgres.stop('immediate')
    process.kill(first, 'SIGKILL')
    const isTrying = () => {
      const [newest] = gateway.log.filter(({ msg }) => msg === 'worker started').slice(-1)
      return gateway.log.some(
        ({ worker, msg }) => worker === newest?.worker && msg === 'Registry not reached',
      )
    }
    await until(() => pidsOf(gateway).length === 2 && isTrying())
    t.equal(await getMany(gateway, 20), 20, 'all from the cache of the other')
    t.equal(await metric(gateway, 'doorman_workers_ready'), 1)

    process.kill(second, 'SIGKILL')
    await until(() => gateway.log.filter(({ msg }) => msg === 'worker ended').length === 2)
    // Refused only until the one that waits has heard that it is alone.
    await until(async () => !(await isRefused(gateway.port)))
    const { statusCode, headers } = await get(gateway)
    t.equal(statusCode, 503)
    t.match(headers['retry-after'], /^\d+$/)
    const readyz = await fetch(`${gateway.internalUrl}/readyz`)
    t.equal(readyz.status, 503)
    t.match(await readyz.json(), { reason: 'the Registry was not reached yet' })
    t.equal(await gateway.stop(), 0)
  })
})

/** A metric's value, all its label sets added up. */
async function metric(gateway: RunningGateway, name: string): Promise<number> {
  const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
  const values = [...text.matchAll(new RegExp(`^${name}(?:{[^}]*})? (\\S+)$`, 'gm'))]
  if (values.length === 0) throw new Error(`no ${name} in the metrics`)
  return values.reduce((sum, [, value]) => sum + Number(value), 0)
}

function requestsIn(gateway: RunningGateway): readonly Record<string, unknown>[] {
  return gateway.log.filter(({ msg }) => msg === 'request')
}

/** The workers that run, by the primary's log. */
function pidsOf(gateway: RunningGateway): number[] {
  const pids = new Set<number>()
  for (const { msg, worker_pid: pid, primary } of gateway.log) {
    if (primary !== true) continue
    if (msg === 'worker started') pids.add(pid as number)
    if (msg === 'worker ended' || msg === 'worker stopped') pids.delete(pid as number)
  }
  return [...pids]
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

async function isRefused(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const outcome = await once(socket, 'connect').catch((error: NodeJS.ErrnoException) => error)
  socket.destroy()
  return 'code' in outcome && outcome.code === 'ECONNREFUSED'
}
