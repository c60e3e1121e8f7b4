import { spawnSync } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { exportJWK, generateKeyPair } from 'jose'
import t from 'tap'
import { childEnv } from '../../deploy/local/run.ts'
import { startAdminWorld } from '../admin/test-kit.ts'
import type { Finding } from '../doctor/finding.ts'
import { Keyring } from '../envelope.ts'
import { checkMasterKey } from '../key-check.ts'
import { doctor } from './doctor.ts'
import type { Session } from './session.ts'
import { runHere, spawnCli } from './test-kit.ts'

const world = await startAdminWorld()
const { deps, registry, env } = world
t.teardown(() => world.stop())
const { admin } = registry

// As an operator does it, so that the Registry knows what was applied.
const migrate = join(import.meta.dirname, '../../migrations/registry-migrate.ts')
const migrated = spawnSync(process.execPath, [migrate], { env: { ...childEnv(), ...env } })
t.equal(migrated.status, 0, String(migrated.stderr))

async function examine(
  vars: Readonly<Record<string, string>> = {},
  flags = { quick: true },
  change: Partial<Session> = {},
) {
  const ran = await runHere(
    world,
    (session, streams) => doctor(session, { ...flags, json: true }, { ...env, ...vars }, streams),
    '',
    change,
  )
  const { findings } = JSON.parse(ran.out) as { findings: Finding[] }
  const of = (check: string) => findings.filter(one => one.check === check)
  return { ...ran, findings, of }
}

t.test('a sound installation is told so, line by line, with exit code 0', async t => {
  const newest = '0001'
  const { id } = await world.create('acme')
  await admin.query('UPDATE tenants SET schema_version = $2 WHERE id = $1', [id, newest])
  const ran = await spawnCli(['doctor'], env)
  t.match(ran, { code: 0, err: '' })
  for (const line of [
    /^ok {4}registry: PostgreSQL \d+/m,
    /^ok {4}clock: /m,
    /^ok {4}migrations: all \d+ are applied$/m,
    /^ok {4}triggers: all \d+ are there/m,
    /^ok {4}listener: a notice arrives in \d+ ms$/m,
    /^ok {4}master key: secrets: 1 of [0-9a-f]{16}$/m,
    /^ok {4}rows: 1 tenants, all fit/m,
    /^ok {4}schema: all at 0001$/m,
    /^ok {4}databases: all 1 can be used$/m,
    /^ok {4}connections: 127\.0\.0\.1:\d+: 1 tenants may open 10 of \d+$/m,
    /^ok {4}context keys: not checked/m,
    /^ok {4}replicas: not checked/m,
    /\n\d+ ok, 0 to look at, 0 broken\n$/,
  ]) {
    t.match(ran.out, line)
  }
})

t.test('what is broken in the Registry fails by name, with what to do', async t => {
  await admin.query('ALTER TABLE tenants DISABLE TRIGGER tenants_changed')
  const { rows } = await admin.query(
    `DELETE FROM doorman_migrations WHERE name LIKE '0009%' RETURNING *`,
  )
  const broken = await examine()
  t.equal(broken.code, 1)
  t.match(broken.of('triggers'), [{ level: 'fail', text: /: tenants\.tenants_changed$/ }])
  t.match(broken.of('migrations'), [
    { level: 'fail', text: /^not applied: 0009_admin\.sql$/, todo: /db:registry-migrate/ },
  ])
  await admin.query('ALTER TABLE tenants ENABLE TRIGGER tenants_changed')
  await admin.query(
    'INSERT INTO doorman_migrations (version, name, checksum, duration_ms) VALUES ($1, $2, $3, 0)',
    [rows[0].version, rows[0].name, rows[0].checksum],
  )
  await admin.query(
    `INSERT INTO doorman_migrations (version, name, checksum, duration_ms) VALUES ('9999', '9999_new.sql', '', 0)`,
  )
  const ahead = await examine()
  t.match(ahead, { code: 0 })
  t.match(ahead.of('migrations'), [{ level: 'warn', text: /9999_new/ }])
  await admin.query(`DELETE FROM doorman_migrations WHERE version = '9999'`)

  const store = Object.create(deps.store, {
    query: { value: () => Promise.reject(new Error('gone')) },
  })
  const away = await examine({}, { quick: true }, { store })
  t.equal(away.code, 1)
  t.match(away.findings[0], { check: 'registry', level: 'fail', text: 'gone' })
  t.strictSame(away.of('triggers'), [], 'what needs it is not told a second time')
})

t.test('tenants that cannot be served, or not for long, are named', async t => {
  const { id: lost } = await world.create('lost', { db_pool_max: 900 })
  await admin.query(`ALTER ROLE db_lost PASSWORD 'changed'`)
  const shared = { db_host: 'h', db_port: 1, db_name: 'd', db_user: 'u', db_password: 'p' }
  await world.create('twin-a', shared)
  await world.create('twin-b', { ...shared, allow_shared_database: true })
  await admin.query(`INSERT INTO tenants (tenant_key, db_name) VALUES ('half', 'half')`)
  const quick = await examine()
  t.match(quick.of('rows'), [{ level: 'fail', text: /^half \(\w+\): .*db_host is missing/ }])
  t.match(quick.of('shared databases'), [{ level: 'warn', text: 'twin-a, twin-b' }])
  t.match(quick.of('schema'), [{ level: 'warn', text: /^behind 0001: lost, twin-a, twin-b$/ }])
  t.match(quick.of('databases'), [{ text: /--quick/ }])
  await admin.query(`DELETE FROM tenants WHERE tenant_key IN ('half', 'twin-a', 'twin-b')`)
  const whole = await examine({}, { quick: false })
  t.match(whole.of('databases'), [
    { level: 'fail', text: /^lost: the database refuses this user and password$/ },
  ])
  t.match(whole.of('connections'), [
    { level: 'warn', text: /: 2 tenants may open 910 of \d+$/, todo: /max_connections/ },
  ])
  await admin.query('DELETE FROM tenants WHERE id = $1', [lost])
})

t.test('a master key that is wrong, old or missing is told, and never shown', async t => {
  const other = await Keyring.derive(['a wrong master key'])
  const wrong = await examine(
    {},
    { quick: true },
    {
      keyring: async () => {
        await checkMasterKey(deps.store, other)
        return other
      },
    },
  )
  t.match(wrong.of('master key'), [{ level: 'fail', text: /is not the key that this Registry/ }])
  const first = 'f'.repeat(64)
  const ring = await Keyring.derive([first, env.MASTER_ENCRYPTION_KEY as string])
  const old = await examine({}, { quick: true }, { keyring: async () => ring })
  t.match(old.of('master key'), [{ level: 'warn', todo: /rotate-master-key/ }])
  t.notMatch(old.out + wrong.out, env.MASTER_ENCRYPTION_KEY as string)
})

t.test('context keys are tried together, and replicas asked', async t => {
  const pair = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true })
  const other = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true })
  const jwks = async (key: Awaited<ReturnType<typeof generateKeyPair>>['publicKey']) =>
    JSON.stringify({ keys: [await exportJWK(key)] })
  const keys = {
    TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(await exportJWK(pair.privateKey)),
    TENANT_CONTEXT_ENCRYPTION_KEY: Buffer.alloc(32, 7).toString('base64url'),
  }
  const status = { '/readyz': 200 } as Record<string, number>
  const server = createServer((request, response) => {
    response.writeHead(status[request.url ?? ''] ?? 404).end()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const fits = await examine({
    ...keys,
    TENANT_CONTEXT_PUBLIC_KEYS: await jwks(pair.publicKey),
    APP_UPSTREAMS: `http://127.0.0.1:${port},dns:http://localhost:${port},http://127.0.0.1:1`,
  })
  t.match(fits.of('context keys'), [{ level: 'ok' }])
  const replicas = fits.of('replicas').map(({ level, text }) => `${level} ${text}`)
  t.match(replicas[0], /^ok http:\/\/127\.0\.0\.1:\d+ is ready/)
  t.ok(replicas.slice(1).includes(`ok http://127.0.0.1:${port} is ready`), 'of the name as well')
  t.match(replicas.at(-1), /^fail http:\/\/127\.0\.0\.1:1 does not answer: /)

  status['/readyz'] = 503
  const apart = await examine({
    ...keys,
    TENANT_CONTEXT_PUBLIC_KEYS: await jwks(other.publicKey),
    APP_UPSTREAMS: `http://127.0.0.1:${port}`,
  })
  t.match(apart.of('context keys'), [{ level: 'fail', todo: /TENANT_CONTEXT_PUBLIC_KEYS/ }])
  t.match(apart.of('replicas'), [{ level: 'fail', text: /status 503/ }])
  const { d } = JSON.parse(keys.TENANT_CONTEXT_SIGNING_KEY)
  t.notMatch(apart.out + fits.out, d)
})
