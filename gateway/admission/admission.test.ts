import { once } from 'node:events'
import { connect } from 'node:net'
import pg from 'pg'
import t from 'tap'
import type { Tenant } from '../../registry/tenant.ts'
import { rawExchange, startGateway, startUpstream, startWorld, until } from '../test-kit.ts'

t.test('limits of tenants, by plans and by their own', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const sql = new pg.Pool({ connectionString: world.registryUrl, max: 2 })
  sql.on('error', () => {})
  const gateway = await startGateway({
    ...world.env,
    APP_UPSTREAMS: upstream.origin,
    TENANT_LIMITS: '{"body_bytes":1000}',
  })
  t.teardown(async () => {
    await gateway.stop('SIGKILL')
    upstream.close()
    await sql.end()
    await world.close()
  })
  const answerOk = upstream.respond
  t.beforeEach(() => {
    upstream.requests.length = 0
    upstream.respond = answerOk
  })

  const get = (tenant: Tenant, init: RequestInit = {}) =>
    fetch(`${gateway.url}/api/projects`, {
      ...init,
      headers: { authorization: `Bearer ${world.token(tenant)}`, ...init.headers },
    })
  const codeOf = async (response: Response) => ((await response.json()) as { code: string }).code
  const setLimits = (tenant: Tenant, limits: object) =>
    sql.query('UPDATE tenants SET limits = $2 WHERE id = $1', [tenant.id, limits])
  const handshake = (tenant: Tenant) =>
    `GET /api/ws HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${world.token(tenant)}\r\n` +
    'connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n' +
    'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
  const metric = async (name: string) => {
    const text = await (await fetch(`${gateway.internalUrl}/metrics`)).text()
    return Number(
      text
        .split('\n')
        .find(line => line.startsWith(name))
        ?.split(' ')
        .at(-1),
    )
  }
  /** A tenant that the gateway knows with these limits. */
  const tenantWith = async (key: string, limits: object) => {
    const tenant = await world.createTenant(key)
    await setLimits(tenant, limits)
    return tenant
  }

  t.test(
    'beyond its rate a tenant is 429, told when to come again, and costs no replica',
    async t => {
      const noisy = await tenantWith('noisy', { requests_per_s: 0.1, burst: 3 })
      const quiet = await world.createTenant('quiet')
      for (const left of [2, 1, 0]) {
        const answer = await get(noisy)
        t.equal(answer.status, 200)
        t.equal(answer.headers.get('ratelimit-policy'), '"rate";q=3;w=30')
        t.match(answer.headers.get('ratelimit'), new RegExp(`^"rate";r=${left};t=\\d+$`))
      }
      const refused = await get(noisy)
      t.equal(refused.status, 429)
      const retryAfter = Number(refused.headers.get('retry-after'))
      t.ok(retryAfter >= 8 && retryAfter <= 10, `${retryAfter} s`)
      t.equal(refused.headers.get('ratelimit-policy'), '"rate";q=3;w=30')
      t.equal(refused.headers.get('ratelimit'), `"rate";r=0;t=${retryAfter}`)
      t.equal(await codeOf(refused), 'TENANT_RATE_LIMITED')
      t.equal(upstream.requests.length, 3)
      const other = await get(quiet)
      t.match(other, { status: 200 })
      t.equal(other.headers.get('ratelimit'), null, 'who has no limit is told none')
      t.equal(await metric('doorman_admission_refused_total{limit="rate"}'), 1)
    },
  )

  t.test('a flood of refusals is one line of the log a second', async t => {
    const flood = await tenantWith('flood', { requests_per_s: 0.1, burst: 1 })
    const linesOf = () => gateway.log.filter(line => line.tenant === 'flood' && line.status === 429)
    const startedAt = performance.now()
    for (let i = 0; i < 100; i++) await get(flood)
    const seconds = Math.ceil((performance.now() - startedAt) / 1000)
    await until(() => linesOf().length > 0)
    t.ok(linesOf().length <= seconds + 1, `${linesOf().length} lines in ${seconds} s`)
    t.ok((await metric('doorman_faults_total{code="TENANT_RATE_LIMITED"}')) >= 99)
  })

  t.test('a change of limits or plan holds within a second, without a restart', async t => {
    const tenant = await tenantWith('changing', { requests_per_s: 0.01, burst: 1 })
    await get(tenant)
    t.equal((await get(tenant)).status, 429)
    const within = async (what: string, change: () => Promise<unknown>, status: number) => {
      await change()
      const startedAt = performance.now()
      await until(async () => (await get(tenant)).status === status, 2000)
      const tookMs = performance.now() - startedAt
      t.ok(tookMs < 1000, `${what}: ${Math.round(tookMs)} ms`)
    }
    await within('own limits gone', () => setLimits(tenant, {}), 200)
    await sql.query(
      `INSERT INTO plans VALUES ('tiny', 'Tiny', '{"requests_per_s":0.01,"burst":1}')`,
    )
    const take = "UPDATE tenants SET plan = 'tiny' WHERE id = $1"
    await within('a plan', () => sql.query(take, [tenant.id]), 429)
    const widen = `UPDATE plans SET limits = '{"requests_per_s":1000}' WHERE code = 'tiny'`
    await within('the plan made larger', () => sql.query(widen), 200)
    const narrow = `UPDATE plans SET limits = '{"requests_per_s":0.01}' WHERE code = 'tiny'`
    await within('the plan made smaller', () => sql.query(narrow), 429)
    const override = { requests_per_s: null }
    await within('an exception', () => setLimits(tenant, override), 200)
  })

  t.test('requests at once are limited, and each that ends makes room', async t => {
    const tenant = await tenantWith('busy', { in_flight: 2 })
    const waiting: (() => void)[] = []
    upstream.respond = (_, res) => waiting.push(() => res.end('{}'))
    const two = [get(tenant), get(tenant)]
    await until(() => waiting.length === 2)
    const third = await get(tenant)
    t.equal(third.status, 429)
    t.equal(third.headers.get('ratelimit'), '"in-flight";r=0')
    t.equal(third.headers.get('ratelimit-policy'), '"in-flight";q=2;qu="concurrent-requests"')
    t.equal(await codeOf(third), 'TENANT_IN_FLIGHT_LIMITED')
    const leaver = new AbortController()
    waiting.shift()?.()
    await two[0]
    const fourth = get(tenant, { signal: leaver.signal }).catch(() => 'left')
    await until(() => waiting.length === 2)
    leaver.abort()
    t.equal(await fourth, 'left')
    upstream.respond = answerOk
    await until(async () => (await get(tenant)).status === 200, 2000)
    for (const answer of waiting) answer()
    await two[1]
  })

  t.test('a body is limited by its declared length and while it streams', async t => {
    const tenant = await world.createTenant('bodies')
    const post = (body: RequestInit['body'], streams = {}) =>
      get(tenant, { method: 'POST', body: body as never, ...streams })
    t.equal((await post('x'.repeat(1000))).status, 200)
    const declared = await post('x'.repeat(1001))
    t.equal(declared.status, 413)
    t.equal(await codeOf(declared), 'BODY_TOO_LARGE')
    t.equal(upstream.requests.length, 1, 'and never reaches the app')
    const chunked = (bytes: number) => {
      const chunk = `${bytes.toString(16)}\r\n${'x'.repeat(bytes)}\r\n`
      const head =
        `POST /api/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${world.token(tenant)}\r\n` +
        'transfer-encoding: chunked\r\n\r\n'
      return rawExchange(gateway.port, `${head}${chunk}${chunk}0\r\n\r\n`, text =>
        /\r\n\r\n.*}/s.test(text),
      )
    }
    t.match(await chunked(500), /^HTTP\/1\.1 200 /)
    t.match(await chunked(501), /^HTTP\/1\.1 413 [\s\S]*BODY_TOO_LARGE/)
    await setLimits(tenant, { body_bytes: null })
    await until(async () => (await post('x'.repeat(1001))).status === 200, 2000)
  })

  t.test('WebSockets and event streams share one limit, and are no requests in flight', async t => {
    const tenant = await tenantWith('sockets', { sockets: 2, in_flight: 1 })
    const onUpgrade = (_: unknown, socket: import('node:stream').Duplex) => {
      socket.on('error', () => {})
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n',
      )
    }
    upstream.server.on('upgrade', onUpgrade)
    t.teardown(() => upstream.server.off('upgrade', onUpgrade))
    upstream.respond = (_, res) =>
      void res.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n')
    const socket = connect(gateway.port, '127.0.0.1')
    socket.on('error', () => {})
    socket.write(handshake(tenant))
    const [head] = (await once(socket, 'data')) as [Buffer]
    t.match(head.toString(), /^HTTP\/1\.1 101 /)
    const leaver = new AbortController()
    const stream = await get(tenant, { signal: leaver.signal })
    t.equal(stream.status, 200)
    t.match(await rawExchange(gateway.port, handshake(tenant)), /429 [\s\S]*TENANT_SOCKETS_LIMITED/)
    const second = await get(tenant)
    t.equal(second.status, 429)
    t.equal(await codeOf(second), 'TENANT_SOCKETS_LIMITED')
    upstream.respond = answerOk
    t.equal((await get(tenant)).status, 200, 'a request is one')
    leaver.abort()
    socket.destroy()
    upstream.respond = (_, res) =>
      void res.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: 1\n\n')
    await until(async () => {
      const answer = await get(tenant)
      await answer.arrayBuffer()
      return answer.status === 200
    }, 2000)
  })

  t.test('a hard quota refuses what is beyond it, a soft one tells of it', async t => {
    const used = (tenant: Tenant, requests: number) =>
      sql.query(
        `INSERT INTO customer_usage_daily (tenant_id, date, api_requests)
         VALUES ($1, (now() AT TIME ZONE 'utc')::date, $2)`,
        [tenant.id, requests],
      )
    const hard = await tenantWith('hard', { requests_per_month: 1002 })
    await used(hard, 1000)
    // What other gateways have written is learnt with the first request.
    await until(async () => (await get(hard)).status === 429, 3000)
    const refused = await get(hard)
    t.equal(await codeOf(refused), 'QUOTA_EXCEEDED')
    const leftS = Number(refused.headers.get('retry-after'))
    const now = new Date()
    const endMs = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1)
    t.ok(Math.abs(leftS - (endMs - Date.now()) / 1000) < 5, 'until the month ends')
    t.match(refused.headers.get('ratelimit-policy'), /^"month";q=1002;w=2[4-6]\d{5}$/)
    t.equal(refused.headers.get('ratelimit'), `"month";r=0;t=${leftS}`)

    const soft = await tenantWith('soft', { requests_per_month: 2, quota: 'soft' })
    for (const left of [1, 0, 0, 0]) {
      const answer = await get(soft)
      t.equal(answer.status, 200)
      t.match(answer.headers.get('ratelimit'), new RegExp(`^"month";r=${left};t=\\d+$`))
    }
    const isEvent = (line: Record<string, unknown>) => line.msg === 'monthly quota is used up'
    await until(() => gateway.log.filter(isEvent).length === 2)
    t.match(gateway.log.filter(isEvent), [{ tenant: 'hard', isHard: true }, { tenant: 'soft' }])
    t.equal(await metric('doorman_quota_events_total{quota="soft"}'), 1)
    await setLimits(hard, { requests_per_month: 2_000_000 })
    await until(async () => (await get(hard)).status === 200, 2000)
  })

  t.test('who floods waits for its refusals, and nobody else does', async t => {
    const flood = await tenantWith('flooding', { requests_per_s: 0.1, burst: 1 })
    const calm = await tenantWith('calm', { requests_per_s: 0.1, burst: 1 })
    const held = () => metric('doorman_tarpit_total{end="held"}')
    const waiting = () => metric('doorman_tarpit_waiting')
    const before = await held()
    t.equal((await get(calm)).status, 200)
    for (let i = 0; i < 20; i++) await get(calm)
    t.equal(await held(), before, 'a few refusals are given at once')
    await until(async () => {
      const answers = await Promise.all(Array.from({ length: 150 }, () => get(flood)))
      t.ok(answers.filter(({ status }) => status === 429).length >= 149)
      for (const answer of answers) {
        if (answer.status !== 429) continue
        t.ok(Number(answer.headers.get('retry-after')) > 0)
        t.equal(await codeOf(answer), 'TENANT_RATE_LIMITED')
      }
      return (await held()) > before
    })
    const flooded = await held()
    t.equal((await get(calm)).status, 429)
    t.equal(await held(), flooded, 'another tenant’s is given at once')
    t.equal(await waiting(), 0)
  })

  t.test('who leaves while its refusal waits is let go', async t => {
    const tenant = await tenantWith('leaving', { requests_per_s: 0.1, burst: 1 })
    const request = `GET /api/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${world.token(tenant)}\r\n\r\n`
    const { hostname, port } = new URL(gateway.url)
    const before = await metric('doorman_tarpit_total{end="held"}')
    await until(async () => {
      const sockets = Array.from({ length: 120 }, () => {
        const socket = connect(Number(port), hostname).on('error', () => {})
        socket.write(request)
        return socket
      })
      await until(async () => (await metric('doorman_tarpit_waiting')) > 0, 200).catch(() => {})
      for (const socket of sockets) socket.destroy()
      return (await metric('doorman_tarpit_total{end="held"}')) > before
    })
    await until(async () => (await metric('doorman_requests_in_flight')) === 0)
    t.equal(await metric('doorman_tarpit_waiting'), 0)
    t.equal((await get(await world.createTenant('after'))).status, 200)
  })

  t.test('strangers cannot use up a tenant’s limits, nor learn by them that it exists', async t => {
    const tenant = await tenantWith('private', { requests_per_s: 0.01, burst: 1, in_flight: 1 })
    upstream.respond = (req, res) => void req.resume().on('end', () => res.writeHead(401).end())
    const before = await metric('doorman_admission_tenants')
    const login = async (key: string) => {
      const answer = await fetch(`${gateway.url}/api/auth/login`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ tenant_key: key, email: `${Math.random()}@x`, password: 'x' }),
      })
      return `${answer.status} ${answer.headers.get('ratelimit')} ${await codeOf(answer)}`
    }
    const answers = await Promise.all(
      [1, 2, 3, 4].flatMap(() => [login('private'), login('nobody')]),
    )
    t.strictSame([...new Set(answers)], ['401 null INVALID_CREDENTIALS'])
    upstream.respond = answerOk
    const unknown = { ...tenant, id: '00000000-0000-4000-8000-000000000000' as Tenant['id'] }
    for (let i = 0; i < 5; i++) t.equal((await get(unknown)).status, 401)
    t.equal(await metric('doorman_admission_tenants'), before, 'no state of either')
    t.equal((await get(tenant)).status, 200, 'its own user is served')
  })

  t.test('a limit that is none takes nobody down, and is told', async t => {
    await sql.query('ALTER TABLE tenants DISABLE TRIGGER tenants_limits_known')
    const tenant = await tenantWith('odd', { requests_per_s: 'many', in_flight: 0, seats: 7 })
    await sql.query('ALTER TABLE tenants ENABLE TRIGGER tenants_limits_known')
    for (let i = 0; i < 3; i++) t.equal((await get(tenant)).status, 200)
    const told = () => gateway.log.filter(line => line.tenant === 'odd' && line.what !== undefined)
    await until(() => told().length === 2)
    t.match(told(), [{ what: 'limits.requests_per_s' }, { what: 'limits.in_flight' }])
  })
})

t.test('with ADMISSION=off nobody is limited', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const env = { ...world.env, APP_UPSTREAMS: upstream.origin, ADMISSION: 'off' }
  const gateway = await startGateway({ ...env, TENANT_LIMITS: '{"requests_per_s":0.01,"burst":1}' })
  t.teardown(async () => {
    await gateway.stop('SIGKILL')
    upstream.close()
    await world.close()
  })
  const authorization = `Bearer ${world.token(await world.createTenant('free'))}`
  for (let i = 0; i < 3; i++) {
    const answer = await fetch(`${gateway.url}/api/projects`, { headers: { authorization } })
    t.equal(answer.status, 200)
  }
})
