import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { request } from 'node:http'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { startTestPostgres } from '../deploy/local/postgres.ts'
import { childEnv } from '../deploy/local/run.ts'
import { makeKeys, makeTenant, send, sessionsOf, sql, TestGateway, until } from './test-kit.ts'

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url))
const server = await startTestPostgres()
t.teardown(() => server.stop())
const keys = makeKeys()
const gateway = new TestGateway(keys)
const acme = await makeTenant(server, 'acme')

interface Running {
  readonly child: ChildProcess
  readonly port: number
  readonly adminPort: number
  readonly lines: string[]
}

async function start(env: Record<string, string> = {}): Promise<Running> {
  const child = spawn(process.execPath, [MAIN], {
    env: { ...childEnv(), ...keys.env, PORT: '0', ADMIN_PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const lines: string[] = []
  const listening = new Promise<{ port: number; admin_port: number }>((resolve, reject) => {
    createInterface({ input: child.stdout as NonNullable<typeof child.stdout> }).on(
      'line',
      line => {
        lines.push(line)
        const entry = JSON.parse(line)
        if (entry.msg === 'listening') resolve(entry)
      },
    )
    child.once('exit', code => reject(new Error(`exit ${code}`)))
  })
  const { port, admin_port: adminPort } = await listening
  return { child, port, adminPort, lines }
}

t.test('the binary serves its tenant, and probes and metrics on the admin port', async t => {
  const app = await start({ MASTER_ENCRYPTION_KEY: 'not-for-the-app' })
  t.equal((await gateway.call(app.port, acme, 'GET', '/api/whoami')).status, 200)
  for (const path of ['/livez', '/readyz', '/metrics']) {
    t.equal((await send(app.adminPort, 'GET', path, [])).status, 200, path)
  }
  t.equal((await send(app.adminPort, 'GET', '/api/whoami', [])).status, 404)
  t.equal((await send(app.port, 'GET', '/readyz', [])).status, 200)
  t.equal((await send(app.port, 'GET', '/metrics', [])).status, 401)
  t.match(app.lines.join('\n'), /MASTER_ENCRYPTION_KEY is set/)
  t.notMatch(app.lines.join('\n'), /not-for-the-app/)
  app.child.kill('SIGTERM')
  t.same(await once(app.child, 'exit'), [0, null])
})

t.test('SIGTERM: not ready first, the running request finishes, then exit 0', async t => {
  const app = await start({ DRAIN_NOTICE_MS: '300' })
  await sql(
    server,
    acme.db.name,
    `CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN PERFORM pg_sleep(1); RETURN NEW; END $$;
     CREATE TRIGGER dawdle BEFORE INSERT ON projects FOR EACH ROW
       WHEN (NEW.name = 'slow') EXECUTE FUNCTION dawdle()`,
  )
  const slow = gateway.call(app.port, acme, 'POST', '/api/projects', { body: { name: 'slow' } })
  await until('the query runs', async () => (await sessionsOf(server, acme)) === 1)
  const exited = once(app.child, 'exit')
  app.child.kill('SIGTERM')
  await until('not ready', async () => (await send(app.port, 'GET', '/readyz', [])).status === 503)
  t.equal((await slow).status, 201)
  t.same(await exited, [0, null])
  await until('no session is left', async () => (await sessionsOf(server, acme)) === 0)
})

t.test('SIGTERM: a client that never ends its upload does not hold the drain up', async t => {
  const app = await start({ DRAIN_NOTICE_MS: '0', DRAIN_TIMEOUT_MS: '500' })
  const context = await gateway.sign(acme, 'POST', '/api/projects')
  const endless = request({
    port: app.port,
    host: '127.0.0.1',
    method: 'POST',
    path: '/api/projects',
    headers: ['host', 'app', ...context, 'content-type', 'application/json', 'content-length', '9'],
  })
  endless.on('error', () => {})
  endless.write('{')
  await once(endless, 'socket')
  await gateway.call(app.port, acme, 'GET', '/api/whoami')
  const startedAt = performance.now()
  app.child.kill('SIGTERM')
  const [code] = await once(app.child, 'exit')
  t.equal(code, 0)
  t.ok(performance.now() - startedAt < 5000)
})

t.test('a bad environment is one list of all problems, exit 1, no stack, no value', async t => {
  const child = spawn(process.execPath, [MAIN], {
    env: {
      PATH: process.env.PATH,
      ...keys.env,
      NODE_ENV: 'production',
      PORT: 'x',
      JWT_SECRET_ACCESS_TOKEN: 'hunter2',
      JWT_SECRET_REFRESH_TOKEN: 'hunter2',
      TENANT_CONTEXT_PUBLIC_KEYS: JSON.stringify({ keys: [keys.signing] }),
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let text = ''
  child.stderr.on('data', chunk => {
    text += chunk
  })
  const [code] = await once(child, 'close')
  t.equal(code, 1)
  t.match(text, /PORT must be a whole number/)
  t.match(text, /TENANT_CONTEXT_PUBLIC_KEYS must be a JWKS of public/, 'a private key is refused')
  t.notMatch(text, /hunter2|\bat \w+.*:\d+:\d+/)
  t.notOk(text.includes(String(keys.signing.d)))
})
