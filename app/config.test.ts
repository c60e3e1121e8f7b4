import t from 'tap'
import { EnvError } from '../registry/lib/env.ts'
import { readAppConfig } from './config.ts'
import { makeKeys } from './test-kit.ts'

const good = makeKeys().env

const problemsOf = (env: Record<string, string>): readonly string[] => {
  try {
    readAppConfig({ ...good, ...env })
    return []
  } catch (error) {
    if (error instanceof EnvError) return error.problems
    throw error
  }
}

t.test('the four secrets are all that must be set', async t => {
  const config = readAppConfig(good)
  t.match(config, { host: '127.0.0.1', port: 3000, adminPort: 3001, isProduction: false })
  t.match(config.kit.pools, { connectionsMax: 5, connectionsMin: 0, connectMs: 3000 })
  t.match(config.tokens, { accessLifeS: 900, refreshLifeS: 604_800 })
  t.equal(config.kit.buckets?.defaultBucket, null)
  t.equal(readAppConfig({ ...good, NODE_ENV: 'production' }).host, '0.0.0.0')
  t.notOk(JSON.stringify(config.tokens).includes(good.JWT_SECRET_ACCESS_TOKEN ?? ''))
})

t.test('production refuses weak secrets that development only warns of', async t => {
  const weak = { JWT_SECRET_ACCESS_TOKEN: 'short', JWT_SECRET_REFRESH_TOKEN: 'short' }
  t.equal(problemsOf({ ...weak, NODE_ENV: 'production' }).length, 3)
  t.same(problemsOf(weak), [])
  t.match(readAppConfig({ ...good, ...weak }).warnings.join('\n'), /at least 32 bytes/)
})

t.test('contradictions are named', async t => {
  const cases: [Record<string, string>, RegExp][] = [
    [{ BUCKET_ACCESS_KEY: 'a' }, /BUCKET_SECRET_KEY/],
    [{ BUCKET_NAME: 'b', BUCKET_ENDPOINT: 'http://x' }, /BUCKET_ACCESS_KEY/],
    [{ TENANT_ADDRESS_ALLOW: '10.0.0.0/99' }, /TENANT_ADDRESS_ALLOW/],
    [{ DB_SSL_CA: '/does/not/exist' }, /DB_SSL_CA cannot be read: ENOENT/],
    [{ DB_SSL_CA: '-----BEGIN X-----' }, /DB_SSL_CA must be a certificate in PEM/],
    [{ JWT_ACCESS_TOKEN_EXPIRY: '15 minutes' }, /JWT_ACCESS_TOKEN_EXPIRY must be a duration/],
    [{ PORT: '3001' }, /ADMIN_PORT/],
    [{ TENANT_CONTEXT_ENCRYPTION_KEY: 'x' }, /TENANT_CONTEXT_ENCRYPTION_KEY must be 32 bytes/],
    [{ TENANT_CONTEXT_PUBLIC_KEYS: '{' }, /TENANT_CONTEXT_PUBLIC_KEYS must be a JWKS/],
  ]
  for (const [env, expected] of cases) {
    const problems = problemsOf(env)
    t.equal(problems.length, 1, JSON.stringify(env))
    t.match(problems[0], expected)
  }
  t.equal(problemsOf(Object.fromEntries(Object.keys(good).map(name => [name, '']))).length, 4)
})
