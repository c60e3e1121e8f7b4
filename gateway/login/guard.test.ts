import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { CONTEXT_HEADER } from '../../registry/context.ts'
import { writeStatus } from '../../registry/tenant-write.ts'
import {
  claimsOf,
  makeToken,
  rawExchange,
  startGateway,
  startUpstream,
  startWorld,
  until,
} from '../test-kit.ts'

t.test('login routes of a running gateway', async t => {
  const world = await startWorld()
  const upstream = await startUpstream()
  const acme = await world.createTenant('acme')
  await world.createTenant('closed', { status: 'suspended' })
  const env = { ...world.env, APP_UPSTREAMS: upstream.origin, TRUSTED_PROXIES: '127.0.0.1' }
  const gateway = await startGateway({
    ...env,
    FRONTEND_URL: 'https://app.example',
    LOGIN_FAILURES_MAX: '3',
    LOGIN_FAILURES_PER_ADDRESS_MAX: '0',
  })
  t.teardown(async () => {
    await gateway.stop('SIGKILL')
    upstream.close()
    await world.close()
  })
  let accounts = 0
  const newAccount = () => `user-${accounts++}@acme.example`
  const post = (path: string, body: object, headers: Record<string, string> = {}) =>
    fetch(`${gateway.url}/api/auth/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    })
  const refuse = (status: number, body = '{"app":"says no"}') => {
    upstream.respond = (req, res) => {
      req.resume().on('end', () => res.writeHead(status, { 'x-app': 'yes' }).end(body))
    }
  }
  t.beforeEach(() => {
    upstream.requests.length = 0
    refuse(401)
  })

  t.test('the fourth guess is 429, and says when to come again', async t => {
    const login = { tenant_key: 'acme', email: newAccount(), password: 'x' }
    for (let i = 0; i < 3; i++) t.equal((await post('login', login)).status, 401)
    const limited = await post(
      'login',
      { ...login, email: login.email.toUpperCase() },
      { origin: 'https://app.example' },
    )
    t.equal(limited.status, 429)
    t.match(await limited.json(), { status: false, code: 'LOGIN_LIMITED', result: null })
    const retryAfterS = Number(limited.headers.get('retry-after'))
    t.ok(retryAfterS > 290 && retryAfterS <= 300, `${retryAfterS} s`)
    t.equal(limited.headers.get('ratelimit-policy'), '"login";q=3;w=900')
    t.equal(limited.headers.get('ratelimit'), `"login";r=0;t=${retryAfterS}`)
    t.match(limited.headers.get('access-control-expose-headers'), /retry-after, ratelimit,/)
    t.equal(upstream.requests.length, 3, 'the app has no work with it')
    const elsewhere = await post('login', login, { 'x-forwarded-for': '192.0.2.77' })
    t.equal(elsewhere.status, 401, 'another client of the account is not limited')
    t.equal(
      (await post('login', { ...login, tenant_key: 'nobody' })).status,
      401,
      'nor another tenant',
    )
  })

  t.test('unknown and suspended tenants are limited by the same answers', async t => {
    const shownOf = async (tenant_key: string) => {
      const login = { tenant_key, email: newAccount(), password: 'x' }
      const shown: unknown[] = []
      for (let i = 0; i < 5; i++) {
        const answer = await post('login', login)
        const { request_id: _, ...body } = (await answer.json()) as Record<string, unknown>
        shown.push(answer.status, body, answer.headers.get('ratelimit-policy'))
      }
      return shown
    }
    const [known, unknown, suspended] = [
      await shownOf('acme'),
      await shownOf('nobody'),
      await shownOf('closed'),
    ]
    t.strictSame(unknown, known)
    t.strictSame(suspended, known)
    t.match(JSON.stringify(known), /LOGIN_LIMITED/)
  })

  t.test('of 200 guesses at once three reach the app', async t => {
    const login = { tenant_key: 'acme', email: newAccount(), password: 'x' }
    const statuses = await Promise.all(
      Array.from({ length: 200 }, async () => (await post('login', login)).status),
    )
    t.equal(upstream.requests.length, 3)
    t.equal(statuses.filter(status => status === 401).length, 3)
    t.equal(statuses.filter(status => status === 429).length, 197)
  })

  t.test('200 right logins at once all pass', async t => {
    refuse(200)
    const login = { tenant_key: 'acme', email: newAccount(), password: 'x' }
    const statuses = await Promise.all(
      Array.from({ length: 200 }, async () => (await post('login', login)).status),
    )
    t.ok(statuses.every(status => status === 200))
  })

  t.test('a guess whose client does not wait for the answer counts', async t => {
    const held: ServerResponse[] = []
    upstream.respond = (_req, res) => held.push(res)
    const body = JSON.stringify({ tenant_key: 'acme', email: newAccount(), password: 'x' })
    for (let i = 1; i <= 3; i++) {
      const socket = connect(gateway.port, '127.0.0.1')
      await once(socket, 'connect')
      socket.write(
        'POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n' +
          `Content-Length: ${body.length}\r\n\r\n${body}`,
      )
      await until(() => upstream.requests.length === i)
      socket.resetAndDestroy()
      await until(() => held[i - 1]?.closed === true)
    }
    refuse(200)
    t.equal((await post('login', JSON.parse(body))).status, 429)
  })

  t.test(
    'whatever the app’s refusal says, a client sees the answer for an unknown tenant',
    async t => {
      const headOf = async (path: string, tenant_key: string) => {
        const body = JSON.stringify({ tenant_key, email: newAccount() })
        const answer = await rawExchange(
          gateway.port,
          `POST /api/auth/${path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n` +
            `X-Request-Id: the-same-id\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        )
        return answer.replace(/^date: .*$/im, '')
      }
      for (const path of ['login', 'forgot-password', 'verify-reset-otp', 'reset-password']) {
        const unknown = await headOf(path, 'nobody')
        t.match(unknown, /^HTTP\/1\.1 401 .*"code":"INVALID_CREDENTIALS"/s)
        for (const status of [400, 401, 403, 404, 405, 409, 415, 422]) {
          refuse(status)
          t.equal(await headOf(path, 'acme'), unknown, `${path}: the app says ${status}`)
        }
        t.equal(await headOf(path, 'closed'), unknown, `${path}: suspended`)
      }
      const unknown = await headOf('login', 'nobody')
      upstream.respond = (req, res) => {
        req.resume().on('end', () => {
          res.writeHead(401, { 'content-length': '100' }).write('half')
          setImmediate(() => res.socket?.destroy())
        })
      }
      t.equal(
        await headOf('login', 'acme'),
        unknown,
        'one that breaks off is a refusal all the same',
      )
      refuse(401, 'x'.repeat(1_000_000))
      t.match(await headOf('login', 'acme'), /INVALID_CREDENTIALS/, 'however long it is')
    },
  )

  t.test('what is no refusal reaches the client as it is', async t => {
    for (const status of [200, 302, 429, 503]) {
      refuse(status)
      const email = newAccount()
      const body = JSON.stringify({ tenant_key: 'acme', email, password: 'x' })
      const answer = await rawExchange(
        gateway.port,
        'POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n' +
          `Connection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      )
      t.match(answer, new RegExp(`^HTTP/1\\.1 ${status} .*x-app: yes.*says no`, 's'))
    }
    refuse(404)
    const authorization = `Bearer ${world.token(acme)}`
    const other = await fetch(`${gateway.url}/api/things/7`, { headers: { authorization } })
    t.match(await other.json(), { app: 'says no' }, 'nor is a refusal on another route')
  })

  t.test('a fast refusal is not answered before a wrong password would be', async t => {
    const tookMs = async (tenant_key: string) => {
      const startedAt = performance.now()
      await post('login', { tenant_key, email: newAccount(), password: 'x' })
      return performance.now() - startedAt
    }
    upstream.respond = (req, res) => {
      req.resume().on('end', () => setTimeout(() => res.writeHead(401).end('{}'), 200))
    }
    // As many as are remembered, so that none of the fast ones before counts any more.
    await Promise.all(Array.from({ length: 130 }, () => tookMs('acme')))
    t.ok((await tookMs('nobody')) >= 199, 'unknown tenant')
    t.ok((await tookMs('closed')) >= 199, 'suspended tenant')
    refuse(400)
    t.ok((await tookMs('acme')) >= 199, 'a body that the app does not even look at')
  })

  t.test(
    'a second account in one body is refused, for parsers disagree which one counts',
    async t => {
      for (const [type, body] of [
        ['application/json', '{"tenant_key":"acme","email":"a","email":"b"}'],
        ['application/x-www-form-urlencoded', 'tenant_key=acme&email=a&email=b'],
      ] as const) {
        const answer = await fetch(`${gateway.url}/api/auth/login`, {
          method: 'POST',
          headers: { 'content-type': type },
          body,
        })
        t.equal(answer.status, 400, type)
      }
      t.equal(upstream.requests.length, 0)
    },
  )

  t.test('codes of the second factor are limited by user', async t => {
    const secret = world.env.JWT_SECRET_ACCESS_TOKEN as string
    const guess = (id: string, address: string) => {
      const tempToken = makeToken(secret, { ...claimsOf(acme), id, type: '2fa_pending' })
      return post('verify-2fa', { tempToken, otp: '1' }, { 'x-forwarded-for': address })
    }
    for (let i = 0; i < 3; i++) {
      const answer = await guess('u1', `192.0.2.${i}`)
      t.match(await answer.json(), { app: 'says no' }, 'the app’s own words: the tenant is known')
    }
    t.equal((await guess('u1', '192.0.2.9')).status, 429)
    t.equal((await guess('u2', '192.0.2.9')).status, 401)
  })

  t.test('accounts and passwords stay out of the log, limits show in it', async t => {
    const text = JSON.stringify(gateway.log)
    t.notMatch(text, /user-\d+@/)
    t.match(text, /"code":"LOGIN_LIMITED","reason":"failures by login"/)
  })

  t.test(
    'with a decoy an unknown tenant gets the app’s own answer, and no tenant’s data',
    async t => {
      const decoy = await world.createTenant('decoy')
      const other = await startGateway({
        ...env,
        DECOY_TENANT_KEY: 'Decoy',
        LOGIN_FAILURES_MAX: '0',
      })
      t.teardown(() => other.stop('SIGKILL'))
      const forgot = async (tenant_key: string) => {
        const body = JSON.stringify({ tenant_key, email: 'a@b.example' })
        const answer = await rawExchange(
          other.port,
          'POST /api/auth/forgot-password HTTP/1.1\r\nHost: a\r\nX-Request-Id: the-same-id\r\n' +
            'Content-Type: application/json\r\nConnection: close\r\n' +
            `Content-Length: ${body.length}\r\n\r\n${body}`,
        )
        return answer.replace(/^date: .*$/im, '')
      }
      const expected = { acme: 'acme', nobody: 'decoy', closed: 'decoy' }
      for (const status of [200, 404]) {
        refuse(status)
        upstream.requests.length = 0
        const answers: string[] = []
        for (const key of Object.keys(expected)) answers.push(await forgot(key))
        t.match(answers[0], new RegExp(`^HTTP/1\\.1 ${status} .*x-app: yes.*says no`, 's'))
        t.equal(new Set(answers).size, 1, `${status}: byte by byte`)
        const contexts = upstream.requests.map(({ headers }) => String(headers[CONTEXT_HEADER]))
        const tenants = await Promise.all(
          contexts.map(async text => (await world.verifier.verify(text, Date.now())).key),
        )
        t.strictSame(tenants, Object.values(expected))
      }
      const token = makeToken(world.env.JWT_SECRET_ACCESS_TOKEN as string, {
        ...claimsOf({ id: '00000000-0000-4000-8000-000000000000' }),
        type: 'access',
      })
      const headers = { authorization: `Bearer ${token}` }
      const withToken = await fetch(`${other.url}/api/things`, { headers })
      t.equal(withToken.status, 401, 'a token of an unknown tenant gets nothing there')
      await writeStatus(world.store, decoy.id, 'suspended', null)
      await until(async () => (await forgot('nobody')).includes('INVALID_CREDENTIALS'))
    },
  )

  t.test('a routes file names the account, and may leave refusals to the app', async t => {
    const routesFile = join(t.testdir(), 'routes.json')
    const route = {
      ...{ name: 'sign-in', path: '/v1/sign-in', credential: 'login' },
      ...{ account: 'user', refusals: 'app' },
    }
    writeFileSync(routesFile, JSON.stringify({ routes: [route] }))
    const other = await startGateway({ ...env, ROUTES_FILE: routesFile, LOGIN_FAILURES_MAX: '2' })
    t.teardown(() => other.stop('SIGKILL'))
    const signIn = (user: string) =>
      fetch(`${other.url}/v1/sign-in`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ tenant_key: 'acme', user, email: newAccount() }),
      })
    for (let i = 0; i < 2; i++) {
      const answer = await signIn('joe')
      t.equal(answer.status, 401)
      t.match(await answer.json(), { app: 'says no' })
    }
    t.equal((await signIn('Joe ')).status, 429)
    t.equal((await signIn('ann')).status, 401)
  })
})
