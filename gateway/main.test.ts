import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { run } from '../deploy/local/run.ts'
import { startGateway, startUpstream, startWorld, until } from './test-kit.ts'

const ROOT = join(import.meta.dirname, '..')
const START_MS = 20_000

t.test('a bad environment is one list of problems, exit 1 and no stack trace', async t => {
  const { code, output } = await run(process.execPath, ['gateway/main.ts'], START_MS, {
    cwd: ROOT,
    env: { PORT: 'http', TENANT_CONTEXT_ENCRYPTION_KEY: 'planted-marker' },
  })
  t.equal(code, 1)
  for (const name of ['PORT', 'APP_UPSTREAMS', 'TENANT_REGISTRY_DB_URL', 'MASTER_ENCRYPTION_KEY']) {
    t.match(output, new RegExp(`- ${name} `))
  }
  t.notMatch(output, /planted-marker/)
  t.notMatch(output, / at .*\.ts/)
})

/** Files that a process has loaded once it has loaded `module`. */
async function loadedBy(module: string): Promise<string> {
  const script = `
    import { registerHooks } from 'node:module'
    registerHooks({ load: (url, context, next) => (console.log(url), next(url, context)) })
    await import('./gateway/${module}')`
  const args = ['--input-type=module', '--eval', script]
  const { code, output } = await run(process.execPath, args, START_MS, { cwd: ROOT, env: {} })
  t.equal(code, 0, output)
  t.match(output, new RegExp(`gateway/${module}`))
  return output
}

t.test('a worker loads no control plane, and a primary no data plane', async t => {
  const control = /registry\/admin\/api\/|registry\/console\/|node_modules\/fastify\//
  const data = /gateway\/(gateway|handle)\.ts|gateway\/http1\/server|node_modules\/undici\//
  const [worker, primary] = [await loadedBy('cluster-worker.ts'), await loadedBy('run-primary.ts')]
  t.notMatch(worker, control)
  t.match(worker, data)
  t.notMatch(primary, data)
  t.match(primary, control)
})

t.test('the gateway through the life of its Registry', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const tenant = await world.createTenant('acme')
  const env = { ...world.env, APP_UPSTREAMS: upstream.origin }
  t.teardown(async () => {
    upstream.close()
    await world.close()
  })
  const get = (url: string) =>
    fetch(`${url}/api/x`, { headers: { authorization: `Bearer ${world.token(tenant)}` } })

  await t.test('a wrong master key is one clear error at start', async t => {
    // The first gateway writes the key check.
    await (await startGateway(env)).stop()
    const { code, output } = await run(process.execPath, ['gateway/main.ts'], START_MS, {
      cwd: ROOT,
      env: { ...env, MASTER_ENCRYPTION_KEY: randomBytes(32).toString('hex') },
    })
    t.equal(code, 1)
    t.match(output, /MASTER_ENCRYPTION_KEY is not the key/)
    t.notMatch(output, / at .*\.ts/)
  })

  await t.test(
    'a Registry that is down at start: live, not ready, 503 with Retry-After',
    async t => {
      const { database, port } = { database: 'postgres', port: await closedPort() }
      const url = `postgres://user:password@127.0.0.1:${port}/${database}`
      const gateway = await startGateway(
        { ...env, TENANT_REGISTRY_DB_URL: url },
        { isReadyAwaited: false },
      )
      t.equal((await fetch(`${gateway.internalUrl}/livez`)).status, 200)
      t.equal((await fetch(`${gateway.internalUrl}/readyz`)).status, 503)
      const response = await get(gateway.url)
      t.equal(response.status, 503)
      t.match(response.headers.get('retry-after'), /^\d+$/)
      t.match(await response.json(), { code: 'REGISTRY_UNAVAILABLE' })
      t.equal(await gateway.stop(), 0)
      t.equal(upstream.requests.length, 0)
    },
  )

  await t.test('SIGTERM lets a request in flight end, then the process', async t => {
    const gateway = await startGateway(env)
    let answer = () => {}
    const arrived = new Promise<void>(resolve => {
      upstream.respond = (_, res) => {
        answer = () => res.end('late')
        resolve()
      }
    })
    const response = get(gateway.url)
    await arrived
    const exited = gateway.stop('SIGTERM')
    await until(async () => (await fetch(`${gateway.internalUrl}/readyz`)).status === 503)
    const refused = connect(gateway.port, '127.0.0.1')
    t.equal(((await once(refused, 'error'))[0] as NodeJS.ErrnoException).code, 'ECONNREFUSED')
    answer()
    t.equal(await (await response).text(), 'late')
    t.equal((await response).headers.get('connection'), 'close')
    t.equal(await exited, 0)
  })
})

async function closedPort(): Promise<number> {
  const upstream = await startUpstream()
  const { port } = new URL(upstream.origin)
  upstream.close()
  return Number(port)
}
