import t from 'tap'
import { DEFAULT_ROUTES, makeRouter, parseRoutes } from './route.ts'

t.test('the table of the contract', async t => {
  const route = makeRouter(DEFAULT_ROUTES)
  const credential = (method: string, path: string) => route(method, path)?.credential ?? null
  for (const name of ['login', 'forgot-password', 'verify-reset-otp', 'reset-password']) {
    t.equal(credential('POST', `/api/auth/${name}`), 'login')
    t.equal(credential('GET', `/api/auth/${name}`), 'access_token', 'other methods need a token')
    t.equal(credential('POST', `/api/auth/${name}/`), 'access_token', 'as do other paths')
  }
  t.equal(credential('POST', '/api/auth/refresh-token'), 'refresh_token')
  t.equal(credential('POST', '/api/auth/verify-2fa'), 'temp_token')
  t.equal(credential('GET', '/api/anything/at/all'), 'access_token')
  for (const path of ['/', '/api', '/apis/x', '/admin', '/API/x', '/metrics', '/readyz']) {
    t.equal(credential('GET', path), null, path)
  }
})

t.test('a routes file replaces the table', async t => {
  const routes = parseRoutes(
    '{"routes":[{"name":"signin","methods":["PUT"],"path":"/v1/signin","credential":"login"},' +
      '{"name":"rest","path":"/v1/*","credential":"access_token"}]}',
  )
  const route = makeRouter(routes)
  t.equal(route('PUT', '/v1/signin')?.name, 'signin')
  t.equal(route('POST', '/v1/signin')?.name, 'rest')
  t.equal(route('POST', '/api/auth/login'), null)
})

t.test('a logout ends its token, by whatever method, and nothing else does', async t => {
  const route = makeRouter(DEFAULT_ROUTES)
  for (const method of ['GET', 'POST', 'HEAD']) {
    t.match(route(method, '/api/auth/logout'), { revokes: true, credential: 'access_token' })
  }
  t.equal(route('GET', '/api/auth/logout/')?.revokes, false)
  t.strictSame(
    DEFAULT_ROUTES.filter(({ revokes }) => revokes).map(({ name }) => name),
    ['logout'],
  )
  const own = '{"name":"out","path":"/v1/out","credential":"access_token"'
  t.equal(parseRoutes(`{"routes":[${own},"revokes":true}]}`)[0]?.revokes, true)
  t.equal(parseRoutes(`{"routes":[${own}}]}`)[0]?.revokes, false)
  const wrong = '{"name":"out","path":"/v1/out","credential":"login","revokes":true}'
  t.throws(() => parseRoutes(`{"routes":[${wrong}]}`), /routes\.0\.revokes/)
})

t.test('a routes file that is wrong says where', async t => {
  t.throws(() => parseRoutes('{"routes":[]}'), /routes/)
  t.throws(() => parseRoutes('{"routes":[{"name":"x","path":"v1","credential":"login"}]}'), /path/)
  t.throws(
    () => parseRoutes('{"routes":[{"name":"x","path":"/v1","credential":"none"}]}'),
    /credential/,
  )
})
