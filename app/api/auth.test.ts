import { decodeJwt, SignJWT } from 'jose'
import t from 'tap'
import { startTestPostgres } from '../../deploy/local/postgres.ts'
import {
  makeKeys,
  makeTenant,
  PASSWORD,
  sql,
  startApp,
  type TestAnswer,
  TestGateway,
  until,
} from '../test-kit.ts'

const server = await startTestPostgres()
t.teardown(() => server.stop())
const keys = makeKeys()
const gateway = new TestGateway(keys)
const acme = await makeTenant(server, 'acme')
const globex = await makeTenant(server, 'globex')
const app = await startApp(keys)
t.teardown(() => app.stop())
const { port } = app

const login = (body: object, tenant = acme) =>
  gateway.call(port, tenant, 'POST', '/api/auth/login', { principal: null, body })
const refresh = (refreshToken: string, tenant = acme) =>
  gateway.call(port, tenant, 'POST', '/api/auth/refresh-token', {
    principal: null,
    body: { refreshToken },
  })
const right = { tenant_key: 'acme', email: 'admin@acme.example', password: PASSWORD }

t.test('login gives the user and two tokens with the claims of the contract', async t => {
  const { status, json } = await login({
    ...right,
    tenant_key: ' ACME ',
    email: 'Admin@Acme.example',
  })
  t.equal(status, 200)
  t.same(Object.keys(json.result), ['id', 'first_login', 'accessToken', 'refreshToken'])
  t.match(json.result, { id: acme.user.sub, first_login: true })
  for (const [name, type] of [
    ['accessToken', 'access'],
    ['refreshToken', 'refresh'],
  ] as const) {
    const claims = decodeJwt(json.result[name])
    t.match(claims, {
      id: acme.user.sub,
      email: acme.user.email,
      role_id: 1,
      tenant_id: acme.id,
      type,
      jti: String,
    })
    t.equal((claims.exp ?? 0) - (claims.iat ?? 0), type === 'access' ? 900 : 7 * 86_400)
  }
  const stored = await sql(server, acme.db.name, 'SELECT * FROM refresh_tokens')
  t.notOk(JSON.stringify(stored).includes(json.result.refreshToken), 'stored as a hash only')
  t.equal((await login({ email: right.email, password: PASSWORD })).status, 200, 'key is optional')
})

t.test('a form works as a login body too', async t => {
  const answer = await gateway.call(port, acme, 'POST', '/api/auth/login', {
    principal: null,
    body: Buffer.from(new URLSearchParams(right).toString()),
    headers: ['content-type', 'application/x-www-form-urlencoded'],
  })
  t.equal(answer.status, 200)
  const twice = await gateway.call(port, acme, 'POST', '/api/auth/login', {
    principal: null,
    body: Buffer.from(`${new URLSearchParams(right)}&email=x`),
    headers: ['content-type', 'application/x-www-form-urlencoded'],
  })
  t.equal(twice.json.code, 'BODY_INVALID')
})

t.test('all wrong credentials give one answer', async t => {
  await sql(
    server,
    acme.db.name,
    `INSERT INTO users (email, is_active, password_hash)
     SELECT 'off@acme.example', false, password_hash FROM users LIMIT 1`,
  )
  await sql(server, acme.db.name, `INSERT INTO users (email) VALUES ('none@acme.example')`)
  const answers = await Promise.all([
    login({ ...right, password: 'wrong' }),
    login({ ...right, email: 'nobody@acme.example' }),
    login({ ...right, email: 'off@acme.example' }),
    login({ ...right, email: 'none@acme.example' }),
    login({ ...right, tenant_key: 'globex' }),
    login(right, globex),
    // What could not be a login at all is no different from a wrong one.
    login({ tenant_key: 'acme' }),
    login({ ...right, email: '' }),
    login({ ...right, email: 'a\u0000b' }),
    login({ ...right, password: 7 }),
    login({ ...right, password: 'x'.repeat(100_000) }),
    login(JSON.parse('{"__proto__":{"email":"x"}}')),
  ])
  const bodies = answers.map(({ status, json: { request_id, ...body } }) => ({ status, body }))
  for (const body of bodies) {
    t.same(body, bodies[0])
    t.match(body, { status: 401, body: { code: 'INVALID_CREDENTIALS', result: null } })
  }
})

t.test('a login that cannot be right costs what a wrong password costs', async t => {
  await sql(
    server,
    acme.db.name,
    `INSERT INTO users (email, password_hash) VALUES
     ('older@acme.example', '$2b$10$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz01234')`,
  )
  /** CPU time of this process, in which the app runs: other programs make it wait, not work. */
  const leastCpuMs = async (body: object) => {
    let least = Number.POSITIVE_INFINITY
    for (let i = 0; i < 5; i++) {
      const before = process.cpuUsage()
      t.equal((await login(body)).json.code, 'INVALID_CREDENTIALS')
      const { user, system } = process.cpuUsage(before)
      least = Math.min(least, (user + system) / 1000)
    }
    return least
  }
  const wrongMs = await leastCpuMs({ ...right, password: 'wrong' })
  for (const [name, body] of Object.entries({
    'unknown user': { ...right, email: 'nobody@acme.example' },
    'short in characters, too long in bytes': { ...right, password: '\u20ac'.repeat(1000) },
    'no password': { tenant_key: 'acme', email: right.email },
    'a hash of another kind': { ...right, email: 'older@acme.example' },
  })) {
    const factor = (await leastCpuMs(body)) / wrongMs
    t.ok(factor > 0.5, `${name}: ${factor.toFixed(2)} of a wrong password's CPU time`)
  }
})

t.test('a refresh token is good once; using it again ends its whole family', async t => {
  const first = (await login(right)).json.result.refreshToken
  const other = (await login(right)).json.result.refreshToken
  const second = (await refresh(first)).json.result
  t.match(second, { accessToken: String, refreshToken: String })
  t.not(second.refreshToken, first)
  const reused = await refresh(first)
  t.equal(reused.status, 401)
  t.equal(reused.json.code, 'TOKEN_INVALID')
  t.equal((await refresh(second.refreshToken)).status, 401, 'the thief’s successor is dead too')
  t.equal((await refresh(other)).status, 200, 'another login lives on')
})

t.test('a rotated token keeps the time of its sign-in, however often it is rotated', async t => {
  const claims = (token: string) => decodeJwt<{ orig_iat: number }>(token)
  const first = (await login(right)).json.result
  const signedInAt = claims(first.refreshToken).orig_iat
  t.equal(signedInAt, claims(first.refreshToken).iat)
  t.equal(claims(first.accessToken).orig_iat, signedInAt)
  // The clock of a token moves in whole seconds.
  await until('the next second', () => Math.floor(Date.now() / 1000) > signedInAt)
  let session = first
  for (let i = 0; i < 2; i++) session = (await refresh(session.refreshToken)).json.result
  for (const token of [session.accessToken, session.refreshToken]) {
    t.ok((claims(token).iat ?? 0) > signedInAt)
    t.equal(claims(token).orig_iat, signedInAt)
  }
})

t.test('of concurrent refreshes of one token at most one wins', async t => {
  const { refreshToken } = (await login(right)).json.result
  const answers = await Promise.all(Array.from({ length: 8 }, () => refresh(refreshToken)))
  const winners = answers.filter(({ status }) => status === 200)
  t.equal(winners.length, 1)
  t.ok(answers.every(({ status }) => status === 200 || status === 401))
  const after = await refresh(winners[0]?.json.result.refreshToken)
  t.equal(after.status, 401, 'the others were reuse')
})

t.test('only a live refresh token of this tenant is accepted', async t => {
  const { accessToken, refreshToken } = (await login(right)).json.result
  const secret = new TextEncoder().encode(keys.env.JWT_SECRET_REFRESH_TOKEN)
  const forge = (claims: object, exp = '1h') =>
    new SignJWT({ id: acme.user.sub, tenant_id: acme.id, type: 'refresh', ...claims })
      .setProtectedHeader({ alg: 'HS256' })
      .setJti('x')
      .setIssuedAt()
      .setExpirationTime(exp)
      .sign(secret)
  const cases: [string, TestAnswer, string][] = [
    ['access token', await refresh(accessToken), 'TOKEN_INVALID'],
    ['other tenant', await refresh(refreshToken, globex), 'TOKEN_INVALID'],
    ['never stored', await refresh(await forge({})), 'TOKEN_INVALID'],
    ['wrong type', await refresh(await forge({ type: 'access' })), 'TOKEN_INVALID'],
    ['expired', await refresh(await forge({}, '-1h')), 'TOKEN_EXPIRED'],
    ['garbage', await refresh('a.b.c'), 'TOKEN_INVALID'],
    ['none', await refresh(''), 'VALIDATION_FAILED'],
  ]
  for (const [name, answer, code] of cases) t.equal(answer.json.code, code, name)
  t.equal((await refresh(refreshToken)).status, 200, 'none of them spent the real one')
})

t.test('logout revokes all refresh tokens of the user', async t => {
  const { refreshToken } = (await login(right)).json.result
  t.equal((await gateway.call(port, acme, 'GET', '/api/auth/logout')).status, 200)
  t.equal((await refresh(refreshToken)).status, 401)
})

t.test('profile shows the user and the tenant, and nothing of the row’s secrets', async t => {
  const { json } = await gateway.call(port, acme, 'GET', '/api/auth/profile')
  t.same(json.result, {
    id: acme.user.sub,
    email: acme.user.email,
    name: 'Admin',
    role_id: 1,
    tenant: { id: acme.id, key: 'acme' },
  })
  const foreign = await gateway.call(port, globex, 'GET', '/api/auth/profile', {
    principal: acme.user,
  })
  t.equal(foreign.json.code, 'TOKEN_INVALID', 'a user of one tenant is nobody in another')
})

t.test('a changed password signs everyone out and replaces the old one', async t => {
  const { refreshToken } = (await login(right)).json.result
  const change = (body: object) =>
    gateway.call(port, acme, 'POST', '/api/auth/change-password', { body })
  t.equal((await change({ currentPassword: 'wrong', newPassword: 'another one' })).status, 400)
  t.equal((await change({ currentPassword: PASSWORD, newPassword: 'short' })).status, 400)
  t.equal((await change({ newPassword: 'another one' })).status, 400)
  t.equal((await login(right)).status, 200, 'a refused change changes nothing')
  const done = await change({ current_password: PASSWORD, new_password: 'another one' })
  t.equal(done.status, 200)
  t.equal((await login(right)).status, 401)
  t.equal((await refresh(refreshToken)).status, 401)
  const again = await login({ ...right, password: 'another one' })
  t.match(again.json.result, { first_login: false })
})
