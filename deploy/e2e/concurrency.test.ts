import t from 'tap'
import { until } from '../../gateway/test-kit.ts'
import { DEMO_PASSWORD } from '../local/demo-tenants.ts'
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

t.test(
  'how long a refusal takes does not tell an unknown tenant from a wrong password',
  async t => {
    const samples = { wrong: [] as number[], unknown: [] as number[], suspended: [] as number[] }
    t.equal((await world.cli(['suspend', 'globex'])).code, 0)
    const bodies = {
      wrong: { tenant_key: 'acme', email: acme.email, password: 'wrong' },
      unknown: { tenant_key: 'nobody', email: acme.email, password: DEMO_PASSWORD },
      suspended: { tenant_key: 'globex', email: globex.email, password: DEMO_PASSWORD },
    }
    // Taken in turn, so that a busy machine is busy for all three.
    for (let i = 0; i < 40; i++) {
      for (const [kind, json] of Object.entries(bodies) as [keyof typeof bodies, object][]) {
        const startedAt = performance.now()
        const answer = await world.call('/api/auth/login', { method: 'POST', json })
        samples[kind].push(performance.now() - startedAt)
        t.equal(answer.code, 'INVALID_CREDENTIALS')
      }
    }
    const wrong = median(samples.wrong)
    for (const kind of ['unknown', 'suspended'] as const) {
      const factor = median(samples[kind]) / wrong
      t.ok(factor > 0.5 && factor < 2, `${kind}: ${factor.toFixed(2)} of a wrong password's median`)
      t.ok(overlap(samples[kind], samples.wrong) > 0.5, `${kind}: the samples mix`)
    }
  },
)

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] as number
}

/** Part of `values` that lies within the range of `others` without its extremes. */
function overlap(values: readonly number[], others: readonly number[]): number {
  const sorted = others.toSorted((a, b) => a - b)
  const [low = 0, high = 0] = [sorted[1], sorted.at(-2)]
  return values.filter(value => value >= low && value <= high).length / values.length
}
