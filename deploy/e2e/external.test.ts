import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import { until } from '../../gateway/test-kit.ts'
import { publicKeys } from '../local/keys.ts'
import { freePort } from '../local/ports.ts'
import { childEnv } from '../local/run.ts'
import { startWorld } from './test-kit.ts'

const ROOT = join(import.meta.dirname, '../..')

t.test('npm start against a Registry that exists serves its tenants, in production', async t => {
  const world = await startWorld({ apps: 0 })
  t.teardown(() => world.close())
  const ports = await Promise.all(Array.from({ length: 4 }, () => freePort()))
  const [port, adminPort, appPort, appAdminPort] = ports.map(String) as [
    string,
    string,
    string,
    string,
  ]
  const outputs: { text: string }[] = []
  const start = (env: NodeJS.ProcessEnv) => {
    const child = spawn(process.execPath, ['deploy/local/start.ts'], {
      cwd: ROOT,
      env: {
        ...childEnv(),
        TENANT_REGISTRY_DB_URL: world.registryUrl,
        MASTER_ENCRYPTION_KEY: world.keys.masterKey,
        JWT_SECRET_ACCESS_TOKEN: world.keys.jwtAccess,
        JWT_SECRET_REFRESH_TOKEN: world.keys.jwtRefresh,
        TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(world.keys.contextSigning),
        TENANT_CONTEXT_PUBLIC_KEYS: publicKeys(world.keys),
        TENANT_CONTEXT_ENCRYPTION_KEY: world.keys.contextContent,
        HOST: '127.0.0.1',
        PORT: port,
        ADMIN_PORT: adminPort,
        APP_PORT: appPort,
        APP_ADMIN_PORT: appAdminPort,
        DRAIN_NOTICE_MS: '100',
        LOG_LEVEL: 'trace',
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const output = { text: '' }
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', chunk => {
        output.text += chunk
      })
    }
    t.teardown(() => child.kill('SIGKILL'))
    outputs.push(output)
    return { child, output, exited: once(child, 'exit') }
  }
  const login = () =>
    fetch(`http://127.0.0.1:${port}/api/auth/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        tenant_key: 'acme',
        email: 'admin@acme.example',
        password: 'doorman-demo',
      }),
    })

  const strict = start({})
  await until(() => strict.output.text.includes('Doorman is ready'), 30_000)
  const refused = await login()
  t.equal(refused.status, 503, 'a tenant database on loopback is refused unless it is allowed')
  t.match(await refused.json(), { code: 'TENANT_CONFIG_INVALID' })
  strict.child.kill('SIGINT')
  t.equal((await strict.exited)[0], 0)

  const allowed = start({ TENANT_ADDRESS_ALLOW: '127.0.0.0/8' })
  await until(() => allowed.output.text.includes('Doorman is ready'), 30_000)
  const answer = await login()
  t.equal(answer.status, 200)
  const { result } = (await answer.json()) as { result: { accessToken: string } }
  const profile = await fetch(`http://127.0.0.1:${port}/api/auth/profile`, {
    headers: { authorization: `Bearer ${result.accessToken}` },
  })
  t.match(await profile.json(), { result: { tenant: { key: 'acme' } } })
  allowed.child.kill('SIGINT')
  t.equal((await allowed.exited)[0], 0)
  world.leaks.plantToken('the access token', result.accessToken)
  for (const output of outputs) world.leaks.note('output of npm start', output.text)
})
