import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import { startS3 } from '../../deploy/local/s3.ts'
import { startFaultProxy } from '../../registry/fault-proxy.ts'
import {
  makeKeys,
  makeTenant,
  metricOf,
  startApp,
  type TestApp,
  TestGateway,
  type TestTenant,
  until,
} from '../test-kit.ts'

const server = await startTestPostgres()
t.teardown(() => server.stop())
const dataDir = await mkdtemp(join(tmpdir(), 'doorman-test-s3-'))
t.teardown(() => rm(dataDir, { recursive: true, force: true }))
const s3 = await startS3({ dataDir, buckets: ['own'] })
t.teardown(() => s3.stop())
const keys = makeKeys()
const gateway = new TestGateway(keys)
const bucket = {
  provider: 's3',
  endpoint: s3.endpoint,
  region: 'us-east-1',
  name: 'own',
  prefix: 'p',
  access_key: s3.accessKey,
  secret_key: s3.secretKey,
}
const list = (app: TestApp, tenant: TestTenant) =>
  gateway.call(app.port, tenant, 'GET', '/api/files')

async function start(t: Test, env: Record<string, string>): Promise<TestApp> {
  const app = await startApp(keys, env)
  t.teardown(() => app.stop())
  return app
}

t.test('a storage that is down is tried now and then; other tenants use theirs', async t => {
  const app = await start(t, { BREAKER_BACKOFF_MS: '400', BREAKER_BACKOFF_MAX_MS: '400' })
  const link = await startFaultProxy({ host: '127.0.0.1', port: s3.port })
  t.teardown(() => link.stop())
  const good = { ...(await makeTenant(server, 'good')), bucket }
  const tenant = await makeTenant(server, 'down')
  tenant.bucket = { ...bucket, endpoint: `http://127.0.0.1:${link.port}` }
  t.equal((await list(app, tenant)).status, 200)
  link.target('127.0.0.1', 1)
  link.resetAll()
  for (let i = 0; i < 3; i += 1) {
    const answer = await list(app, tenant)
    t.match(answer.json, { code: 'TENANT_BUCKET_UNAVAILABLE' })
    t.equal(answer.headers['x-tenant-fault'], 'bucket_unreachable')
  }
  t.equal(await metricOf(app, 'doorman_app_breakers_open{kind="bucket"}'), 1)
  t.equal((await list(app, good)).status, 200)
  t.equal(
    (await gateway.call(app.port, tenant, 'GET', '/api/whoami')).status,
    200,
    'its database is none of this',
  )
  link.target('127.0.0.1', s3.port)
  await until('it is served', async () => (await list(app, tenant)).status === 200)
  t.equal(await metricOf(app, 'doorman_app_breakers_open{kind="bucket"}'), 0)
})

t.test('keys that are refused open the breaker; new ones work at once', async t => {
  const app = await start(t, { BREAKER_BACKOFF_MS: '60000', BREAKER_BACKOFF_MAX_MS: '60000' })
  const tenant = await makeTenant(server, 'rotated')
  tenant.bucket = { ...bucket, secret_key: 'not-this-one' }
  const answers = []
  for (let i = 0; i < 5; i += 1) answers.push(await list(app, tenant))
  for (const { status, headers } of answers) {
    t.equal(status, 503)
    t.equal(headers['x-tenant-fault'], 'bucket_auth')
  }
  t.equal(answers[2]?.headers['retry-after'], '5')
  t.ok(Number(answers[3]?.headers['retry-after']) > 20, 'what is left of the back-off')
  tenant.bucket = bucket
  tenant.version = 2
  t.equal((await list(app, tenant)).status, 200)
})

t.test('a refusal that may be about one bucket or one object opens no breaker', async t => {
  const app = await start(t, { BREAKER_FAILURES: '1' })
  const tenant = await makeTenant(server, 'lost')
  tenant.bucket = { ...bucket, name: 'nowhere' }
  for (let i = 0; i < 3; i += 1) {
    const answer = await list(app, tenant)
    t.match(answer, { status: 503, headers: { 'x-tenant-fault': 'bucket_auth' } })
    t.equal(answer.headers['retry-after'], '5')
  }
  tenant.bucket = bucket
  tenant.version = 2
  for (let i = 0; i < 3; i += 1) {
    t.equal((await gateway.call(app.port, tenant, 'GET', '/api/files/none')).status, 404)
  }
  t.equal(await metricOf(app, 'doorman_app_breakers_open{kind="bucket"}'), 0)
})
