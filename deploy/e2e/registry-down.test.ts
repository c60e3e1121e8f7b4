import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import t from 'tap'
import { until } from '../../gateway/test-kit.ts'
import { call } from './call.ts'
import { startWorld } from './test-kit.ts'

const ADMIN_API_KEY = randomBytes(24).toString('hex')
const world = await startWorld({ isRegistryApart: true, gatewayEnv: { ADMIN_API_KEY } })
t.teardown(world.close)
// The second gateway never hears of globex before the Registry is gone.
const { acme, globex: stranger } = world
const atAcme = await world.login(acme)
const atStranger = await world.login(stranger)
const whoami = (token: string, origin = world.gateway.origin) =>
  call(origin, '/api/whoami', { token })

t.test('without its Registry a gateway serves the tenants it knows, and no other', async t => {
  // Rows count as fresh for a moment only, so that what is shown is the serving of stale ones.
  const gateway = await world.startGateway({ TENANT_CACHE_TTL_MS: '100' })
  t.equal((await whoami(atAcme.accessToken, gateway.origin)).status, 200)
  await world.stopRegistry()
  const stoppedAt = performance.now()
  const answers = []
  while (performance.now() - stoppedAt < 1500) {
    answers.push(await whoami(atAcme.accessToken, gateway.origin))
  }
  t.ok(answers.length >= 10, `${answers.length} answers`)
  t.strictSame([...new Set(answers.map(({ status }) => status))], [200])
  const unknown = await whoami(atStranger.accessToken, gateway.origin)
  t.match(unknown, { status: 503, code: 'REGISTRY_UNAVAILABLE' })
  t.match(unknown.headers, { 'retry-after': /^\d+$/ })
  const json = { tenant_key: 'nobody', email: 'a@b.example', password: 'x' }
  const login = await call(gateway.origin, '/api/auth/login', { method: 'POST', json })
  t.match(login, { status: 503, code: 'REGISTRY_UNAVAILABLE' }, 'not a 401: nobody knows')

  for (const path of ['/fleet', `/tenants/${acme.id}/state`, `/pulse?ids=${acme.id}`]) {
    const answer = await call(gateway.adminOrigin, `/api/admin${path}`, { token: ADMIN_API_KEY })
    t.match(answer, { status: 503, code: 'REGISTRY_UNAVAILABLE' }, `${path}: nobody can be asked`)
  }

  await world.startRegistry()
  await until(
    async () => (await whoami(atStranger.accessToken, gateway.origin)).status === 200,
    5000,
  )
  await until(
    async () =>
      (await call(gateway.origin, '/api/auth/login', { method: 'POST', json })).status === 401,
    5000,
  )
  t.equal((await world.cli(['suspend', stranger.key])).code, 0)
  await until(
    async () => (await whoami(atStranger.accessToken, gateway.origin)).status === 403,
    6000,
  )
  t.equal((await whoami(atAcme.accessToken, gateway.origin)).status, 200)
})

t.test('of a Registry on a server of its own nothing is left', async t => {
  const [row] = await world.registrySql('SHOW data_directory')
  const folder = String(row?.data_directory)
  t.ok(existsSync(folder))
  await world.close()
  t.notOk(existsSync(folder), 'wherever it lay')
})
