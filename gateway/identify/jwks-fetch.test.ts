import { once } from 'node:events'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import t from 'tap'
import { makeCertificateAuthority } from '../../deploy/local/certificates.ts'
import { makeAddressPolicy } from '../../registry/lib/address.ts'
import { fetchJwks, type JwksFetchOptions } from './jwks-fetch.ts'
import { codeOf, startProvider } from './test-kit.ts'

const provider = await startProvider([{ kid: 'k' }])
t.teardown(() => provider.close())
t.beforeEach(() => {
  provider.respond = null
  provider.requests = 0
})
const get = (url = provider.jwksUrl, options: Partial<JwksFetchOptions> = {}) =>
  fetchJwks(url, {
    ...{ deadlineMs: 2000, bytesMax: 1000, isHttpsRequired: false, addressPolicy: null },
    ...options,
  })

t.test('the text of the key set is read, and no connection stays', async t => {
  t.strictSame(JSON.parse(await get(`${provider.jwksUrl}?v=1`)), { keys: [{ kid: 'k' }] })
  const count = await new Promise<number>((resolve, reject) => {
    const look = () =>
      provider.server.getConnections((error, n) => {
        if (error !== null) reject(error)
        else if (n === 0) resolve(n)
        else setTimeout(look, 5)
      })
    look()
  })
  t.equal(count, 0)
})

t.test('a redirect is not followed', async t => {
  const inside = await startProvider([{ kid: 'inside' }])
  t.teardown(() => inside.close())
  for (const status of [301, 302, 307, 308]) {
    provider.respond = (_, res) => res.writeHead(status, { location: inside.jwksUrl }).end()
    await t.rejects(get(), { message: `status ${status}` })
  }
  t.equal(inside.requests, 0)
})

t.test('only a complete 200 is an answer', async t => {
  for (const status of [204, 206, 404, 500, 503]) {
    provider.respond = (_, res) => res.writeHead(status).end('')
    await t.rejects(get(), { message: `status ${status}` })
  }
  provider.respond = (_, res) => {
    res.writeHead(200, { 'content-length': '100' }).write('{"keys":[]}')
    setTimeout(() => res.destroy(), 20)
  }
  await t.rejects(get())
  provider.respond = (_, res) => res.writeHead(200, { 'content-encoding': 'gzip' }).end('x')
  await t.rejects(get(), /content-encoding/)
})

t.test('an answer without end is cut at its bound', async t => {
  let sent = 0
  provider.respond = (_, res) => {
    const more = () => {
      sent += 500
      if (!res.destroyed) res.write(' '.repeat(500), () => setImmediate(more))
    }
    res.on('error', () => {})
    more()
  }
  await t.rejects(get(), { code: 'UND_ERR_RES_EXCEEDED_MAX_SIZE' })
  t.ok(sent < 1_000_000, `${sent} bytes were sent`)
})

t.test('a provider that hangs or drips is given up in time, and its socket closed', async t => {
  const sockets = new Set<Socket>()
  const server = createServer(socket => {
    sockets.add(socket.on('error', () => {}).on('close', () => sockets.delete(socket)))
    socket.once('data', bytes => {
      if (!bytes.includes('GET /drip')) return
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n')
      const timer = setInterval(() => socket.write(' '), 20)
      socket.on('close', () => clearInterval(timer))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  for (const path of ['/hang', '/drip']) {
    await t.rejects(get(`${origin}${path}`, { deadlineMs: 200 }), /within 200 ms/)
    const deadline = Date.now() + 2000
    while (sockets.size > 0 && Date.now() < deadline) await new Promise(go => setTimeout(go, 5))
    t.equal(sockets.size, 0, path)
  }
})

t.test('with an address policy only allowed addresses are connected to', async t => {
  const guarded = { addressPolicy: makeAddressPolicy([]) }
  const { port } = new URL(provider.origin)
  for (const host of [
    '127.0.0.1',
    'localhost',
    '[::1]',
    '[::ffff:127.0.0.1]',
    '0x7f.1',
    '2130706433',
  ])
    t.equal(
      await codeOf(() => get(`http://${host}:${port}/keys`, guarded)),
      'TENANT_CONFIG_INVALID',
      host,
    )
  t.equal(provider.requests, 0)
  t.ok(await get(provider.jwksUrl, { addressPolicy: makeAddressPolicy(['127.0.0.1']) }))
  t.equal(provider.requests, 1)
})

t.test('in production plain HTTP is refused, and so is what is no plain URL', async t => {
  await t.rejects(get(provider.jwksUrl, { isHttpsRequired: true }), /https: is required/)
  await t.rejects(get('file:///etc/passwd'), /not an http/)
  await t.rejects(get(provider.jwksUrl.replace('//', '//user:secret@')), {
    message: /^(?!.*secret).*user name/,
  })
  t.equal(provider.requests, 0)
})

t.test('over TLS only a provider with a certificate for its name is believed', async t => {
  const known = makeCertificateAuthority()
  const before = getCACertificates('default')
  setDefaultCACertificates([...before, known.cert])
  // What an operator may have set for something else does not count here.
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
  t.teardown(() => {
    setDefaultCACertificates(before)
    delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
  })
  let requests = 0
  const serve = async (authority: typeof known, name: string) => {
    const server = createHttpsServer(authority.issue({ names: [name] }), (_, res) => {
      requests++
      res.end('{"keys":[]}')
    })
    server.on('tlsClientError', () => {})
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => {
      server.close()
      server.closeAllConnections()
    })
    return `https://localhost:${(server.address() as AddressInfo).port}/keys`
  }
  t.equal(await get(await serve(known, 'localhost'), { isHttpsRequired: true }), '{"keys":[]}')
  t.equal(requests, 1)
  const stranger = makeCertificateAuthority('Stranger')
  await t.rejects(get(await serve(stranger, 'localhost')), { message: /certificate|issuer/ })
  await t.rejects(get(await serve(known, 'other.example')), {
    code: 'ERR_TLS_CERT_ALTNAME_INVALID',
  })
  t.equal(requests, 1)
})

t.test('a provider that is down is an error, not a crash', async t => {
  await t.rejects(get('http://127.0.0.1:1/keys'), { code: 'ECONNREFUSED' })
  await t.rejects(get('http://nobody.invalid/keys'))
  // Speaks plain HTTP where TLS is expected.
  await t.rejects(get(provider.jwksUrl.replace('http:', 'https:')))
})
