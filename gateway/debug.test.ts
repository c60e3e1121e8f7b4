import { randomBytes } from 'node:crypto'
import t from 'tap'
import { startGateway, startUpstream, startWorld, until } from './test-kit.ts'

/** Before the poll of the Registry (5 s) could have told: by notice, within a second where the machine has time. */
const NOTICE_MS = 4000

t.test('an operator looks at one tenant for a while', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const acme = await world.createTenant('acme')
  const globex = await world.createTenant('globex')
  const adminKey = randomBytes(32).toString('hex')
  const env = {
    ...world.env,
    APP_UPSTREAMS: upstream.origin,
    ADMIN_API_KEY: adminKey,
    ACCESS_LOG_PERCENT: '0',
  }
  const gateways = await Promise.all([startGateway(env), startGateway(env)])
  t.teardown(async () => {
    await Promise.all(gateways.map(gateway => gateway.stop('SIGKILL')))
    upstream.close()
    await world.close()
  })
  const [gateway] = gateways
  const admin = async (method: string, path: string, body?: object) => {
    const response = await fetch(`${gateway.internalUrl}/api/admin${path}`, {
      method,
      headers: { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    })
    const { result } = (await response.json()) as { result: Record<string, unknown> | null }
    return { status: response.status, result }
  }
  const debug = `/tenants/${acme.id}/debug`
  const linesOf = (key: string) =>
    gateways.map(({ log }) => log.filter(line => line.msg === 'request' && line.tenant === key))
  /** One request of each tenant at each gateway. */
  const ask = () =>
    Promise.all(
      gateways.flatMap(({ url }) =>
        [acme, globex].map(tenant => {
          const headers = { authorization: `Bearer ${world.token(tenant)}`, cookie: 'planted=1' }
          return fetch(`${url}/api/x?secret=planted`, { headers })
        }),
      ),
    )
  let looks = 0
  /** What each gateway has logged of acme's requests of one more look. */
  const look = async () => {
    const before = linesOf('acme').map(({ length }) => length)
    await ask()
    // A refusal is logged always, and behind what ended before it.
    const mark = `/none/${looks++}`
    await Promise.all(gateways.map(({ url }) => fetch(url + mark)))
    await until(() => gateways.every(({ log }) => log.some(({ path }) => path === mark)))
    return linesOf('acme').map(({ length }, i) => length - (before[i] as number))
  }
  /** Milliseconds until each gateway logs acme's requests, or none does. */
  const seen = async (isLogged: boolean) => {
    const startedAt = performance.now()
    await until(async () => (await look()).every(count => count > 0 === isLogged))
    return performance.now() - startedAt
  }
  t.strictSame(await look(), [0, 0], 'before, none is logged')

  t.test('each of its requests is logged everywhere within a second, and of no other', async t => {
    const { status, result } = await admin('POST', debug, { minutes: 5, reason: 'ticket 7' })
    t.equal(status, 200)
    const restMs = Date.parse(String(result?.debug_until)) - Date.now()
    t.ok(restMs > 4 * 60_000 && restMs <= 5 * 60_000 + 1000)
    t.ok((await seen(true)) < NOTICE_MS)
    t.strictSame(linesOf('globex'), [[], []])
    const [line] = linesOf('acme')[0] as Record<string, unknown>[]
    t.match(line, { debug: true, tenant_id: acme.id, status: 200, path: '/api/x' })
    for (const name of ['admit_ms', 'wait_ms', 'upstream_ms', 'added_ms', 'ms']) {
      t.type(line?.[name], 'number', name)
    }
    t.match(line?.trace_id, /^[0-9a-f]{32}$/)
    t.notMatch(JSON.stringify(gateways.map(({ log }) => log)), /planted|Bearer|eyJ/)
    const traced = upstream.requests.find(({ headers }) =>
      String(headers.traceparent).includes(String(line?.trace_id)),
    )
    t.match(traced?.headers.traceparent, /-0[13]$/, 'the app is told to keep the trace')
    t.equal((await admin('GET', `/tenants/${acme.id}`)).result?.debug_until, result?.debug_until)
    const audit = await world.store.query(
      'SELECT action, reason, after FROM admin_audit WHERE tenant_id = $1 ORDER BY id DESC LIMIT 1',
      [acme.id],
    )
    t.match(audit[0], { action: 'tenant.debug', reason: 'ticket 7' })
    t.ok(Object(audit[0]?.after).debug_until)
  })

  t.test('it ends when it is told to', async t => {
    t.match(await admin('DELETE', debug), { status: 200, result: { debug_until: null } })
    t.ok((await seen(false)) < NOTICE_MS)
    t.equal((await admin('DELETE', debug)).status, 200, 'again: nothing changes')
  })

  t.test('it ends by itself, and lasts an hour at most', async t => {
    t.equal((await admin('POST', debug, { minutes: 60, reason: 'x' })).status, 200)
    await seen(true)
    await world.store.query(
      "UPDATE tenants SET debug_until = now() + interval '700 milliseconds' WHERE id = $1",
      [acme.id],
    )
    await seen(false)
    t.equal((await admin('GET', `/tenants/${acme.id}`)).result?.debug_until, null)
    for (const wrong of [
      { minutes: 61, reason: 'x' },
      { minutes: 0, reason: 'x' },
      { minutes: 1.5, reason: 'x' },
      { minutes: 5 },
      { minutes: 5, reason: null },
      { reason: 'x' },
    ]) {
      t.equal((await admin('POST', debug, wrong)).status, 400, JSON.stringify(wrong))
    }
    t.equal(
      (
        await admin('POST', `/tenants/${acme.id.replace(/.$/, 'f')}/debug`, {
          minutes: 5,
          reason: 'x',
        })
      ).status,
      404,
    )
  })
})
