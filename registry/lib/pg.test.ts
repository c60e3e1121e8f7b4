import { createServer } from 'node:net'
import t from 'tap'
import { connectPg, parsePgUrl, sslOptions } from './pg.ts'

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
