import t from 'tap'
import { setSchemaVersions } from '../registry/migration-note.ts'
import type { Tenant } from '../registry/tenant.ts'
import { requireSchema } from './schema-gate.ts'
import { startGateway, startUpstream, startWorld, until } from './test-kit.ts'

t.test('a version is compared by its four digits, and what is none is below any', async t => {
  const tenant = (schemaVersion: string | null, appUrl: string | null = null) =>
    ({ schemaVersion, appUrl }) as Tenant
  const isServed = (one: Tenant, min: string | null) => {
    try {
      return requireSchema(one, min) === one
    } catch (error) {
      t.match(error, { code: 'TENANT_MIGRATING', status: 503, retryAfterS: 10 })
      return false
    }
  }
  for (const version of ['0002', '0010', '9999']) t.ok(isServed(tenant(version), '0002'), version)
  for (const version of [null, '0001', '', '2', '20240101-init.js']) {
    t.notOk(isServed(tenant(version), '0002'), String(version))
    t.ok(isServed(tenant(version), null), 'without a gate')
    t.ok(isServed(tenant(version, 'http://own'), '0002'), 'of a deployment of its own')
  }
})

t.test(
  'a tenant below the app’s schema is refused until it is migrated, and nobody else',
  async t => {
    const world = await startWorld()
    const upstream = await startUpstream()
    const behind = await world.createTenant('behind')
    const current = await world.createTenant('current')
    await setSchemaVersions(
      world.store,
      new Map([
        [behind.id, '0001'],
        [current.id, '0002'],
      ]),
    )
    const gateway = await startGateway({
      ...world.env,
      APP_UPSTREAMS: upstream.origin,
      TENANT_SCHEMA_MIN: '0002',
    })
    t.teardown(async () => {
      await gateway.stop('SIGKILL')
      upstream.close()
      await world.close()
    })
    const token = { behind: world.token(behind), current: world.token(current) }
    const get = (key: keyof typeof token) =>
      fetch(`${gateway.url}/api/projects`, { headers: { authorization: `Bearer ${token[key]}` } })
    for (let i = 0; i < 3; i++) {
      const refused = await get('behind')
      t.equal(refused.status, 503)
      t.equal(refused.headers.get('retry-after'), '10')
      t.match(await refused.json(), { status: false, code: 'TENANT_MIGRATING' })
      t.equal((await get('current')).status, 200)
    }
    const login = await fetch(`${gateway.url}/api/auth/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ tenant_key: 'behind', email: 'a@b.example', password: 'x' }),
    })
    t.match(await login.json(), { code: 'TENANT_MIGRATING' })
    t.equal(upstream.requests.length, 3, 'nothing of the tenant reached the app')

    await setSchemaVersions(world.store, new Map([[behind.id, '0002']]))
    await until(async () => (await get('behind')).status === 200)
    await setSchemaVersions(world.store, new Map([[behind.id, '0001']]))
    await until(async () => (await get('behind')).status === 503)
    t.equal((await get('current')).status, 200)
  },
)
