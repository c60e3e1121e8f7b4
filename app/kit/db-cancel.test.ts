import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { makeCertificateAuthority } from '../../deploy/local/certificates.ts'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import { findPostgres, makeTemporary, own } from '../../deploy/local/postgres-host.ts'
import { startFaultProxy } from '../../registry/fault-proxy.ts'
import {
  claimsOf,
  makeKeys,
  makeTenant,
  metricOf,
  sql,
  startApp,
  type TestTenant,
  until,
} from '../test-kit.ts'
import { makeDb } from './db.ts'
import { Cancels, sendCancel } from './db-cancel.ts'

const { account } = await findPostgres()
const folder = await makeTemporary('doorman-test-cancel-', account)
t.teardown(() => rm(folder, { recursive: true, force: true }))
const authority = makeCertificateAuthority()
const ca = authority.cert
const { cert, key } = authority.issue({ names: ['localhost'] })
const files = {
  ssl_cert_file: join(folder, 'server.crt'),
  ssl_key_file: join(folder, 'server.key'),
}
await writeFile(files.ssl_cert_file, cert)
await writeFile(files.ssl_key_file, key, { mode: 0o600 })
for (const file of Object.values(files)) await own(file, account)
const server = await startTestPostgres({ ssl: 'on', ...files })
t.teardown(() => server.stop())
const keys = makeKeys()
const target = { address: server.host, port: server.port, host: server.host } as const

const running = async ({ db }: TestTenant) => {
  const text = `SELECT FROM pg_stat_activity WHERE usename = $1 AND state = 'active'`
  return (await sql(server, 'postgres', text, [db.user])).length
}

t.test('over TLS a cancel is encrypted, and the certificate is checked', async t => {
  const app = await startApp(keys, { DB_SSL_CA: ca })
  t.teardown(() => app.stop())
  const tenant = await makeTenant(server, 'tls')
  tenant.db = { ...tenant.db, host: 'localhost', ssl: 'verify-full' }
  const controller = new AbortController()
  const claims = claimsOf(tenant)
  const db = makeDb(
    () => app.pools.lease(claims),
    () => controller.signal,
  )
  const [session] = await db.query<{ ssl: boolean }>(
    'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()',
  )
  t.strictSame(session, { ssl: true })
  const slow = db.query('SELECT pg_sleep(10)')
  await until('it runs', async () => (await running(tenant)) === 1)
  controller.abort()
  await t.rejects(slow, { code: 'BAD_REQUEST' })
  db.release()
  t.equal(await metricOf(app, 'doorman_app_db_cancels_total{result="cancelled"}'), 1)
  await until('its connection is back', () => app.pools.figures.idle === 1)

  const nobody = { ...target, processId: 1, secret: 1 }
  const trusted = { ca, rejectUnauthorized: true }
  t.ok(await sendCancel({ ...nobody, host: 'localhost', ssl: trusted }, 3000))
  t.notOk(await sendCancel({ ...nobody, host: 'other.example', ssl: trusted }, 3000))
  t.notOk(await sendCancel({ ...nobody, ssl: { rejectUnauthorized: true } }, 3000))
})

t.test('a cancel has a deadline, and there are so many at a time', async t => {
  const link = await startFaultProxy(server)
  t.teardown(() => link.stop())
  link.set({ stall: true })
  const silent = { ...target, port: link.port, processId: 1, secret: 1, ssl: false } as const
  const cancels = new Cancels(1)
  const first = cancels.send(silent)
  t.notOk(await cancels.send(silent), 'one too many is refused at once')
  t.notOk(await first, 'nobody knows')
  await until('its socket is gone', () => link.connections === 0)
  await link.restore()
  t.ok(await cancels.send(silent), 'the place is free again')
  link.cut()
  t.notOk(await cancels.send(silent), 'a closed port')
})
