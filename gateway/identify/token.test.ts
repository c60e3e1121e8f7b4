import { createHmac } from 'node:crypto'
import t from 'tap'
import type { Fault } from '../../registry/lib/errors.ts'
import { secretKey, verifyToken } from './token.ts'

const SECRET = Buffer.from('a secret of at least thirty-two bytes')
const OTHER = Buffer.from('another secret of thirty-two bytes and more')
const TENANT = '0b8e7c1e-7d0c-4c43-9a3b-0f6f5a0e7a11'
const NOW_MS = Date.UTC(2026, 0, 1)
const NOW_S = NOW_MS / 1000
const CLAIMS = { id: 'u1', tenant_id: TENANT, iat: NOW_S - 10, exp: NOW_S + 900 }

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
function make(claims: unknown, header: unknown = { alg: 'HS256', typ: 'JWT' }, secret = SECRET) {
  const signed = `${encode(header)}.${encode(claims)}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}
const verify = (token: string, types: (string | null)[] = [null, 'access'], secrets = [SECRET]) =>
  verifyToken(token, secrets.map(String).map(secretKey), types, NOW_MS)
const code = (act: () => unknown) => {
  try {
    act()
    return 'nothing thrown'
  } catch (error) {
    return (error as Fault).code
  }
}

t.test('a good token yields tenant, user and times', async t => {
  const claims = { ...CLAIMS, email: 'a@b.c', role_id: 1, jti: 'j', type: 'access', evil: '\r\n' }
  t.strictSame(verify(make(claims)), {
    tenantId: TENANT,
    principal: { sub: 'u1', email: 'a@b.c', role_id: 1, jti: 'j', exp: CLAIMS.exp },
    issuedAtS: CLAIMS.iat,
    expiresAtS: CLAIMS.exp,
  })
})

t.test('a token of the replaced API, without type and jti, is an access token', async t => {
  t.equal(verify(make(CLAIMS)).tenantId, TENANT)
})

t.test('any of several secrets is accepted, and no other', async t => {
  t.ok(verify(make(CLAIMS), undefined, [OTHER, SECRET]))
  t.equal(
    code(() => verify(make(CLAIMS, undefined, OTHER))),
    'TOKEN_INVALID',
  )
})

t.test('a token of another kind is refused', async t => {
  for (const type of ['refresh', '2fa_pending', '', 0, {}, ['access']]) {
    t.equal(
      code(() => verify(make({ ...CLAIMS, type }))),
      'TOKEN_INVALID',
      String(type),
    )
  }
  t.ok(verify(make({ ...CLAIMS, type: '2fa_pending' }), ['2fa_pending']))
  t.equal(
    code(() => verify(make(CLAIMS), ['2fa_pending'])),
    'TOKEN_INVALID',
  )
})

t.test('the algorithm is ours to choose, not the token’s', async t => {
  const headers = [
    { alg: 'none' },
    { alg: 'HS512' },
    { alg: 'RS256' },
    { alg: 'hs256' },
    { typ: 'JWT' },
    { alg: 'HS256', crit: ['exp'] },
    { alg: 'HS256', jku: 'http://evil' },
    { alg: 'HS256', jwk: {} },
    { alg: 'HS256', x5u: 'http://evil' },
    { alg: 'HS256', x5c: [] },
    { alg: 'HS256', zip: 'DEF' },
    { alg: 'HS256', b64: false },
    { alg: 'HS256', typ: 'tenant-context+jwt' },
    [],
    null,
    'x',
  ]
  for (const header of headers) {
    t.equal(
      code(() => verify(make(CLAIMS, header))),
      'TOKEN_INVALID',
      JSON.stringify(header),
    )
  }
})

t.test('a secret longer than a block counts as its hash', async t => {
  const long = Buffer.from('x'.repeat(200))
  t.ok(verify(make(CLAIMS, undefined, long), undefined, [long]))
  t.equal(
    code(() => verify(make(CLAIMS, undefined, long), undefined, [Buffer.from('x'.repeat(64))])),
    'TOKEN_INVALID',
  )
})

t.test('a changed byte anywhere is refused', async t => {
  const token = make(CLAIMS)
  for (let i = 0; i < token.length; i++) {
    const changed = token.slice(0, i) + (token[i] === 'A' ? 'B' : 'A') + token.slice(i + 1)
    t.equal(
      code(() => verify(changed)),
      'TOKEN_INVALID',
    )
  }
})

t.test('what is no compact token is refused', async t => {
  const token = make(CLAIMS)
  const texts = ['', 'x', 'a.b', 'a.b.c', `${token}.x`, ` ${token}`, `${token}=`, 'x'.repeat(9000)]
  for (const text of texts)
    t.equal(
      code(() => verify(text)),
      'TOKEN_INVALID',
    )
})

t.test('times are checked with 30 s of tolerance, and exp is required', async t => {
  const at = (claims: object) => code(() => verify(make({ ...CLAIMS, ...claims })))
  t.equal(at({ exp: NOW_S - 29 }), 'nothing thrown')
  t.equal(at({ exp: NOW_S - 31 }), 'TOKEN_EXPIRED')
  t.equal(at({ exp: undefined }), 'TOKEN_INVALID')
  t.equal(at({ exp: 'soon' }), 'TOKEN_INVALID')
  t.equal(at({ exp: null }), 'TOKEN_INVALID')
  t.equal(at({ nbf: NOW_S + 31 }), 'TOKEN_INVALID')
  t.equal(at({ iat: NOW_S + 31 }), 'TOKEN_INVALID')
})

t.test('a rotated token is as old as the sign-in that it descends from', async t => {
  const issuedAtS = (claims: object) => verify(make({ ...CLAIMS, ...claims })).issuedAtS
  t.equal(issuedAtS({ orig_iat: NOW_S - 5000 }), NOW_S - 5000)
  t.equal(issuedAtS({ orig_iat: NOW_S + 5000 }), CLAIMS.iat, 'but never younger than itself')
  t.equal(issuedAtS({ orig_iat: NOW_S - 5, iat: undefined }), 0)
  t.equal(
    code(() => verify(make({ ...CLAIMS, orig_iat: 'then' }))),
    'TOKEN_INVALID',
  )
})

t.test('a token without a tenant says so', async t => {
  for (const tenant of [undefined, null, '', 'acme', 7, {}, `${TENANT}x`]) {
    t.equal(
      code(() => verify(make({ ...CLAIMS, tenant_id: tenant }))),
      'TOKEN_TENANT_MISSING',
    )
  }
})
