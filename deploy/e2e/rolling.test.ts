import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import t from 'tap'
import { WebSocket } from 'ws'
import { until } from '../../gateway/test-kit.ts'
import { again, exitOf, makeSender, startBalancer } from './balancer.ts'
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
  const balancer = startBalancer(gateways, HEALTH_MS / 2)
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
