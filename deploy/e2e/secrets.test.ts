import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { WebSocket } from 'ws'
import { claimsOf, makeToken, rawExchange, until } from '../../gateway/test-kit.ts'
import { childEnv, run } from '../local/run.ts'
import { call } from './call.ts'
import { type Binary, startWorld } from './test-kit.ts'

/*
 * Every world of the end-to-end tests searches at its end what its processes wrote and answered for every
 * secret it knows (leak-watch.ts). Here a world is made to fail in every way that was found, with a secret in each part
 * of each message.
 */
const world = await startWorld({ tenants: 3, apps: 1, isRecorded: true })
t.teardown(world.close)
const { acme, globex, keys, leaks } = world
const app = world.apps[0] as Binary
const { accessToken: token } = await world.login(acme)
const ROOT = join(import.meta.dirname, '../..')

/** A new secret, watched for from now on. */
function marker(name: string, audience?: 'its client'): string {
  const value = `marker-${randomBytes(15).toString('hex')}`
  leaks.plant(name, value, audience)
  return value
}

t.test('credentials of every kind that are refused', async t => {
  const bearer = (text: string) => ({ headers: { authorization: text } })
  const { acme: _acme, ...strange } = { acme, alg: 'none' }
  const expired = makeToken(keys.jwtAccess, { ...claimsOf(acme), exp: 1 })
  const foreign = makeToken(marker('a foreign secret'), claimsOf(acme))
  const unsigned = `${base64url({ typ: 'JWT', ...strange })}.${base64url(claimsOf(acme))}.`
  const basic = Buffer.from(`user:${marker('a Basic password')}`).toString('base64')
  for (const options of [
    bearer(`Bearer ${marker('no token at all')}`),
    bearer(`Bearer ${marker('a head')}.${marker('a body')}.${marker('a tag')}`),
    bearer(`Bearer ${base64url({ alg: marker('an alg') })}.${marker('claims')}.x`),
    bearer(`Basic ${basic}`),
    bearer(marker('no scheme')),
    { token: expired },
    { token: foreign },
    { token: unsigned },
    { token: makeToken(keys.jwtAccess, { ...claimsOf(acme), tenant_id: marker('a tenant id') }) },
    { token: makeToken(keys.jwtAccess, { ...claimsOf(acme), type: marker('a type') }) },
    { headers: { cookie: `session=${marker('a cookie')}` } },
    { headers: { 'x-admin-api-key': marker('an admin key') } },
    { headers: { 'x-tenant-context': marker('a context'), x_tenant_request: marker('a tag') } },
  ]) {
    for (const { origin } of [world.gateway, app]) {
      const answer = await call(origin, `/api/projects?key=${marker('a query')}`, options)
      t.equal(answer.status, 401)
    }
  }
  const json = { refreshToken: marker('a refresh token'), tempToken: marker('a 2FA token') }
  for (const path of ['refresh-token', 'verify-2fa']) {
    t.equal((await world.call(`/api/auth/${path}`, { method: 'POST', json })).status, 401, path)
  }
  for (const tenant_key of ['acme', 'nobody', marker('a tenant key').slice(0, 60)]) {
    const login = { tenant_key, email: acme.email, password: marker('a wrong password') }
    const answer = await world.call('/api/auth/login', { method: 'POST', json: login })
    t.equal(answer.status, 401)
  }
})

t.test('bodies, fields and queries that are refused or that fail half-way', async t => {
  const bodies: [string, string][] = [
    ['application/json', `{"tenant_key":"acme","password": ${marker('bad JSON')}`],
    ['application/json', `${marker('no JSON')}`],
    ['application/json', `{"password":"${marker('a string without end')}`],
    ['application/json', `{"tenant_key":"a","tenant_key":"${marker('a duplicate')}"}`],
    ['application/json', `{"tenant_key":["${marker('a wrong type')}"],"name":{"x":"y"}}`],
    ['application/json', `{"refreshToken":7,"name":"${marker('with NUL')}\\u0000"}`],
    ['application/json', `"${'x'.repeat(70_000)}${marker('a long body')}"`],
    ['application/x-www-form-urlencoded', `tenant_key=a&tenant_key=${marker('a form')}`],
    [marker('a content type'), marker('a body of no type')],
    [
      `application/json; charset=${marker('a charset')}`,
      `{"name":"${marker('of a charset', 'its client')}"}`,
    ],
  ]
  for (const [type, body] of bodies) {
    for (const path of ['auth/login', 'auth/refresh-token', 'auth/change-password', 'projects']) {
      const headers = { 'content-type': type }
      const answer = await world.call(`/api/${path}`, { method: 'POST', token, headers, body })
      t.match(answer.status, /^(201|4\d\d)$/, `${type} to ${path}: ${answer.status}`)
    }
  }
  const paths = [`projects?limit=${marker('a limit')}`, `files/x?token=${marker('a token')}`]
  for (const path of [...paths, `%2e%2e?x=${marker('no canonical path')}`, `none?${marker('?')}`]) {
    const answer = await world.call(`/api/${path}`, { token })
    t.match(answer.status, /^4\d\d$/, path)
  }
  const change = { currentPassword: marker('a password'), newPassword: marker('a new one') }
  const options = { method: 'POST', token, json: change }
  t.equal((await world.call('/api/auth/change-password', options)).status, 400)
  const planted = { name: 'planted', description: marker('of a project', 'its client') }
  const created = { method: 'POST', token, json: planted }
  t.equal((await world.call('/api/projects', created)).status, 201)
  const file = { method: 'PUT', token, body: marker('a file', 'its client') }
  t.equal((await world.call('/api/files/planted.txt', file)).status, 201)
  t.equal((await world.call('/api/files/planted.txt', { token })).status, 200)
})

t.test('heads that no parser takes, upgrades that are refused', async t => {
  const heads = () => [
    `GET /api/x HTTP/1.1\r\nHost: x\r\nAuthorization Bearer ${marker('no colon')}\r\n\r\n`,
    `GET /api/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${marker('NUL')}\0\r\n\r\n`,
    `GET /api/x HTTP/1.1\r\nHost: x\r\nCookie: a=${marker('bare LF')}\n b\r\n\r\n`,
    `GET /api/x?${marker('a version')} HTTP/7.1\r\nHost: x\r\n\r\n`,
    `GET /api/x HTTP/1.1\r\nHost: x\r\nContent-Length: ${marker('a length')}\r\n\r\n`,
    `${marker('a method')} /api/x HTTP/1.1\r\nHost: x\r\n\r\n`,
    `POST /api/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${marker('a chunk')}\r\n`,
    `GET /api/x HTTP/1.1\r\nHost: x\r\nX-Long: ${marker('long')}${'x'.repeat(70_000)}\r\n\r\n`,
  ]
  const ports = [world.gateway.port, app.port, Number(new URL(app.adminOrigin).port)]
  for (const port of [...ports, Number(new URL(world.gateway.adminOrigin).port)]) {
    for (const head of heads()) leaks.note(`raw answer of ${port}`, await rawExchange(port, head))
  }
  for (const { origin } of [world.gateway, app]) {
    const url = `${origin.replace('http', 'ws')}/api/ws?token=${marker('of an upgrade')}`
    const socket = new WebSocket(url, { headers: { authorization: `Bearer ${marker('bad')}` } })
    const [error] = await once(socket, 'error')
    t.match(error.message, /401/)
  }
})

t.test('a tenant whose database or bucket refuses, and the commands that say so', async t => {
  const { accessToken } = await world.login(globex)
  const who = () => world.call('/api/whoami', { token: accessToken })
  const bucket = ['--bucket-name', 'shared', '--bucket-prefix', 'globex/']
  const at = ['--bucket-region', 'us-east-1', '--bucket-endpoint']
  const access = marker('an access key')
  const secret = marker('a secret key')
  const line = `${access}\n${secret}\n`
  t.match(await world.cli(['set-bucket', 'globex', ...bucket, ...at, world.s3Endpoint], line), {
    code: 0,
  })
  await until(async () => {
    return (await world.call('/api/files', { token: accessToken })).status === 503
  })
  t.equal((await world.cli(['set-db', 'globex'], `${marker('a wrong password')}\n`)).code, 0)
  await until(async () => (await who()).status === 503, 5000)
  t.equal((await world.migrateTenants()).code, 1, 'its migration fails')
  const user = [
    'add-user',
    'globex',
    '--email',
    'b@globex.example',
    '--name',
    'B',
    '--role-id',
    '1',
  ]
  t.not((await world.cli(user, `${marker('of a user')}\n`)).code, 0)
  const dead = ['set-db', 'globex', '--db-host', '127.0.0.1', '--db-port', '1']
  t.equal((await world.cli(dead, `${marker('of a dead database')}\n`)).code, 0)
  t.equal((await who()).status, 503)
  const host = ['set-db', 'globex', '--db-host', 'nowhere.invalid']
  t.equal((await world.cli(host, `${marker('of no database')}\n`)).code, 0)
  t.equal((await who()).status, 503)

  for (const command of ['list', 'show globex', 'show acme', 'suspend globex', 'help']) {
    const finished = await world.cli(command.split(' '))
    t.equal(finished.code, 0, finished.output)
  }
  const db = { host: 'h', port: 'five', password: marker('in a batch') }
  const batch = JSON.stringify({ key: 'newer', db, bucket: { secret_key: marker('in a batch') } })
  t.equal((await world.cli(['create', '--batch'], `${batch}\n`)).code, 1)
  const broken = `not JSON ${marker('a broken line')}\n`
  t.not((await world.cli(['create', '--batch'], broken)).code, 0)
})

t.test('replicas that break the protocol or are gone', async t => {
  const answers = [
    () => `HTTP/1.1 200 OK\r\nX Bad ${marker('a field name')}: x\r\n\r\n`,
    () => `HTTP/1.1 200 OK\r\nContent-Length: ${marker('a length')}\r\n\r\n`,
    () => `${marker('a status line')}\r\n\r\n`,
    () => '',
  ]
  let turn = 0
  const server = createServer(socket => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(answers[turn]?.() ?? ''))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const gateway = await world.startGateway({ APP_UPSTREAMS: `http://127.0.0.1:${port}` })
  for (turn = 0; turn < answers.length; turn += 1) {
    t.equal((await call(gateway.origin, '/api/whoami', { token })).status, 502)
  }
  server.close()
  await until(async () => (await call(gateway.origin, '/api/whoami', { token })).status === 502)
})

t.test('a process that ends by an uncaught error tells nothing that hangs on it', async t => {
  const hung = `{client:{password:process.env.JWT_SECRET_ACCESS_TOKEN},detail:process.env.TENANT_CONTEXT_ENCRYPTION_KEY}`
  const crash = `process.on("SIGUSR2",()=>{throw Object.assign(new Error("planted crash"),${hung})})`
  const reject = `process.on("SIGUSR2",()=>{Promise.reject(${hung})})`
  const ends = [crash, reject].flatMap(script => {
    const NODE_OPTIONS = `--import=data:text/javascript,${encodeURIComponent(script)}`
    return [world.startApp({ NODE_OPTIONS }), world.startGateway({ NODE_OPTIONS })]
  })
  for (const binary of await Promise.all(ends)) {
    process.kill(binary.pid, 'SIGUSR2')
    t.match(await binary.exited, /exit code 70/)
    t.match(binary.lines.at(-1), /uncaught exception|unhandled rejection/)
  }
})

t.test('binaries and commands that do not start', async t => {
  const env = {
    ...childEnv(),
    ...{ HOST: '127.0.0.1', PORT: '0', ADMIN_PORT: '0', LOG_LEVEL: 'trace' },
    JWT_SECRET_ACCESS_TOKEN: keys.jwtAccess,
    JWT_SECRET_REFRESH_TOKEN: keys.jwtRefresh,
    MASTER_ENCRYPTION_KEY: keys.masterKey,
    TENANT_REGISTRY_DB_URL: world.registryUrl,
    TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(keys.contextSigning),
    TENANT_CONTEXT_ENCRYPTION_KEY: keys.contextContent,
    APP_UPSTREAMS: app.origin,
  }
  const wrongUrl = new URL(world.registryUrl)
  wrongUrl.password = marker('a wrong Registry password')
  const attempts: [string, Record<string, string>][] = [
    ['gateway/main.ts', { MASTER_ENCRYPTION_KEY: marker('another master key') }],
    ['gateway/main.ts', { TENANT_CONTEXT_SIGNING_KEY: `{"d":"${marker('a signing key')}` }],
    ['gateway/main.ts', { TENANT_CONTEXT_ENCRYPTION_KEY: marker('a content key') }],
    ['gateway/main.ts', { TENANT_REGISTRY_DB_URL: `mysql://u:${marker('in a URL')}@h/d` }],
    ['gateway/main.ts', { TENANT_REGISTRY_DB_URL: `postgres://u:${marker('no host')}@/` }],
    [
      'gateway/main.ts',
      { NODE_ENV: 'production', JWT_SECRET_ACCESS_TOKEN: marker('x').slice(0, 20) },
    ],
    [
      'app/main.ts',
      { TENANT_CONTEXT_PUBLIC_KEYS: `{"keys":[{"d":"${marker('a private key')}"}]}` },
    ],
    ['app/main.ts', { BUCKET_SECRET_KEY: marker('of the default bucket') }],
    ['registry/cli/main.ts', { TENANT_REGISTRY_DB_URL: wrongUrl.href }],
    ['registry/cli/main.ts', { MASTER_ENCRYPTION_KEY: marker('another master key') }],
    ['migrations/registry-migrate.ts', { TENANT_REGISTRY_DB_URL: wrongUrl.href }],
    ['migrations/tenant-migrate.ts', { MASTER_ENCRYPTION_KEY: marker('another master key') }],
  ]
  const runs = attempts.map(async ([script, change]) => {
    const args = script.includes('cli') ? [script, 'set-db', 'acme'] : [script]
    const input = `${marker('a database password')}\n`
    const options = { cwd: ROOT, env: { ...env, ...change }, input }
    const { code, output } = await run(process.execPath, args, 20_000, options)
    t.not(code, 0, `${script}: ${output}`)
    leaks.note(`output of ${script}`, output)
  })
  await Promise.all(runs)
})

t.test('no secret is in any log, metric, error body or field of an answer', async t => {
  await world.close()
  const { secrets, texts, chars } = leaks.counts
  t.comment(`${secrets} secrets, ${texts} texts, ${chars} characters`)
  t.ok(secrets > 150 && texts > 100 && chars > 50_000, 'there was something to search')
  t.strictSame(leaks.findLeaks(), [])
})

function base64url(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
