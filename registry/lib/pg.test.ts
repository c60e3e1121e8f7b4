import { rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { makeCertificateAuthority } from '../../deploy/local/certificates.ts'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import { findPostgres, makeTemporary, own } from '../../deploy/local/postgres-host.ts'
import { closePg, connectPg, parsePgUrl, sslOptions } from './pg.ts'

t.test('a URL is read in full, escapes and IPv6 included', async t => {
  t.strictSame(parsePgUrl('postgres://us%40er:p%2Fw%3A@db.example:6432/na%20me'), {
    ...{ host: 'db.example', port: 6432, database: 'na me', user: 'us@er', password: 'p/w:' },
    ssl: false,
  })
  t.match(parsePgUrl('postgresql://u@[::1]/d'), { host: '::1', port: 5432, password: '' })
  t.strictSame(parsePgUrl('postgres://u@h/d', 'PEM').ssl, { ca: 'PEM', rejectUnauthorized: true })
  t.equal(parsePgUrl('postgres://u@h/d?sslmode=disable', 'PEM').ssl, false)
})

t.test(
  'TLS is checked against a CA wherever there is one; a misspelt mode is no way out of it',
  async t => {
    t.strictSame(sslOptions('require'), { rejectUnauthorized: false })
    t.strictSame(sslOptions('require', 'PEM'), { ca: 'PEM', rejectUnauthorized: true })
    t.strictSame(sslOptions('verify-full'), { rejectUnauthorized: true })
    t.equal(sslOptions(null), false)
    for (const odd of ['', 'off', 'prefer', 'verify_full'])
      t.throws(() => sslOptions(odd), /sslmode/)
  },
)

t.test(
  'a server that accepts and stays silent costs the time-out, and its socket is cut',
  async t => {
    let closed: () => void = () => {}
    const cut = new Promise<void>(resolve => {
      closed = resolve
    })
    const server = createServer(socket => {
      socket.on('error', () => {})
      socket.on('close', closed)
      socket.resume()
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const limits = { connectTimeoutMs: 100, statementTimeoutMs: 0, applicationName: 'test' }
    const startedAt = Date.now()
    const target = parsePgUrl(`postgres://u:MARKER@127.0.0.1:${port}/d`)
    const error = await connectPg(target, limits).then(
      () => null,
      (e: Error) => e,
    )
    t.match(error, { message: 'no connection to PostgreSQL within 100 ms' })
    t.notMatch(String(error?.stack), 'MARKER')
    t.ok(Date.now() - startedAt < 1000)
    await cut
    server.close()
  },
)

t.test('a PostgreSQL with TLS is verified by CA and by name, and never used without', async t => {
  const ca = makeCertificateAuthority()
  const { account } = await findPostgres()
  const folder = await makeTemporary('doorman-test-pg-tls-', account)
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const { cert, key } = ca.issue({ names: ['localhost'] })
  const files = {
    ssl_cert_file: join(folder, 'server.crt'),
    ssl_key_file: join(folder, 'server.key'),
  }
  await writeFile(files.ssl_cert_file, cert)
  await writeFile(files.ssl_key_file, key, { mode: 0o600 })
  for (const file of Object.values(files)) await own(file, account)
  const postgres = await startTestPostgres({ ssl: 'on', ...files })
  t.teardown(() => postgres.stop('immediate'))
  const byAddress = postgres.url('postgres')
  const byName = byAddress.replace('@127.0.0.1:', '@localhost:')
  const limits = { connectTimeoutMs: 5000, statementTimeoutMs: 5000, applicationName: 'test' }

  const client = await connectPg(parsePgUrl(byName, ca.cert), limits)
  const sql = 'SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()'
  t.match((await client.query(sql)).rows, [{ ssl: true, version: /^TLSv1\.[23]$/ }])
  await closePg(client)

  const stranger = makeCertificateAuthority('Somebody else').cert
  await t.rejects(connectPg(parsePgUrl(byName, stranger), limits), /certificate/)
  await t.rejects(connectPg(parsePgUrl(`${byName}?sslmode=verify-full`), limits), /certificate/)
  const misnamed = connectPg(parsePgUrl(byAddress, ca.cert), limits)
  await t.rejects(misnamed, { code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
})

t.test('a PostgreSQL without TLS is refused where a CA is set', async t => {
  const postgres = await startTestPostgres()
  t.teardown(() => postgres.stop('immediate'))
  const limits = { connectTimeoutMs: 5000, statementTimeoutMs: 5000, applicationName: 'test' }
  const target = parsePgUrl(postgres.url('postgres'), makeCertificateAuthority().cert)
  await t.rejects(connectPg(target, limits), /does not support SSL/)
})
