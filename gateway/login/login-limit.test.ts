import t from 'tap'
import type { Exchange } from '../exchange.ts'
import { DEFAULT_ROUTES, type Route } from '../route.ts'
import { LoginLimit } from './login-limit.ts'
import { canonicalAccount } from './subject.ts'

const MINUTE_MS = 60_000
const OPTIONS = { max: 3, perAccountMax: 8, perAddressMax: 0, windowMs: 15 * MINUTE_MS }

interface Attempt {
  readonly tenant?: string
  readonly account?: unknown
  readonly address?: string
  readonly route?: string
  /** Of the app's answer; 0: the client left before. */
  readonly status?: number
  /** What the gateway refused it with, without asking the app. */
  readonly code?: string
  readonly sub?: string
}

/** One attempt from its beginning to its end: its outcome, or the refusal of a limit. */
async function attempt(limit: LoginLimit, given: Attempt = {}): Promise<string> {
  const exchange = {
    route: DEFAULT_ROUTES.find(({ name }) => name === (given.route ?? 'login')) as Route,
    tenantRef: { by: 'key', key: given.tenant ?? 'acme' },
    account: canonicalAccount('account' in given ? given.account : 'a@acme.example'),
    principal: given.sub === undefined ? null : { sub: given.sub },
    attempts: 0,
    status: 0,
    errorCode: null,
    loginPass: null,
  } as unknown as Exchange
  try {
    await limit.enter(exchange, given.address ?? '192.0.2.1')
  } catch (error) {
    return (error as Error).message
  }
  exchange.status = given.status ?? 401
  exchange.attempts = given.code === undefined ? 1 : 0
  exchange.errorCode = given.code ?? null
  limit.leave(exchange)
  return 'tried'
}

async function triedOf(limit: LoginLimit, times: number, given: Attempt = {}): Promise<number> {
  let tried = 0
  for (let i = 0; i < times; i++) if ((await attempt(limit, given)) === 'tried') tried++
  return tried
}

const make = (change = {}) => new LoginLimit({ ...OPTIONS, now: () => 1000, ...change })

t.test('one account of one tenant from one network has so many guesses', async t => {
  const limit = make()
  t.equal(await triedOf(limit, 10), 3)
  t.equal(await attempt(limit, { account: ' A@ACME.example' }), 'LOGIN_LIMITED: failures by login')
  t.equal(await attempt(limit, { status: 200 }), 'LOGIN_LIMITED: failures by login')
  for (const other of [
    { tenant: 'globex' },
    { account: 'b@acme.example' },
    { address: '192.0.2.2' },
    { route: 'verify-reset-otp' },
  ]) {
    t.equal(await attempt(limit, other), 'tried')
  }
  t.equal(limit.size, 0)
})

t.test('a tenant that does not exist is limited like one that does', async t => {
  const limit = make()
  const unknown = { tenant: 'nobody', code: 'INVALID_CREDENTIALS' }
  t.equal(await triedOf(limit, 10, unknown), await triedOf(limit, 10))
  const left = { ...unknown, tenant: 'nowhere', status: 0 }
  t.equal(await triedOf(limit, 10, left), 3, 'also where the client does not wait for the answer')
  t.equal(await triedOf(limit, 10, { tenant: 'globex', status: 0 }), 3)
})

t.test('only refusals count: no success, and nothing that nobody judged', async t => {
  const limit = make()
  t.equal(await triedOf(limit, 20, { status: 200 }), 20)
  t.equal(await triedOf(limit, 20, { status: 503 }), 20)
  t.equal(await triedOf(limit, 20, { code: 'REGISTRY_UNAVAILABLE', status: 503 }), 20)
  t.equal(await triedOf(limit, 20), 3)
})

t.test('a request for a reset mail counts whatever the answer', async t => {
  const limit = make()
  t.equal(await triedOf(limit, 20, { route: 'forgot-password', status: 200 }), 3)
})

t.test('guesses at one account from many networks are limited too', async t => {
  const limit = make()
  let tried = 0
  for (let i = 0; i < 100; i++) tried += await triedOf(limit, 1, { address: `198.51.100.${i}` })
  t.equal(tried, 8)
  t.match(await attempt(limit, { address: '203.0.113.9' }), /login-account/)
  t.equal(await attempt(limit, { account: 'b@acme.example' }), 'tried', 'and no other account')
})

t.test('strangers cannot lock a user out of a network that it signs in from', async t => {
  const limit = make()
  const home = { address: '203.0.113.1' }
  t.equal(await attempt(limit, { ...home, status: 200 }), 'tried')
  for (let i = 0; i < 100; i++) await attempt(limit, { address: `198.51.100.${i}` })
  t.match(await attempt(limit, { address: '203.0.113.2', status: 200 }), /login-account/)
  t.equal(await attempt(limit, { ...home, status: 200 }), 'tried')
  t.equal(await triedOf(limit, 10, home), 3, 'where guesses are limited all the same')
})

t.test('a forgotten password opens no network for guesses', async t => {
  const limit = make()
  await attempt(limit, { route: 'forgot-password', status: 200 })
  let tried = 0
  for (let i = 0; i < 100; i++) tried += await triedOf(limit, 1, { address: `198.51.100.${i}` })
  t.equal(tried, 8)
  t.match(await attempt(limit), /login-account/)
})

t.test('few guesses at each of many accounts and tenants are limited by network', async t => {
  const limit = make({ perAddressMax: 20 })
  let tried = 0
  for (let i = 0; i < 100; i++) {
    const address = `2001:db8::${i.toString(16)}`
    tried += await triedOf(limit, 1, { tenant: `t${i % 7}`, account: `u${i}`, address })
  }
  t.equal(tried, 20)
  t.match(await attempt(limit, { account: 'z', address: '2001:db8::ffff' }), /login-address/)
  t.equal(await attempt(limit, { account: 'z', address: '2001:db8:0:1::1' }), 'tried')
  t.equal(limit.size, 0, 'what was held when a later limit refused is given back')
})

t.test(
  'a body without an account is limited by its network, not for all of its tenant',
  async t => {
    const limit = make()
    let tried = 0
    for (let i = 0; i < 50; i++) {
      tried += await triedOf(limit, 1, { account: null, address: `198.51.100.${i}` })
    }
    t.equal(tried, 50)
    t.equal(await triedOf(limit, 10, { account: null }), 3)
  },
)

t.test('codes of the second factor are limited by the user, from wherever', async t => {
  const limit = make()
  let tried = 0
  for (let i = 0; i < 50; i++) {
    tried += await triedOf(limit, 1, {
      ...{ route: 'verify-2fa', sub: 'u1', account: null },
      address: `198.51.100.${i}`,
    })
  }
  t.equal(tried, 3)
  t.equal(await attempt(limit, { route: 'verify-2fa', sub: 'u2', account: null }), 'tried')
})

t.test('0 turns a limit off', async t => {
  const limit = make({ max: 0, perAccountMax: 0 })
  t.equal(await triedOf(limit, 200), 200)
})
