import { generateKeyPairSync, randomBytes } from 'node:crypto'
import t from 'tap'
import { EnvError } from '../registry/lib/env.ts'
import { readGatewayConfig } from './config.ts'

const GOOD = {
  APP_UPSTREAMS: 'http://127.0.0.1:3000, dns:http://app:3000',
  TENANT_REGISTRY_DB_URL: 'postgres://u:planted-marker@127.0.0.1/registry',
  MASTER_ENCRYPTION_KEY: 'a'.repeat(64),
  JWT_SECRET_ACCESS_TOKEN: 'access-secret-of-thirty-two-bytes!!',
  JWT_SECRET_REFRESH_TOKEN: 'refresh-secret-of-thirty-two-bytes!',
  TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(
    generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' }),
  ),
  TENANT_CONTEXT_ENCRYPTION_KEY: randomBytes(32).toString('base64url'),
}
const problems = (env: NodeJS.ProcessEnv) => {
  try {
    readGatewayConfig(env)
    return []
  } catch (error) {
    if (error instanceof EnvError) return error.problems
    throw error
  }
}

t.test('defaults are those of the design', async t => {
  const { config, warnings } = readGatewayConfig(GOOD)
  t.match(config, {
    PORT: 9090,
    ADMIN_PORT: 9091,
    ADMIN_HOST: '127.0.0.1',
    REGISTRY_DB_POOL_MAX: 5,
  })
  t.match(config.APP_UPSTREAMS, [
    { kind: 'origin' },
    { kind: 'dns', url: new URL('http://app:3000') },
  ])
  t.strictSame(warnings, [])
})

t.test('every problem is listed at once, each by its name', async t => {
  const names = problems({
    ...GOOD,
    PORT: 'x',
    TENANT_REGISTRY_DB_URL: '',
    APP_UPSTREAMS: 'ftp://x',
    TENANT_CONTEXT_SIGNING_KEY: 'planted-marker',
    TENANT_CONTEXT_ENCRYPTION_KEY: 'short',
    FRONTEND_URL: 'https://a.example/path',
    TRUSTED_PROXIES: 'nonsense',
    ROUTES_FILE: '/does/not/exist',
  }).map(problem => problem.split(' ')[0])
  t.strictSame(names.sort(), [
    'APP_UPSTREAMS',
    'FRONTEND_URL',
    'PORT',
    'ROUTES_FILE',
    'TENANT_CONTEXT_ENCRYPTION_KEY',
    'TENANT_CONTEXT_SIGNING_KEY',
    'TENANT_REGISTRY_DB_URL',
    'TRUSTED_PROXIES',
  ])
})

t.test('no value shows in a problem', async t => {
  const text = problems({
    ...GOOD,
    PORT: 'planted-marker',
    TENANT_CONTEXT_SIGNING_KEY: '{planted-marker',
  })
  t.equal(text.length, 2)
  t.notMatch(text.join('\n'), /planted-marker/)
})

t.test('a JWKS needs its issuer and audience, one place, and TLS in production', async t => {
  const jwks = {
    ...GOOD,
    JWT_JWKS_URL: 'https://id.example/keys',
    JWT_ISSUER: 'https://id.example',
    JWT_AUDIENCE: 'api',
  }
  t.strictSame(problems({ ...jwks, NODE_ENV: 'production' }), [])
  t.strictSame(problems({ ...jwks, JWT_ISSUER: '' }), ['JWT_ISSUER is required with a JWKS'])
  t.strictSame(problems({ ...jwks, JWT_AUDIENCE: '', JWT_ISSUER: '', PORT: 'x' }).length, 3)
  const file = import.meta.filename
  t.match(problems({ ...jwks, JWT_JWKS_FILE: file }), [/JWT_JWKS_FILE and JWT_JWKS_URL/])
  t.strictSame(problems({ ...jwks, JWT_JWKS_URL: '', JWT_JWKS_FILE: file }), [])
  t.match(problems({ ...jwks, JWT_JWKS_URL: '', JWT_JWKS_FILE: '/no/such' }), [
    /FILE cannot be read/,
  ])
  const plain = { ...jwks, JWT_JWKS_URL: 'http://id.example/keys' }
  t.strictSame(readGatewayConfig(plain).warnings, ['JWT_JWKS_URL must be https:'])
  t.strictSame(problems({ ...plain, NODE_ENV: 'production' }), ['JWT_JWKS_URL must be https:'])
  t.match(problems({ ...GOOD, JWT_JWKS_URL: 'ftp://x' }), [
    /must be a URL/,
    /JWT_ISSUER/,
    /JWT_AUD/,
  ])
})

t.test('weak secrets are refused in production and warned of elsewhere', async t => {
  const weak = {
    ...GOOD,
    JWT_SECRET_ACCESS_TOKEN: 'short',
    JWT_SECRET_REFRESH_TOKEN: 'short',
    MASTER_ENCRYPTION_KEY: 'short',
  }
  t.equal(readGatewayConfig(weak).warnings.length, 4)
  t.equal(problems({ ...weak, NODE_ENV: 'production' }).length, 4)
  t.equal(problems({ ...weak, NODE_ENV: 'production', PORT: 'x' }).length, 5)
  t.strictSame(problems({ ...GOOD, NODE_ENV: 'production' }), [])
})

t.test('half a TLS and a PROXY header from anyone are problems, beside all others', async t => {
  const edge = { ...GOOD, TLS_CERT_FILE: '/none/cert.pem', PROXY_PROTOCOL: 'on', PORT: 'x' }
  t.match(problems(edge), [/^PORT /, /^TLS_KEY_FILE is required/, /^TRUSTED_PROXIES is required/])
  t.match(problems({ ...edge, TLS_KEY_FILE: '/none/key.pem', PORT: '' }), [
    /^TLS_CERT_FILE, TLS_KEY_FILE: \/none\/cert\.pem cannot be read: ENOENT/,
    /^TRUSTED_PROXIES is required/,
  ])
  t.match(problems({ ...GOOD, PROXY_PROTOCOL: 'v3' }), [/^PROXY_PROTOCOL must be/, /^TRUSTED_/])
  t.match(problems({ ...GOOD, UPSTREAM_SSL_CA: '/none' }), [/^UPSTREAM_SSL_CA cannot be read/])
  t.strictSame(problems({ ...GOOD, PROXY_PROTOCOL: 'v2', TRUSTED_PROXIES: '10.0.0.0/8' }), [])
})
