import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { REPLICA_PATH, STATE_PATH } from '../registry/lib/reserved-path.ts'
import { rawExchange, startGateway, startUpstream, startWorld } from './test-kit.ts'

const [world, upstream] = await Promise.all([startWorld(), startUpstream()])
const folder = await mkdtemp(join(tmpdir(), 'doorman-routes-'))
const file = join(folder, 'routes.json')
const route = (name: string, path: string, credential = 'access_token') => ({
  ...{ name, path, credential },
})
// A table that would let everything through, by every kind of credential.
await writeFile(
  file,
  JSON.stringify({
    routes: [
      route('state', STATE_PATH),
      route('state-login', '/.doorman/state/', 'login'),
      route('below', '/.doorman/*', 'login'),
      route('all', '/*'),
    ],
  }),
)
const gateway = await startGateway({
  ...world.env,
  APP_UPSTREAMS: upstream.origin,
  ROUTES_FILE: file,
})
t.teardown(async () => {
  await gateway.stop()
  upstream.close()
  await world.close()
  await rm(folder, { recursive: true, force: true })
})
const acme = await world.createTenant('acme')
const token = world.token(acme)

/** Status of a target as it is, and whether anything reached the app. */
async function ask(target: string, method = 'GET', more = ''): Promise<[string, number]> {
  upstream.requests.length = 0
  const answer = await rawExchange(
    gateway.port,
    `${method} ${target} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer ${token}\r\n` +
      `x-tenant-key: acme\r\n${more}connection: close\r\n\r\n`,
  )
  return [answer.slice(9, 12), upstream.requests.length]
}

t.test('whatever the routes say, no client reaches what is between gateway and app', async t => {
  t.strictSame(await ask('/.well-known/x'), ['200', 1], 'the table lets all else through')
  t.strictSame(
    await ask('/api/.doorman/state'),
    ['200', 1],
    'below another path it is the app’s own',
  )
  const targets = [
    ...[STATE_PATH, REPLICA_PATH],
    ...['/.doorman', '/.doorman/', '/.doorman/state/', '/.doorman/state?x=1', '/.doorman?/state'],
    ...['/.Doorman/state', '/.DOORMAN/STATE', '/.dOORMAN/sTATE', '/.doorman/other', '/.doorman2'],
    ...['/.doorman.json', '/.doorman%20/state', '/.doorman/%20state', '/.doorman:x/state'],
    ...['//.doorman/state', '/./.doorman/state', '/x/../.doorman/state', '/%2edoorman/state'],
    ...['/%2Edoorman/state', '/.doorma%6e/state', '/.%64oorman/state', '/.doorman%2fstate'],
    ...['/.doorman%5cstate', '/.doorman\\state', '/.doorman;x/state', '/.doorman/state;x'],
    ...['/%252edoorman/state', '/.doorman%252fstate', '/.doorman/state#x', '\\.doorman/state'],
    ...['http://gateway/.doorman/state', 'http://gateway/.DOORMAN/state', '.doorman/state'],
  ]
  for (const target of targets) {
    for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS']) {
      const [status, reached] = await ask(target, method, 'content-length: 0\r\n')
      t.ok(['400', '404'].includes(status), `${method} ${target}: ${status}`)
      t.equal(reached, 0, `${method} ${target} reaches no app`)
    }
  }
  const handshake =
    'upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
  const [status, reached] = await ask(STATE_PATH, 'GET', `${handshake}connection: upgrade\r\n`)
  t.strictSame([status, reached], ['404', 0], 'nor by an upgrade')
})
