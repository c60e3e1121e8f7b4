import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { CONTEXT_HEADER, REQUEST_HEADER, verifyRequest } from '../registry/context.ts'
import { writeDb, writeStatus } from '../registry/tenant-write.ts'
import {
  claimsOf,
  makeToken,
  rawExchange,
  startGateway,
  startUpstream,
  startWorld,
  until,
} from './test-kit.ts'

t.test('the gateway against a real Registry', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const acme = await world.createTenant('acme')
  const globex = await world.createTenant('globex')
  const gateway = await startGateway({
    ...world.env,
    APP_UPSTREAMS: upstream.origin,
    FRONTEND_URL: 'https://app.example',
    APP_DOMAIN: 'example.com',
    UPSTREAM_HEAD_TIMEOUT_MS: '1500',
    LOGIN_FAILURES_MAX: '0',
    LOGIN_FAILURES_PER_ACCOUNT_MAX: '0',
    LOGIN_FAILURES_PER_ADDRESS_MAX: '0',
  })
  t.teardown(async () => {
    await gateway.stop('SIGKILL')
    upstream.close()
    await world.close()
  })
  const answerOk = upstream.respond
  t.beforeEach(() => {
    upstream.requests.length = 0
    upstream.respond = answerOk
  })

  const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
  const get = (path: string, headers: Record<string, string> = {}) =>
    fetch(`${gateway.url}${path}`, { headers })
  const login = (body: string, headers: Record<string, string> = {}) =>
    fetch(`${gateway.url}/api/auth/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body,
    })
  const codeOf = async (response: Response) => ((await response.json()) as { code: string }).code

  t.test('a request carries exactly one context and one binding, for its own tenant', async t => {
    const token = world.token(acme, { email: 'a@acme.example' })
    const response = await get('/api/projects?page=2', {
      ...bearer(token),
      'x-tenant-context': 'forged',
      X_Tenant_Context: 'forged',
      'x-tenant-request': 'forged',
      'x-request-id': 'client-chosen-1',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    })
    t.equal(response.status, 200)
    t.equal(response.headers.get('x-request-id'), 'client-chosen-1')
    t.equal(upstream.requests.length, 1)
    const [req] = upstream.requests
    const fields =
      req?.rawHeaders.filter((_, i) => i % 2 === 0).map(name => name.toLowerCase()) ?? []
    for (const name of [CONTEXT_HEADER, REQUEST_HEADER, 'x-request-id', 'traceparent', 'host']) {
      t.equal(fields.filter(field => field === name).length, 1, name)
    }
    t.notOk(fields.includes('x_tenant_context'))
    t.match(req?.headers.traceparent, /^00-0af7651916cd43dd8448eb211c80319c-(?!b7ad6b7169203331)/)
    t.equal(req?.headers['x-forwarded-for'], '127.0.0.1')
    const claims = await world.verifier.verify(req?.headers[CONTEXT_HEADER] as string, Date.now())
    t.match(claims, {
      tid: acme.id,
      key: 'acme',
      ver: acme.configVersion,
      db: { name: 'db_acme', user: 'role_acme', password: 'password-of-acme' },
      bucket: null,
    })
    const binding = req?.headers[REQUEST_HEADER] as string
    const bound = verifyRequest(binding, claims.mac, 'GET', '/api/projects?page=2', Date.now())
    t.match(bound.principal, { sub: 'u1', email: 'a@acme.example', role_id: 1 })
    t.throws(() => verifyRequest(binding, claims.mac, 'GET', '/api/projects?page=3', Date.now()))
    t.throws(() => verifyRequest(binding, claims.mac, 'POST', '/api/projects?page=2', Date.now()))
  })

  t.test('the context is reused, the binding never', async t => {
    for (let i = 0; i < 2; i++) {
      await get('/api/x', { ...bearer(world.token(acme)), 'x-request-id': 'the-same-id' })
    }
    const [one, two] = upstream.requests
    t.equal(one?.headers[CONTEXT_HEADER], two?.headers[CONTEXT_HEADER])
    const ids = [one, two].map(req => String(req?.headers[REQUEST_HEADER]).split('.')[2])
    t.not(ids[0], ids[1])
  })

  t.test('tenants never share a context', async t => {
    await Promise.all([acme, globex].map(tenant => get('/api/x', bearer(world.token(tenant)))))
    const keys = await Promise.all(
      upstream.requests.map(async ({ headers }) => {
        return (await world.verifier.verify(headers[CONTEXT_HEADER] as string, Date.now())).key
      }),
    )
    t.strictSame(keys.sort(), ['acme', 'globex'])
  })

  t.test(
    'no, malformed, expired, foreign or tenant-less tokens are 401, each with its code',
    async t => {
      const secret = world.env.JWT_SECRET_ACCESS_TOKEN as string
      const claims = claimsOf(acme)
      const cases: [string, Record<string, string>, string][] = [
        ['none', {}, 'TOKEN_MISSING'],
        ['another scheme', { authorization: 'Basic YTpi' }, 'TOKEN_MISSING'],
        ['no JWT', bearer('nonsense'), 'TOKEN_INVALID'],
        ['another key', bearer(makeToken('x'.repeat(32), claims)), 'TOKEN_INVALID'],
        ['expired', bearer(makeToken(secret, { ...claims, exp: 1 })), 'TOKEN_EXPIRED'],
        [
          'no tenant',
          bearer(makeToken(secret, { ...claims, tenant_id: null })),
          'TOKEN_TENANT_MISSING',
        ],
        ['a refresh token', bearer(world.token(acme, { type: 'refresh' })), 'TOKEN_INVALID'],
        [
          'unknown tenant',
          bearer(world.token({ ...acme, id: claims.jti as never })),
          'TENANT_UNKNOWN',
        ],
      ]
      for (const [name, headers, code] of cases) {
        const response = await get('/api/projects', headers)
        t.equal(response.status, 401, name)
        const body = (await response.json()) as Record<string, unknown>
        t.match(body, { status: false, result: null, code }, name)
        t.equal(body.request_id, response.headers.get('x-request-id'))
      }
      t.equal(upstream.requests.length, 0, 'and none reaches the app')
    },
  )

  t.test(
    'the tenant of a login comes from body, header, query or subdomain, in that order',
    async t => {
      const keyOf = async (response: Response) => {
        t.equal(response.status, 200)
        const req = upstream.requests.pop()
        const context = await world.verifier.verify(
          req?.headers[CONTEXT_HEADER] as string,
          Date.now(),
        )
        return context.key
      }
      const header = { 'x-tenant-key': 'globex' }
      t.equal(await keyOf(await login('{"tenant_key":"acme"}', header)), 'acme')
      t.equal(await keyOf(await login('{}', header)), 'globex')
      const url = `${gateway.url}/api/auth/login?tenant_key=acme`
      t.equal(await keyOf(await fetch(url, { method: 'POST' })), 'acme')
      const body = 'tenant_key=globex&email=x'
      const form = { 'content-type': 'application/x-www-form-urlencoded' }
      t.equal(await keyOf(await login(body, form)), 'globex')
      const answer = await rawExchange(
        gateway.port,
        'POST /api/auth/login HTTP/1.1\r\nHost: acme.example.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n',
      )
      t.match(answer, /^HTTP\/1.1 200/)
      t.equal(upstream.requests.length, 1)
    },
  )

  t.test('the login body arrives as it was sent', async t => {
    const sent = '{ "tenant_key":"acme", "password":"p\\u00e4ss é" }'
    let got = ''
    upstream.respond = (req, res) => {
      req.setEncoding('utf8').on('data', text => {
        got += text
      })
      req.on('end', () => res.end('{}'))
    }
    t.equal((await login(sent)).status, 200)
    t.equal(got, sent)
    t.equal(upstream.requests[0]?.headers['content-length'], String(Buffer.byteLength(sent)))
  })

  t.test('bad login bodies are refused with their codes', async t => {
    const cases: [string, string, number, string][] = [
      ['no tenant key', '{"email":"x"}', 400, 'TENANT_KEY_MISSING'],
      ['a key that cannot be one', '{"tenant_key":"../x"}', 400, 'TENANT_KEY_INVALID'],
      ['a key that is no text', '{"tenant_key":{"a":1}}', 400, 'TENANT_KEY_INVALID'],
      ['two keys', '{"tenant_key":"acme","tenant_key":"globex"}', 400, 'BODY_INVALID'],
      ['no JSON', '{"tenant_key":', 400, 'BODY_INVALID'],
      ['too large', `{"tenant_key":"acme","x":"${'x'.repeat(70_000)}"}`, 413, 'BODY_TOO_LARGE'],
    ]
    for (const [name, body, status, code] of cases) {
      const response = await login(body)
      t.equal(response.status, status, name)
      t.equal(await codeOf(response), code, name)
    }
    t.equal(
      await codeOf(await login('<x/>', { 'content-type': 'text/xml' })),
      'BODY_TYPE_UNSUPPORTED',
    )
    t.equal(upstream.requests.length, 0)
  })

  t.test('refresh and 2FA tokens name the tenant on their own routes alone', async t => {
    const post = (path: string, body: object) =>
      fetch(`${gateway.url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      })
    const refreshSecret = world.env.JWT_SECRET_REFRESH_TOKEN as string
    const refreshToken = makeToken(refreshSecret, { ...claimsOf(acme), type: 'refresh' })
    const tempToken = world.token(acme, { type: '2fa_pending' })
    t.equal((await post('/api/auth/refresh-token', { refreshToken })).status, 200)
    t.equal((await post('/api/auth/verify-2fa', { tempToken })).status, 200)
    t.equal(upstream.requests.length, 2)
    const accessToken = world.token(acme)
    t.equal((await post('/api/auth/refresh-token', { refreshToken: accessToken })).status, 401)
    t.equal((await post('/api/auth/verify-2fa', { tempToken: accessToken })).status, 401)
    t.equal((await post('/api/auth/refresh-token', {})).status, 401)
    t.equal((await get('/api/x', bearer(refreshToken))).status, 401)
    t.equal((await get('/api/x', bearer(tempToken))).status, 401)
    t.equal(upstream.requests.length, 2)
  })

  t.test('an unknown and a suspended tenant look like a wrong password at login', async t => {
    await world.createTenant('closed', { status: 'suspended' })
    const bodies = await Promise.all(
      ['nobody', 'closed'].map(async key => {
        const response = await login(`{"tenant_key":"${key}","email":"a","password":"b"}`)
        t.equal(response.status, 401)
        const { request_id: _, ...body } = (await response.json()) as Record<string, unknown>
        return body
      }),
    )
    t.strictSame(bodies[0], bodies[1])
    t.match(bodies[0], { code: 'INVALID_CREDENTIALS' })
    t.equal(upstream.requests.length, 0)
  })

  t.test('a login whose body is held back tells no more than another', async t => {
    const within = async (key: string) => {
      const body = `{"tenant_key":"${key}","password":"x"}`
      const socket = connect(gateway.port, '127.0.0.1')
      await once(socket, 'connect')
      socket.write(
        'POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n' +
          `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body.slice(0, -1)}`,
      )
      // Longer than any delay that is waited out from the head.
      await new Promise(resolve => setTimeout(resolve, 300))
      const sentAt = performance.now()
      socket.write(body.slice(-1))
      await once(socket, 'data')
      socket.destroy()
      return performance.now() - sentAt
    }
    // Real wrong logins take 80 ms here; the gateway has to follow.
    upstream.respond = (req, res) => {
      req.resume().on('end', () => setTimeout(() => res.writeHead(401).end('{}'), 80))
    }
    await Promise.all(
      Array.from({ length: 130 }, () => login('{"tenant_key":"acme","password":"x"}')),
    )
    const [unknown, known] = [await within('nobody'), await within('acme')]
    t.ok(unknown > 60, `an unknown tenant answered after ${unknown} ms, a known one after ${known}`)
  })

  t.test('a suspension is seen in under a second, and so is its end', async t => {
    const tenant = await world.createTenant('initech')
    const headers = bearer(world.token(tenant))
    t.equal((await get('/api/x', headers)).status, 200)
    const statusWithin = async (status: number) => {
      const startedAt = performance.now()
      await until(async () => (await get('/api/x', headers)).status === status, 5000)
      return performance.now() - startedAt
    }
    await writeStatus(world.store, tenant.id, 'suspended', 'test')
    t.ok((await statusWithin(403)) < 1000)
    t.equal(await codeOf(await get('/api/x', headers)), 'TENANT_SUSPENDED')
    await writeStatus(world.store, tenant.id, 'active', null)
    t.ok((await statusWithin(200)) < 1000)
  })

  t.test('a new password reaches the context without a restart', async () => {
    const tenant = await world.createTenant('hooli')
    const headers = bearer(world.token(tenant))
    await get('/api/x', headers)
    const passwordEncrypted = world.keyring.encrypt('rotated', {
      owner: tenant.id,
      column: 'db_password_encrypted',
    })
    await writeDb(world.store, tenant.id, { ...tenant.db, passwordEncrypted }, tenant.configVersion)
    await until(async () => {
      await get('/api/x', headers)
      const context = upstream.requests.at(-1)?.headers[CONTEXT_HEADER] as string
      return (await world.verifier.verify(context, Date.now())).db.password === 'rotated'
    }, 1000)
  })

  t.test('a secret moved to another tenant does not open', async t => {
    const thief = await world.createTenant('thief')
    const stolen = { ...thief.db, passwordEncrypted: acme.db.passwordEncrypted }
    await writeDb(world.store, thief.id, stolen, thief.configVersion)
    const response = await get('/api/x', bearer(world.token(thief)))
    t.equal(response.status, 503)
    t.equal(await codeOf(response), 'TENANT_CONFIG_INVALID')
    t.equal(
      (await get('/api/x', bearer(world.token(acme)))).status,
      200,
      'the owner is not touched',
    )
  })

  t.test('paths outside the table are 404, paths that are not canonical 400', async t => {
    for (const path of ['/', '/admin', '/metrics', '/readyz', '/apix']) {
      t.equal((await get(path, bearer(world.token(acme)))).status, 404, path)
    }
    for (const target of ['/api/../admin', '/api//x', '/api/%2e%2e/x', '/api/x%2fy', '/api/;x']) {
      const answer = await rawExchange(
        gateway.port,
        `GET ${target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${world.token(acme)}\r\nConnection: close\r\n\r\n`,
      )
      t.match(answer, /^HTTP\/1.1 400 .*TARGET_INVALID/s, target)
    }
    t.equal(upstream.requests.length, 0)
  })

  t.test('health is answered without the app', async t => {
    t.equal((await get('/healthz')).status, 200)
    t.equal((await fetch(`${gateway.internalUrl}/livez`)).status, 200)
    t.match(
      await (await fetch(`${gateway.internalUrl}/metrics`)).text(),
      /doorman_requests_total\{/,
    )
    t.equal(upstream.requests.length, 0)
  })

  t.test('CORS is for the listed origin, failures included', async t => {
    const preflight = (origin: string) =>
      fetch(`${gateway.url}/api/projects`, {
        method: 'OPTIONS',
        headers: { origin, 'access-control-request-method': 'PUT' },
      })
    const allowed = await preflight('https://app.example')
    t.equal(allowed.status, 204)
    t.equal(allowed.headers.get('access-control-allow-origin'), 'https://app.example')
    t.equal(allowed.headers.get('access-control-allow-credentials'), 'true')
    const refused = await preflight('https://evil.example')
    t.equal(refused.status, 403)
    t.equal(refused.headers.get('access-control-allow-origin'), null)
    const failed = await get('/api/projects', { origin: 'https://app.example' })
    t.equal(failed.status, 401)
    t.equal(failed.headers.get('access-control-allow-origin'), 'https://app.example')
    upstream.respond = (_, res) => {
      res.setHeader('access-control-allow-origin', '*').end('{}')
    }
    const headers = { ...bearer(world.token(acme)), origin: 'https://app.example' }
    const passed = await get('/api/projects', headers)
    t.equal(passed.headers.get('access-control-allow-origin'), 'https://app.example')
  })

  t.test('an answer that echoes our headers loses them', async t => {
    upstream.respond = (req, res) => {
      res.setHeader('x-tenant-context', String(req.headers[CONTEXT_HEADER]))
      res.setHeader('x-kept', '1').end('{}')
    }
    const response = await get('/api/x', bearer(world.token(acme)))
    t.equal(response.headers.get('x-tenant-context'), null)
    t.equal(response.headers.get('x-kept'), '1')
  })

  t.test('an app that is too slow is 504', async t => {
    upstream.respond = () => {}
    const response = await get('/api/x', bearer(world.token(acme)))
    t.equal(response.status, 504)
    t.equal(await codeOf(response), 'UPSTREAM_TIMEOUT')
  })

  t.test('an answer that breaks off is seen as an abort, never as a clean end', async t => {
    upstream.respond = (_, res) => {
      res.writeHead(200, { 'content-type': 'text/plain' }).write('the first half')
      res.on('finish', () => {})
      setImmediate(() => res.socket?.destroy())
    }
    await t.rejects(get('/api/x', bearer(world.token(acme))).then(response => response.text()))
  })

  t.test('a client that leaves frees the app at once', async t => {
    const closed = new Promise(resolve => {
      upstream.respond = (_, res) => {
        res.writeHead(200).write('x')
        res.on('close', resolve)
      }
    })
    const leaving = new AbortController()
    const response = await fetch(`${gateway.url}/api/x`, {
      headers: bearer(world.token(acme)),
      signal: leaving.signal,
    })
    t.equal(response.status, 200)
    leaving.abort()
    await closed
  })

  t.test(
    'after a reset of an idle connection a POST is not sent again, a GET is, once',
    async t => {
      const served = new WeakSet<object>()
      upstream.respond = (req, res) => {
        // The first request of each connection is answered, the next one on it is reset.
        if (served.has(req.socket)) return void req.socket.resetAndDestroy()
        served.add(req.socket)
        res.end('{}')
      }
      const headers = bearer(world.token(acme))
      const count = () => upstream.requests.length
      t.equal((await get('/api/x', headers)).status, 200)
      // Connections that earlier tests left behind count as fresh: meet one that has been used.
      const before = count()
      const posted = await fetch(`${gateway.url}/api/x`, { method: 'POST', headers, body: '{}' })
      t.equal(posted.status, 502)
      t.equal(await codeOf(posted), 'UPSTREAM_BAD_RESPONSE')
      t.equal(count() - before, 1)
      t.equal((await get('/api/x', headers)).status, 200)
      t.equal((await get('/api/x', headers)).status, 200)
      t.equal(count() - before, 4, 'the last GET was reset and sent once more')
    },
  )

  t.test('an event stream arrives event by event', async t => {
    let next = () => {}
    upstream.respond = (_, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
      let sent = 0
      next = () => (sent++ < 3 ? res.write(`data: ${sent}\n\n`) : res.end())
    }
    const response = await get('/api/events', bearer(world.token(acme)))
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    for (let i = 1; i <= 3; i++) {
      next()
      t.equal(Buffer.from((await reader.read()).value ?? []).toString(), `data: ${i}\n\n`)
    }
    next()
    t.ok((await reader.read()).done)
  })

  t.test('a head with too many fields is 431, whatever hides behind them', async t => {
    const filler = Array.from({ length: 150 }, (_, i) => `f${i}: 1\r\n`).join('')
    const answer = await rawExchange(
      gateway.port,
      `POST /api/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${world.token(acme)}\r\n${filler}` +
        'Content-Length: 5\r\nConnection: close\r\n\r\nGET /',
    )
    t.match(answer, /^HTTP\/1.1 431 /)
    t.equal(upstream.requests.length, 0)
  })

  t.test('no secret is in the log', async t => {
    const text = JSON.stringify(gateway.log)
    t.ok(gateway.log.some(entry => entry.msg === 'request'))
    for (const secret of [
      'password-of-',
      'Bearer ',
      'eyJ',
      ...Object.values(world.env).slice(1, 6),
    ]) {
      t.notOk(text.includes(secret), secret.slice(0, 12))
    }
  })
})

t.test(
  'an app that is not there is 502, and a request that was not sent is sent elsewhere',
  async t => {
    const world = await startWorld()
    const [alive, dead] = [await startUpstream(), await startUpstream()]
    dead.close()
    await once(dead.server, 'close')
    const tenant = await world.createTenant('acme')
    const both = await startGateway({
      ...world.env,
      APP_UPSTREAMS: `${dead.origin},${alive.origin}`,
    })
    const none = await startGateway({ ...world.env, APP_UPSTREAMS: dead.origin })
    t.teardown(async () => {
      await Promise.all([both.stop('SIGKILL'), none.stop('SIGKILL')])
      alive.close()
      await world.close()
    })
    const post = (url: string) =>
      fetch(`${url}/api/x`, {
        method: 'POST',
        headers: { authorization: `Bearer ${world.token(tenant)}` },
        body: 'a body',
      })
    for (let i = 0; i < 4; i++) t.equal((await post(both.url)).status, 200)
    t.equal(alive.requests.length, 4)
    alive.server.on('upgrade', (_, socket) => {
      socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n')
    })
    for (let i = 0; i < 4; i++) {
      const answer = await rawExchange(
        both.port,
        `GET /api/ws HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${world.token(tenant)}\r\n` +
          'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
          'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
      )
      t.match(answer, /^HTTP\/1.1 403/, 'so is a WebSocket handshake')
    }
    const response = await post(none.url)
    t.equal(response.status, 502)
    t.match(await response.json(), { code: 'UPSTREAM_UNREACHABLE' })
  },
)
