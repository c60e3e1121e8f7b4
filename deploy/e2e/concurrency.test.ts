import t from 'tap'
import { until } from '../../gateway/test-kit.ts'
import { call } from './call.ts'
import { startWorld, type WorldTenant } from './test-kit.ts'

const POOL_MAX = 5
const REPLICAS = 2
const LOGINS = 200

const world = await startWorld({ apps: REPLICAS, appEnv: { DB_POOL_MAX: String(POOL_MAX) } })
t.teardown(world.close)
const { acme, globex } = world

t.test('200 logins at once all succeed, each at its own tenant, within the pools', async t => {
  const tenants = Array.from({ length: LOGINS }, (_, i) => (i % 2 === 0 ? acme : globex))
  const most = { [acme.database]: 0, [globex.database]: 0 }
  let isDone = false
  const spy = (async () => {
    while (!isDone) {
      const rows = await world.sql(
        'postgres',
        `SELECT datname, count(*)::int AS n FROM pg_stat_activity
         WHERE application_name = 'doorman-app' GROUP BY datname`,
      )
      for (const { datname, n } of rows as { datname: string; n: number }[]) {
        most[datname] = Math.max(most[datname] ?? 0, n)
      }
    }
  })()
  const sessions = await Promise.all(tenants.map(tenant => world.login(tenant)))
  isDone = true
  await spy
  for (const [database, n] of Object.entries(most)) {
    t.ok(n >= 1 && n <= POOL_MAX * REPLICAS, `${database}: at most ${n} connections`)
  }
  const claims = sessions.map(({ accessToken }) =>
    JSON.parse(Buffer.from(accessToken.split('.')[1] ?? '', 'base64url').toString()),
  )
  for (const [i, tenant] of tenants.entries()) {
    const { tenant_id, email } = claims[i]
    if (tenant_id !== tenant.id || email !== tenant.email) t.fail(`login ${i} is of ${tenant_id}`)
  }
  t.equal(new Set(sessions.map(({ refreshToken }) => refreshToken)).size, LOGINS)
  t.equal(new Set(sessions.map(({ id }) => id)).size, 2, 'one user per tenant')

  const answers = await Promise.all(
    sessions.map(({ accessToken: token }) => world.call('/api/whoami', { token })),
  )
  for (const [i, { status, result }] of answers.entries()) {
    const { database } = tenants[i] as WorldTenant
    if (status !== 200 || result.database !== database) t.fail(`${status} ${result.database}`)
  }
  const replicas = new Set(answers.map(({ result }) => result.replica))
  t.equal(replicas.size, REPLICAS, 'both replicas took part')
  for (const { database } of [acme, globex]) {
    const [row] = await world.sql(database, 'SELECT count(*)::int AS n FROM refresh_tokens')
    t.strictSame(row, { n: LOGINS / 2 })
  }
  await until(async () => {
    const texts = await Promise.all(world.apps.map(app => call(app.adminOrigin, '/metrics')))
    return texts.every(({ text }) => /^doorman_app_pool_leases 0$/m.test(text))
  })
})
