import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import { type RunningGateway, startGateway, startUpstream, startWorld, until } from '../test-kit.ts'

const LIMIT = { requests_per_s: 100, burst: 30 }
/** Over which a rate is looked at. */
const WINDOW_MS = 2000
/** Who asks at one gateway at a time: several times the limit together. */
const CLIENTS = 4

t.test('a limit is the fleet’s, while gateways come, go, and get unequal load', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const sql = new pg.Pool({ connectionString: world.registryUrl, max: 2 })
  sql.on('error', () => {})
  const env = { ...world.env, APP_UPSTREAMS: upstream.origin, ACCESS_LOG_PERCENT: '0' }
  const gateways = new Set<RunningGateway>()
  let isOver = false
  t.teardown(async () => {
    isOver = true
    await Promise.all([...gateways].map(gateway => gateway.stop('SIGKILL')))
    upstream.close()
    await sql.end()
    await world.close()
  })
  const tenant = await world.createTenant('flood')
  await sql.query('UPDATE tenants SET limits = $2 WHERE id = $1', [tenant.id, LIMIT])
  const authorization = `Bearer ${world.token(tenant)}`

  const admittedAt: number[] = []
  upstream.respond = (_, res) => {
    admittedAt.push(performance.now())
    res.end('{}')
  }
  const admittedSince = (fromMs: number) => admittedAt.filter(at => at >= fromMs).length
  /** Most in any one second so far. */
  const worstSecond = () => {
    let worst = 0
    let from = 0
    for (const [i, at] of admittedAt.entries()) {
      while ((admittedAt[from] as number) < at - 1000) from++
      worst = Math.max(worst, i - from + 1)
    }
    return worst
  }
  const load = async (gateway: RunningGateway, isWanted: () => boolean) => {
    while (!isOver && isWanted()) {
      const answer = await fetch(`${gateway.url}/api/x`, { headers: { authorization } }).catch(
        () => null,
      )
      await answer?.arrayBuffer().catch(() => {})
      await delay(answer?.status === 200 ? 0 : 8)
    }
  }
  const start = async () => {
    const gateway = await startGateway(env)
    gateways.add(gateway)
    return gateway
  }
  const flood = (gateway: RunningGateway, isWanted = () => true) => {
    for (let i = 0; i < CLIENTS; i++) void load(gateway, isWanted)
  }
  /** Waits for a window in which the rate is within 10 % of the limit: a machine that pauses may miss one. */
  const settles = (what: string, deadlineMs: number) =>
    until(async () => {
      const fromMs = performance.now()
      await delay(WINDOW_MS)
      const perS = (admittedSince(fromMs) * 1000) / (performance.now() - fromMs)
      t.comment(`${what}: ${Math.round(perS)} a second`)
      return Math.abs(perS - LIMIT.requests_per_s) <= LIMIT.requests_per_s * 0.1
    }, deadlineMs)

  const [one, two] = [await start(), await start()]
  let isEven = false
  flood(one)
  await settles('all to one of two', 15_000)
  isEven = true
  flood(two, () => isEven)
  await settles('even over two', 12_000)
  const three = await start()
  flood(three)
  await settles('a third has joined', 12_000)

  await three.stop('SIGKILL')
  gateways.delete(three)
  const killedMs = performance.now()
  await delay(1500)
  const perS = (admittedSince(killedMs) * 1000) / (performance.now() - killedMs)
  t.ok(perS <= LIMIT.requests_per_s * 1.1, `${Math.round(perS)} while it counts as live`)
  // What is ten seconds of silence to the Registry.
  await sql.query(
    "UPDATE gateway_instances SET heartbeat_at = now() - interval '1 min' WHERE pid = $1",
    [three.child.pid],
  )
  await settles('one was killed', 12_000)
  const max = LIMIT.requests_per_s * 1.1 + LIMIT.burst
  t.ok(worstSecond() <= max, `never more in a second than rate and burst allow: ${worstSecond()}`)

  await sql.query('UPDATE tenants SET limits = $2 WHERE id = $1', [
    tenant.id,
    { requests_per_s: 1 },
  ])
  await until(async () => {
    const fromMs = performance.now()
    await delay(300)
    return admittedSince(fromMs) <= 1
  }, 3000)
  t.pass('a change holds on all of them')
})
