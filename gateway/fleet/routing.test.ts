import { Client } from 'pg'
import t from 'tap'
import { type RunningGateway, startGateway, startUpstream, startWorld, until } from '../test-kit.ts'

t.test('a fleet of four replicas behind a real gateway', async t => {
  const world = await startWorld()
  const upstreams = await Promise.all(Array.from({ length: 4 }, () => startUpstream()))
  const gateway: RunningGateway = await startGateway({
    ...world.env,
    APP_UPSTREAMS: upstreams.map(({ origin }) => origin).join(','),
    HEALTH_PATH: '/readyz',
    HEALTH_INTERVAL_MS: '100',
    REPLICA_SLOW_START_MS: '0',
    UPSTREAM_CONNECTIONS_MAX: '10',
    UPSTREAM_HEAD_TIMEOUT_MS: '5000',
  })
  t.teardown(async () => {
    await gateway.stop()
    for (const upstream of upstreams) upstream.close()
    await world.close()
  })
  const tenants = await Promise.all(
    Array.from({ length: 12 }, (_, i) => world.createTenant(`tenant-${i}`)),
  )
  const get = (tenant: (typeof tenants)[number], path = '/api/x', init: RequestInit = {}) =>
    fetch(gateway.url + path, {
      ...init,
      headers: { authorization: `Bearer ${world.token(tenant)}` },
    })
  const clear = () => {
    for (const { requests } of upstreams) requests.length = 0
  }
  const servedBy = () => upstreams.filter(({ requests }) => requests.length > 0)
  const first = tenants[0] as (typeof tenants)[number]
  const homeOf = async (tenant = first) => {
    clear()
    await (await get(tenant)).arrayBuffer()
    return servedBy()[0] as (typeof upstreams)[number]
  }

  await t.test('a tenant reaches two replicas at most, and the same ones each time', async t => {
    let pairs = 0
    for (const tenant of tenants) {
      clear()
      await Promise.all(Array.from({ length: 12 }, async () => (await get(tenant)).arrayBuffer()))
      t.ok(servedBy().length <= 2, `${servedBy().length} replicas`)
      pairs += servedBy().length
    }
    t.ok(pairs > tenants.length, 'load spills to the second')
    t.ok(new Set(await Promise.all([homeOf()])).size === 1)
  })

  await t.test('a replica that is not ready is left at once, without a failed request', async t => {
    const home = await homeOf()
    home.isReady = false
    await until(() => gateway.log.some(line => line.msg === 'replica is not ready'))
    t.not(await homeOf(), home)
    home.isReady = true
    await until(async () => (await homeOf()) === home)
  })

  await t.test('a request that was not sent goes to the other replica of the two', async t => {
    const home = await homeOf()
    const { port } = new URL(home.origin)
    home.close()
    clear()
    for (let i = 0; i < 5; i++) {
      const answer = await get(first, '/api/x', { method: 'POST', body: 'x' })
      t.equal(answer.status, 200)
      await answer.arrayBuffer()
    }
    t.equal(servedBy().length, 1)
    home.server.listen(Number(port), '127.0.0.1')
    await until(async () => (await homeOf()) === home)
  })

  await t.test('nor is one lost that the only replica of its tenant did not take', async t => {
    const single = tenants[2] as (typeof tenants)[number]
    const client = new Client(world.registryUrl)
    client.on('error', () => {})
    await client.connect()
    // One connection to its database: one replica.
    await client.query('UPDATE tenants SET db_pool_max = 1 WHERE id = $1', [single.id])
    await client.end()
    await until(async () => {
      clear()
      const all = Array.from({ length: 8 }, async () => (await get(single)).arrayBuffer())
      await Promise.all(all)
      return servedBy().length === 1
    })
    const home = await homeOf(single)
    const { port } = new URL(home.origin)
    home.close()
    const answer = await get(single, '/api/x', { method: 'POST', body: 'x' })
    t.equal(answer.status, 200)
    await answer.arrayBuffer()
    home.server.listen(Number(port), '127.0.0.1')
    await until(async () => (await homeOf(single)) === home)
  })

  await t.test('one tenant’s errors eject nobody, those of several do', async t => {
    const home = await homeOf()
    const failing = (_req: unknown, res: { writeHead: (status: number) => { end(): void } }) => {
      res.writeHead(500).end()
    }
    const { respond } = home
    home.respond = failing as never
    for (let i = 0; i < 20; i++) t.equal((await get(first)).status, 500)
    t.notOk(gateway.log.some(line => /ejected/.test(String(line.msg))))
    for (let round = 0; round < 10; round++) {
      await Promise.all(tenants.map(async tenant => (await get(tenant)).arrayBuffer()))
    }
    await until(() => gateway.log.some(line => /ejected/.test(String(line.msg))))
    t.not(await homeOf(), home)
    t.equal((await get(first)).status, 200)
    home.respond = respond
    await until(async () => (await homeOf()) === home, 15_000)
  })

  await t.test('what the app calls the tenant’s own fault counts against nobody else', async t => {
    const home = await homeOf()
    const { respond } = home
    home.respond = (_req, res) => {
      res.writeHead(503, { 'x-tenant-fault': 'database_unreachable' }).end()
    }
    const answers = await Promise.all(tenants.map(tenant => get(tenant)))
    t.ok(answers.every(answer => answer.headers.get('x-tenant-fault') === null))
    const statuses: number[] = []
    for (let i = 0; i < 6; i++) statuses.push((await get(first)).status)
    t.ok(statuses.includes(503), String(statuses))
    t.equal(statuses.at(-1), 200, 'its breaker sends it to its other replica')
    t.equal(gateway.log.filter(line => /ejected/.test(String(line.msg))).length, 1, 'from before')
    home.respond = respond
    await until(async () => (await homeOf()) === home)
  })

  await t.test('what happened to the fleet is in the metrics', async t => {
    const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
    const figureOf = (name: string) =>
      Number(
        text
          .split('\n')
          .find(line => line.startsWith(`${name} `))
          ?.split(' ')
          .at(-1),
      )
    t.equal(figureOf('doorman_fleet_events_total{event="ejection"}'), 1)
    t.ok(figureOf('doorman_fleet_events_total{event="breaker"}') >= 1)
    t.ok(figureOf('doorman_fleet_choices_total{choice="spilled"}') >= 1)
    t.equal(figureOf('doorman_replicas'), 4)
    t.equal(figureOf('doorman_replicas_healthy'), 4)
  })

  await t.test('a tenant whose requests hang keeps no other waiting', async t => {
    const second = tenants[1] as (typeof tenants)[number]
    const held: { end(): void }[] = []
    for (const upstream of upstreams) {
      const { respond } = upstream
      upstream.respond = (req, res) => {
        if (req.url === '/api/hang') held.push(res)
        else respond(req, res)
      }
    }
    const hanging = Array.from({ length: 30 }, () => get(first, '/api/hang'))
    await until(() => held.length === 16)
    const refused = await Promise.race(hanging)
    t.equal(refused.status, 429)
    t.equal(refused.headers.get('retry-after'), '1')
    t.match(await refused.json(), { code: 'TENANT_BUSY' })
    for (let i = 0; i < 20; i++) t.equal((await get(second)).status, 200)
    for (const res of held) res.end()
    const statuses = (await Promise.all(hanging)).map(({ status }) => status)
    t.equal(statuses.filter(status => status === 200).length, 16, '80 % of two replicas')
    t.equal((await get(first)).status, 200)
  })
})
