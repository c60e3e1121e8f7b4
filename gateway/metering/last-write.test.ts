import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startFaultProxy } from '../../registry/fault-proxy.ts'
import { EXIT_USAGE_LOST } from '../exit-codes.ts'
import { startGateway, startUpstream, startWorld, until } from '../test-kit.ts'

const world = await startWorld()
t.teardown(world.close)
const upstream = await startUpstream()
t.teardown(() => upstream.close())
upstream.respond = (_, res) => void res.end('{}')
const registry = new pg.Client({ connectionString: world.registryUrl })
registry.on('error', () => {})
await registry.connect()
t.teardown(() => registry.end())

const DRAIN_MS = 2500
const REQUESTS = 9

/** A gateway whose Registry hangs from the moment on at which it has served some requests. */
async function serveThenHang(t: Test, key: string, env: Record<string, string>) {
  const { port } = world.postgres
  const link = await startFaultProxy({ host: '127.0.0.1', port })
  t.teardown(() => link.stop())
  const gateway = await startGateway({
    ...{ ...world.env, APP_UPSTREAMS: upstream.origin, DRAIN_TIMEOUT_MS: String(DRAIN_MS) },
    TENANT_REGISTRY_DB_URL: world.registryUrl.replace(`:${port}/`, `:${link.port}/`),
    METERING_FLUSH_MS: '60000',
    ...env,
  })
  t.teardown(() => gateway.stop('SIGKILL'))
  const tenant = await world.createTenant(key)
  const headers = { authorization: `Bearer ${world.token(tenant)}`, connection: 'close' }
  for (let i = 0; i < REQUESTS; i++) {
    const answer = await fetch(`${gateway.url}/api/x`, { headers })
    t.equal(answer.status, 200)
    await answer.arrayBuffer()
  }
  link.set({ stall: true })
  return { gateway, tenant }
}

async function countedOf({ id }: { id: string }): Promise<number> {
  const { rows } = await registry.query(
    'SELECT coalesce(sum(api_requests), 0)::int AS n FROM customer_usage_daily WHERE tenant_id = $1',
    [id],
  )
  return rows[0].n
}

t.test(
  'a Registry that hangs holds up no end: the journal has all, and it ends with 0',
  async t => {
    const dir = await mkdtemp(join(tmpdir(), 'doorman-last-'))
    t.teardown(() => rm(dir, { recursive: true, force: true }))
    const env = { METERING_JOURNAL_DIR: dir }
    const { gateway, tenant } = await serveThenHang(t, 'kept', env)
    const askedAt = performance.now()
    t.equal(await gateway.stop(), 0)
    t.ok(performance.now() - askedAt < DRAIN_MS + 1000, 'not by force')
    t.match(
      gateway.log.filter(({ msg }) => /before the end/.test(String(msg))),
      [{ msg: 'usage was not written before the end, and is in the journal', requests: REQUESTS }],
    )
    t.equal(await countedOf(tenant), 0)
    t.equal((await readdir(dir)).length, 1)
    const next = await startGateway({ ...world.env, APP_UPSTREAMS: upstream.origin, ...env })
    t.teardown(() => next.stop('SIGKILL'))
    await until(async () => (await readdir(dir)).length === 0)
    t.equal(await countedOf(tenant), REQUESTS)
    t.equal(await next.stop(), 0)
  },
)

t.test('what nobody has kept is told: by its number in the log, and by the exit code', async t => {
  for (const GATEWAY_WORKERS of ['1', '2']) {
    const { gateway } = await serveThenHang(t, `lost-${GATEWAY_WORKERS}`, { GATEWAY_WORKERS })
    const askedAt = performance.now()
    t.equal(await gateway.stop(), EXIT_USAGE_LOST)
    t.ok(performance.now() - askedAt < DRAIN_MS + 1000, 'not by force')
    const lines = gateway.log.filter(({ msg }) => /and is lost/.test(String(msg)))
    t.equal(
      lines.reduce((sum, { requests }) => sum + Number(requests), 0),
      REQUESTS,
    )
    t.notOk(gateway.log.some(({ msg }) => msg === 'drain took too long, exiting'))
  }
})
