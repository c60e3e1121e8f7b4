import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import * as tls from 'node:tls'
import t, { type Test } from 'tap'
import { WebSocket, WebSocketServer } from 'ws'
import {
  type CertificateAuthority,
  makeCertificateAuthority,
} from '../deploy/local/certificates.ts'
import { closePg, connectPg, parsePgUrl } from '../registry/lib/pg.ts'
import { startGateway, startUpstream, startWorld, until } from './test-kit.ts'

const ca = makeCertificateAuthority()

function pem(...names: string[]) {
  const { cert, key } = ca.issue({ names })
  return { 'cert.pem': cert, 'key.pem': key }
}

function tlsEnv(folder: string) {
  return { TLS_CERT_FILE: join(folder, 'cert.pem'), TLS_KEY_FILE: join(folder, 'key.pem') }
}

interface Answer {
  readonly head: string
  readonly body: string
  readonly socket: tls.TLSSocket
}

const PG_LIMITS = { connectTimeoutMs: 5000, statementTimeoutMs: 5000, applicationName: 'test' }
const opened: tls.TLSSocket[] = []

/** One request on a connection of its own, which stays open. */
async function ask(
  port: number,
  fields: string[],
  options: tls.ConnectionOptions = {},
  line = 'GET /api/whoami HTTP/1.1',
): Promise<Answer> {
  const socket = tls.connect({ port, host: '127.0.0.1', ca: ca.cert, ...options })
  await once(socket, 'secureConnect')
  socket.on('error', () => {})
  opened.push(socket)
  return { ...(await askOn(socket, fields, line)), socket }
}

async function askOn(socket: tls.TLSSocket, fields: string[], line = 'GET /api/whoami HTTP/1.1') {
  let text = ''
  const onData = (bytes: Buffer) => {
    text += bytes.toString('latin1')
  }
  socket.on('data', onData)
  socket.write(`${[line, 'Host: gate.example', ...fields].join('\r\n')}\r\n\r\n`)
  await until(() => /\r\n\r\n[\s\S]*\}$/.test(text))
  socket.off('data', onData)
  const [head = '', body = ''] = text.split('\r\n\r\n')
  return { head, body }
}

async function metricOf(internalUrl: string, name: string): Promise<number> {
  const text = await (await fetch(`${internalUrl}/metrics`)).text()
  const line = text.split('\n').find(row => row.startsWith(name))
  return Number(line?.split(' ').at(-1))
}

/** An app replica behind TLS, for `localhost`. */
async function startReplica(t: Test, by: CertificateAuthority, heard: string[]): Promise<number> {
  const server = createServer(by.issue({ names: ['localhost'] }), (req, res) => {
    heard.push(`${req.method} ${req.headers.host}`)
    res.setHeader('content-type', 'application/json').end('{}')
  })
  new WebSocketServer({ server }).on('connection', (socket, req) => {
    heard.push(`WS ${req.headers.host}`)
    socket.on('message', data => socket.send(data.toString()))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return (server.address() as AddressInfo).port
}

/** An idle client would hold a drain up for its grace. */
function closeAll(): void {
  for (const socket of opened.splice(0)) socket.destroy()
}

t.test('the public edge of a real gateway', async t => {
  const world = await startWorld()
  t.teardown(() => world.close())
  const upstream = await startUpstream()
  t.teardown(() => upstream.close())
  const acme = await world.createTenant('acme')
  const bearer = `Authorization: Bearer ${world.token(acme)}`
  const base = { ...world.env, APP_UPSTREAMS: upstream.origin }

  await t.test('a request over TLS is one like any other, and is known as https', async t => {
    const folder = t.testdir({
      ...pem('127.0.0.1'),
      acme: pem('acme.example'),
      'hosts.json': '{"acme.example":{"cert":"acme/cert.pem","key":"acme/key.pem"}}',
    })
    const gateway = await startGateway({
      ...base,
      ...tlsEnv(folder),
      TLS_SNI_FILE: join(folder, 'hosts.json'),
      HSTS_MAX_AGE_S: '86400',
      UPSTREAM_SSL_CA: ca.cert,
    })
    t.teardown(() => gateway.stop('SIGKILL'))
    const { port, internalUrl } = gateway

    const served = await ask(port, [bearer, 'X-Forwarded-Proto: http'])
    t.match(served.head, /^HTTP\/1\.1 200 /)
    const { headers } = upstream.requests.at(-1) as (typeof upstream.requests)[number]
    t.equal(headers['x-forwarded-proto'], 'https')
    t.equal(headers['x-forwarded-for'], '127.0.0.1')
    const own = await ask(port, [])
    t.match(own.head, /^HTTP\/1\.1 401 /)
    for (const { head } of [served, own]) {
      t.match(head, /^strict-transport-security: max-age=86400\r?$/m)
    }
    t.match(own.head, /^content-security-policy: default-src 'none'; frame-ancestors 'none'\r?$/m)

    const named = await ask(port, [bearer], { servername: 'acme.example' })
    t.equal(named.socket.getPeerCertificate().subject.CN, 'acme.example')
    t.equal(served.socket.getPeerCertificate().subject.CN, '127.0.0.1')

    const failed = 'doorman_openings_failed_total{reason="tls"}'
    t.equal(await metricOf(internalUrl, failed), 0)
    const plain = connect(port, '127.0.0.1')
    plain.on('error', () => {})
    plain.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n')
    plain.resume()
    await once(plain, 'close')
    await until(async () => (await metricOf(internalUrl, failed)) === 1)
    const seconds = await metricOf(internalUrl, 'doorman_certificate_expiry_seconds')
    t.ok(seconds > 80 * 86_400 && seconds < 91 * 86_400, `${seconds}`)
    t.notOk(gateway.log.some(({ level }) => level === 'error' || level === 50))

    await t.test('a new certificate is taken over without a connection lost', async t => {
      const { cert, key } = ca.issue({ names: ['127.0.0.1', 'second.example'] })
      await writeFile(join(folder, 'cert.pem'), cert)
      gateway.child.kill('SIGHUP')
      await until(() => gateway.log.some(({ msg }) => String(msg).includes('serves on')))
      const before = await ask(port, [bearer])
      t.notMatch(before.socket.getPeerCertificate().subjectaltname, /second/)
      await writeFile(join(folder, 'key.pem'), key)
      gateway.child.kill('SIGHUP')
      await until(() => gateway.log.some(({ msg }) => msg === 'certificates taken over'))
      const after = await ask(port, [bearer])
      t.match(after.socket.getPeerCertificate().subjectaltname, /second\.example/)
      const kept = await askOn(served.socket, [bearer])
      t.match(kept.head, /^HTTP\/1\.1 200 /, 'the connection of before goes on')
      t.equal(await metricOf(internalUrl, 'doorman_certificates_refused'), 0)
    })

    await t.test(
      'an https replica is verified by its own name, for requests and WebSockets',
      async t => {
        const heard: string[] = []
        const stranger = makeCertificateAuthority('Somebody else')
        const ownPort = await startReplica(t, ca, heard)
        const strangePort = await startReplica(t, stranger, heard)
        const registry = await connectPg(parsePgUrl(world.registryUrl), PG_LIMITS, () => {})
        t.teardown(() => closePg(registry))
        const dedicated = async (key: string, appUrl: string) => {
          const tenant = await world.createTenant(key, { mode: 'dedicated' })
          await registry.query('UPDATE tenants SET app_url = $1 WHERE id = $2', [appUrl, tenant.id])
          return tenant
        }
        const use = async (tenant: Awaited<ReturnType<typeof dedicated>>) => {
          const authorization = `Bearer ${world.token(tenant)}`
          const fields = [`Authorization: ${authorization}`]
          const answer = await ask(port, fields)
          const post = 'POST /api/projects HTTP/1.1'
          const posted = await ask(port, [...fields, 'Content-Length: 0'], {}, post)
          const socket = new WebSocket(`wss://127.0.0.1:${port}/api/ws`, {
            ca: ca.cert,
            headers: { authorization, host: 'gate.example' },
          })
          const spoken = await new Promise<string>(resolve => {
            socket.on('error', error => resolve(error.message))
            socket.on('open', () => socket.send('hello'))
            socket.on('message', data => resolve(data.toString()))
          })
          socket.terminate()
          return { answer, posted, spoken }
        }
        const good = await use(await dedicated('good', `https://localhost:${ownPort}`))
        t.match(good.answer.head, /^HTTP\/1\.1 200 /)
        t.match(good.posted.head, /^HTTP\/1\.1 200 /)
        t.equal(good.spoken, 'hello')
        t.strictSame(heard, ['GET gate.example', 'POST gate.example', 'WS gate.example'])

        heard.length = 0
        for (const [key, origin, why] of [
          ['strange', `https://localhost:${strangePort}`, 'a CA that is not trusted'],
          ['misnamed', `https://127.0.0.1:${ownPort}`, 'another name than the certificate’s'],
        ] as const) {
          const bad = await use(await dedicated(key, origin))
          for (const { head, body } of [bad.answer, bad.posted]) {
            t.match(head, /^HTTP\/1\.1 502 /, why)
            t.match(body, /UPSTREAM_UNREACHABLE/)
          }
          t.match(bad.spoken, /502/)
        }
        t.strictSame(heard, [], 'nothing is sent to a replica that is not verified')
      },
    )
    closeAll()
    t.equal(await gateway.stop(), 0)
  })

  await t.test(
    'workers resume each other’s TLS sessions; a roll reads the files again',
    async t => {
      const folder = t.testdir(pem('127.0.0.1', 'first.example'))
      const env = { ...base, ...tlsEnv(folder), GATEWAY_WORKERS: '2' }
      const gateway = await startGateway(env)
      t.teardown(() => gateway.stop('SIGKILL'))
      const { port } = gateway
      await until(async () => (await metricOf(gateway.internalUrl, 'doorman_workers_ready')) === 2)
      const first = await ask(port, [bearer], { maxVersion: 'TLSv1.2' })
      const session = first.socket.getSession() as Buffer
      for (let i = 0; i < 4; i++) {
        const next = await ask(port, [bearer], { maxVersion: 'TLSv1.2', session })
        t.equal(next.socket.isSessionReused(), true, 'whoever gets it')
      }
      const { cert, key } = ca.issue({ names: ['127.0.0.1', 'second.example'] })
      await Promise.all([
        writeFile(join(folder, 'cert.pem'), cert),
        writeFile(join(folder, 'key.pem'), key),
      ])
      gateway.child.kill('SIGHUP')
      await until(() => gateway.log.some(({ msg }) => msg === 'rolling restart done'), 20_000)
      for (let i = 0; i < 2; i++) {
        const after = await ask(port, [bearer])
        t.match(after.socket.getPeerCertificate().subjectaltname, /second\.example/)
      }
      const seconds = await metricOf(gateway.internalUrl, 'doorman_certificate_expiry_seconds')
      t.ok(seconds < 91 * 86_400, 'of several workers the least counts, not the sum')
      closeAll()
      t.equal(await gateway.stop(), 0)
    },
  )

  await t.test('with the PROXY protocol the client’s address is logged and passed on', async t => {
    const folder = t.testdir(pem('127.0.0.1'))
    const gateway = await startGateway({
      ...base,
      ...tlsEnv(folder),
      PROXY_PROTOCOL: 'on',
      TRUSTED_PROXIES: '127.0.0.1',
    })
    t.teardown(() => gateway.stop('SIGKILL'))
    const raw = connect(gateway.port, '127.0.0.1')
    raw.write('PROXY TCP6 2001:db8::7 2001:db8::8 4000 443\r\n')
    const fields = [bearer, 'X-Forwarded-For: 10.0.0.1', 'X-Request-Id: by-proxy']
    const { head } = await ask(gateway.port, fields, { socket: raw, servername: '' })
    t.match(head, /^HTTP\/1\.1 200 /)
    const { headers } = upstream.requests.at(-1) as (typeof upstream.requests)[number]
    t.equal(
      headers['x-forwarded-for'],
      '2001:db8::7',
      'what the client itself says is not believed',
    )
    await until(() => gateway.log.some(line => line.request_id === 'by-proxy'))
    t.match(
      gateway.log.find(line => line.request_id === 'by-proxy'),
      { client: '2001:db8::7' },
    )
    closeAll()
    t.equal(await gateway.stop(), 0)
  })
})
