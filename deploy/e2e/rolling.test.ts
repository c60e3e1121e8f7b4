import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { until } from '../../gateway/test-kit.ts'
import { call } from './call.ts'
import { startLoad } from './load.ts'
import { type Binary, startWorld, type WorldTenant } from './test-kit.ts'

const HEALTH_MS = 100
const world = await startWorld({
  apps: 3,
  appEnv: { DRAIN_NOTICE_MS: '500' },
  gatewayEnv: { DRAIN_NOTICE_MS: '300', HEALTH_INTERVAL_MS: String(HEALTH_MS) },
})
t.teardown(world.close)
const { acme, globex } = world
const tokens = new Map([
  [acme, (await world.login(acme)).accessToken],
  [globex, (await world.login(globex)).accessToken],
])
const gateways = [world.gateway, await world.startGateway()] as [Binary, Binary]
const apps = [...world.apps]

t.test('a rolling restart of all gateways and apps under load loses no request', async t => {
  const balancer = startBalancer()
  t.teardown(balancer.stop)
  const run = randomUUID()
  const made = new Map<WorldTenant, string[]>([
    [acme, []],
    [globex, []],
  ])
  let n = 0
  const lanes = Array.from({ length: 6 }, (_, i) => {
    const tenant = i % 2 === 0 ? acme : globex
    const send = makeSender(balancer.next)
    return startLoad(1, async () => {
      const token = String(tokens.get(tenant))
      const name = `${run} ${n++}`
      const isPost = n % 3 === 0
      const answer = isPost
        ? await send('POST', '/api/projects', token, { name })
        : await send('GET', '/api/whoami', token)
      if (isPost && answer.status === 201) made.get(tenant)?.push(name)
      if (answer.status !== (isPost ? 201 : 200)) return `${answer.status} ${answer.text}`
      return isPost || answer.text.includes(`"${tenant.database}"`) ? null : answer.text
    })
  })
  const done = () => Math.min(...lanes.map(lane => lane.done))
  await until(() => done() >= 20)

  for (const i of apps.keys()) {
    const app = apps[i] as Binary
    const before = done()
    t.ok((await exitOf(app, t)) < 30_000, `app ${i}`)
    apps[i] = await again(PORT => world.startApp({ PORT }), app)
    await until(() => done() >= before + 20, 10_000)
  }
  for (const i of [0, 1] as const) {
    const before = done()
    t.ok((await exitOf(gateways[i], t)) < 30_000, `gateway ${i}`)
    gateways[i] = await again(PORT => world.startGateway({ PORT }), gateways[i])
    await until(() => done() >= before + 20, 10_000)
  }
  await Promise.all(lanes.map(lane => lane.stop()))

  t.strictSame(
    lanes.flatMap(({ failures }) => failures),
    [],
  )
  for (const [tenant, names] of made) {
    t.ok(names.length > 20, `${names.length} POSTs of ${tenant.key}`)
    const rows = await world.sql(
      tenant.database,
      'SELECT name FROM projects WHERE name LIKE $1 ORDER BY name',
      [`${run}%`],
    )
    t.strictSame(
      rows.map(({ name }) => name),
      names.sort(),
      'each was executed exactly once',
    )
  }
})

t.test('an app and a gateway that leave close WebSockets with 1001, and end streams', async t => {
  for (const leaving of ['app', 'gateway'] as const) {
    // Of its own, so that what stays open can be on no other replica.
    const app = await world.startApp()
    const gateway = await world.startGateway({ APP_UPSTREAMS: app.origin })
    const token = String(tokens.get(acme))
    const socket = new WebSocket(`${gateway.origin.replace('http', 'ws')}/api/ws`, {
      headers: { authorization: `Bearer ${token}` },
    })
    await once(socket, 'message')
    const closed = once(socket, 'close')
    const events = await openEvents(gateway.origin, token)
    t.equal(await gaugeOf(gateway, 'doorman_open_sockets'), 2)
    t.ok((await exitOf(leaving === 'app' ? app : gateway, t)) < 30_000, leaving)
    t.equal((await closed)[0], 1001, `of the ${leaving}`)
    t.equal(await events.end, 'a whole body', `of the ${leaving}`)
    if (leaving === 'app')
      await until(async () => (await gaugeOf(gateway, 'doorman_open_sockets')) === 0)
    else await until(async () => (await gaugeOf(app, 'doorman_app_streams{kind="ws"}')) === 0, 2000)
  }
})

/** Sends new connections to the gateways that say they are ready, as any balancer does. */
function startBalancer() {
  let ready: readonly Binary[] = gateways
  let turn = 0
  let isStopped = false
  const look = async () => {
    while (!isStopped) {
      const answers = await Promise.all(
        gateways.map(({ adminOrigin }) =>
          call(adminOrigin, '/readyz', { timeoutMs: 1000 }).catch(() => null),
        ),
      )
      ready = gateways.filter((_, i) => answers[i]?.status === 200)
      await new Promise(resolve => setTimeout(resolve, HEALTH_MS / 2))
    }
  }
  const looking = look()
  return {
    /** @param refused the one that has just refused a connection */
    next(refused: string | null): string {
      turn++
      const origins = ready.map(({ origin }) => origin).filter(origin => origin !== refused)
      return origins[turn % origins.length] ?? gateways[turn % 2]?.origin ?? ''
    },
    stop() {
      isStopped = true
      return looking
    },
  }
}

/** A client that keeps its connection for some requests, and tries again only where it was refused. */
function makeSender(next: (refused: string | null) => string) {
  let agent = new Agent({ keepAlive: true, maxSockets: 1 })
  let origin = next(null)
  let left = 25
  const attempt = (method: string, path: string, token: string, body: string | undefined) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const req = request(`${origin}${path}`, {
        method,
        agent,
        signal: AbortSignal.timeout(15_000),
        headers: {
          authorization: `Bearer ${token}`,
          ...(body !== undefined && {
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(body),
          }),
        },
      })
      req.on('error', reject)
      req.on('response', async res => {
        try {
          let text = ''
          for await (const chunk of res.setEncoding('utf8')) text += chunk
          if (res.headers.connection === 'close') origin = next(null)
          resolve({ status: res.statusCode ?? 0, text })
        } catch (error) {
          reject(error)
        }
      })
      req.end(body)
    })
  return async (method: string, path: string, token: string, json?: unknown) => {
    const body = json === undefined ? undefined : JSON.stringify(json)
    if (left-- === 0) {
      agent.destroy()
      agent = new Agent({ keepAlive: true, maxSockets: 1 })
      origin = next(null)
      left = 25
    }
    const deadline = Date.now() + 5000
    for (;;) {
      try {
        return await attempt(method, path, token, body)
      } catch (error) {
        const isRefused = (error as NodeJS.ErrnoException).code === 'ECONNREFUSED'
        if (!isRefused || Date.now() > deadline) throw error
        origin = next(origin)
      }
    }
  }
}

/** SIGTERM; how long the process took to end in order. */
async function exitOf(binary: Binary, t: Test): Promise<number> {
  const startedAt = performance.now()
  process.kill(binary.pid, 'SIGTERM')
  t.match(await binary.exited, 'exit code 0')
  const tookMs = performance.now() - startedAt
  t.comment(`${Math.round(tookMs)} ms`)
  return tookMs
}

/** On the same port: another process may hold it for the moment of one connect of its own. */
async function again(start: (port: string) => Promise<Binary>, { port }: Binary): Promise<Binary> {
  const deadline = Date.now() + 5000
  for (;;) {
    try {
      return await start(String(port))
    } catch (error) {
      if (Date.now() > deadline) throw error
    }
  }
}

async function openEvents(origin: string, token: string) {
  const req = request(`${origin}/api/events`, {
    agent: false,
    headers: { authorization: `Bearer ${token}` },
  }).end()
  const [res] = (await once(req, 'response')) as [IncomingMessage]
  const end = new Promise<string>(resolve => {
    res.on('error', () => resolve('broken off'))
    res.on('end', () => resolve('a whole body'))
  })
  await once(res, 'data')
  res.resume()
  return { end }
}

async function gaugeOf({ adminOrigin }: Binary, series: string): Promise<number> {
  const { text } = await call(adminOrigin, '/metrics')
  const line = text.split('\n').find(candidate => candidate.startsWith(`${series} `))
  return Number(line?.slice(series.length) ?? 0)
}
