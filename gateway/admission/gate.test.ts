import pg from 'pg'
import t from 'tap'
import type { Tenant } from '../../registry/tenant.ts'
import { writeStatus } from '../../registry/tenant-write.ts'
import { startGateway, startUpstream, startWorld, until } from '../test-kit.ts'

const PLACES = 4

t.test('under pressure tenants take turns', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const sql = new pg.Pool({ connectionString: world.registryUrl, max: 2 })
  sql.on('error', () => {})
  const gateway = await startGateway({
    ...world.env,
    APP_UPSTREAMS: upstream.origin,
    FORWARDED_MAX: String(PLACES),
    FAIR_QUEUE_MAX: '40',
    FAIR_QUEUE_WAIT_MS: '1500',
  })
  t.teardown(async () => {
    await gateway.stop('SIGKILL')
    upstream.close()
    await sql.end()
    await world.close()
  })
  const [noisy, quiet, gold] = [
    await world.createTenant('noisy'),
    await world.createTenant('quiet'),
    await world.createTenant('gold'),
  ]
  await sql.query(`INSERT INTO plans (code, name, weight) VALUES ('gold', 'Gold', 3)`)
  await sql.query("UPDATE tenants SET plan = 'gold' WHERE id = $1", [gold.id])
  const answers: (() => void)[] = []
  const order: string[] = []
  const tokens = new Map([noisy, quiet, gold].map(tenant => [tenant.id, world.token(tenant)]))
  t.beforeEach(() => {
    answers.length = 0
    order.length = 0
    upstream.respond = (req, res) => {
      order.push(String(req.url).slice('/api/'.length))
      answers.push(() => res.end('{}'))
    }
  })
  const get = (tenant: Tenant, init: RequestInit = {}) =>
    fetch(`${gateway.url}/api/${tenant.key}`, {
      ...init,
      headers: { authorization: `Bearer ${tokens.get(tenant.id)}` },
    }).then(async answer => ({ ...((await answer.json()) as object), status: answer.status }))
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
  const waits = (count: number) =>
    until(async () => (await metric('doorman_requests_queued')) === count)
  /** Takes all places and lets `waiting` stand in line, one by one. */
  const fill = async (waiting: readonly Tenant[]) => {
    const all = Array.from({ length: PLACES }, () => get(noisy))
    await until(() => answers.length === PLACES)
    for (const [i, tenant] of waiting.entries()) {
      all.push(get(tenant))
      await waits(i + 1)
    }
    order.length = 0
    return all
  }
  /** Ends one after the other whatever is at the replica. */
  const serveAll = async (all: readonly Promise<unknown>[]) => {
    let isOver = false
    const over = Promise.all(all).finally(() => {
      isOver = true
    })
    while (!isOver) {
      answers.shift()?.()
      await new Promise(resolve => setTimeout(resolve, 2))
    }
    return over
  }

  t.test(
    'a tenant that comes last waits for its turn, and not for the line of another',
    async t => {
      const all = await fill([...Array(8).fill(noisy), quiet, quiet])
      await serveAll(all)
      t.strictSame(order.filter(key => key === 'quiet').length, 2)
      t.ok(order.indexOf('quiet') <= 1, order.join(' '))
      t.ok(order.lastIndexOf('quiet') <= 4, order.join(' '))
    },
  )

  t.test('a plan’s weight is its share of the turns', async t => {
    // Its plan is known with its first request.
    const first = get(gold)
    await until(() => answers.length === 1)
    await serveAll([first])
    const line = Array.from({ length: 8 }, () => [noisy, gold]).flat()
    await serveAll(await fill(line))
    const early = order.slice(0, 8).filter(key => key === 'gold').length
    t.ok(early >= 5, order.join(' '))
  })

  t.test('who leaves the line makes room, and is not sent', async t => {
    const all = await fill([])
    const leaver = new AbortController()
    const left = get(quiet, { signal: leaver.signal }).catch(() => 'left')
    await waits(1)
    leaver.abort()
    t.equal(await left, 'left')
    await waits(0)
    await serveAll(all)
    t.notOk(order.includes('quiet'))
  })

  t.test('the line is bounded, for one tenant and for all, and in time', async t => {
    const all = await fill([])
    const own = Array.from({ length: 10 }, () => get(noisy))
    await waits(10)
    t.match(await get(noisy), { status: 503, code: 'UPSTREAM_BUSY' }, 'a quarter of it for one')
    const startedAt = performance.now()
    const others = [get(quiet), get(quiet)]
    const ended = await Promise.all([...own, ...others])
    t.ok(performance.now() - startedAt < 4000)
    for (const answer of ended) t.match(answer, { status: 503, code: 'UPSTREAM_BUSY' })
    await waits(0)
    await serveAll(all)
    t.equal(await metric('doorman_queue_ends_total{end="full"}'), 1)
    t.ok((await metric('doorman_queue_ends_total{end="late"}')) >= 12)
  })

  t.test('who waits is looked at again: a suspended tenant is not served', async t => {
    const all = await fill([quiet])
    await writeStatus(world.store, quiet.id, 'suspended', null)
    // Whoever comes now is refused at once; so the gateway knows.
    await until(async () => (await get(quiet, { signal: AbortSignal.timeout(100) })).status === 403)
    const [, , , , waited] = (await serveAll(all)) as { status: number }[]
    t.equal(waited?.status, 403)
    t.notOk(order.includes('quiet'))
    await writeStatus(world.store, quiet.id, 'active', null)
  })

  t.test('a process that ends serves its line', async t => {
    const all = await fill([quiet, quiet])
    gateway.child.kill('SIGTERM')
    const ended = (await serveAll(all)) as { status: number }[]
    t.strictSame([...new Set(ended.map(({ status }) => status))], [200])
    t.equal(await gateway.exited, 0)
  })
})
