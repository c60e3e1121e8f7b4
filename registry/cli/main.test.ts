import { spawn } from 'node:child_process'
import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { childEnv } from '../../deploy/local/run.ts'
import { openConnections } from '../connection.ts'
import { Keyring } from '../envelope.ts'
import { verifyPassword } from '../lib/password.ts'
import { RegistryStore } from '../store.ts'
import type { TenantKey } from '../tenant.ts'
import { silent, startTestRegistry } from '../test-kit.ts'

const MASTER = 'e'.repeat(64)
const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent })
const keyring = await Keyring.derive([MASTER])
t.teardown(async () => {
  await store.close()
  await registry.stop()
})

const env = { TENANT_REGISTRY_DB_URL: registry.url, MASTER_ENCRYPTION_KEY: MASTER }

function run(args: string, input = '', vars: Record<string, string> = env) {
  return new Promise<{ code: number | null; out: string; err: string }>((resolve, reject) => {
    const child = spawn(
      process.execPath,
      [join(import.meta.dirname, 'main.ts'), ...args.split(' ')],
      {
        env: { ...childEnv(), ...vars },
      },
    )
    const texts = { out: '', err: '' }
    child.stdout.on('data', chunk => {
      texts.out += chunk
    })
    child.stderr.on('data', chunk => {
      texts.err += chunk
    })
    child.stdin.on('error', () => {})
    child.stdin.end(input)
    child.on('error', reject)
    child.on('close', code => resolve({ code, ...texts }))
  })
}

const DB = `--db-host 127.0.0.1 --db-port ${registry.server.port} --db-name acme_db --db-user acme_role`
const BUCKET = '--bucket-name b --bucket-provider minio --bucket-endpoint http://127.0.0.1:9000'

async function makeTenantDatabase() {
  await registry.admin.query(`CREATE ROLE acme_role LOGIN PASSWORD 'db-SECRET'`)
  await registry.admin.query('CREATE DATABASE acme_db OWNER acme_role')
  const client = new pg.Client({
    connectionString: registry.server.url('acme_db', 'acme_role', 'db-SECRET'),
  })
  await client.connect()
  await client.query(`CREATE TABLE users (id serial PRIMARY KEY, email text NOT NULL UNIQUE, name text,
    role_id integer, password_hash text, first_login boolean NOT NULL DEFAULT true)`)
  return client
}

t.test('a tenant lives: create, show, list, suspend, activate, set-db, set-bucket', async t => {
  const secrets = 'db-SECRET\nak-SECRET\nsk-SECRET\n'
  const created = await run(
    `create acme --name Acme ${DB} ${BUCKET} --bucket-prefix acme/`,
    secrets,
  )
  t.match(created, { code: 0, err: '' })
  t.match(created.out, /^created acme [0-9a-f-]{36}\n$/)
  const tenant = await store.findByKey('acme' as TenantKey)
  if (tenant === null) throw new Error('not created')
  t.match(openConnections(keyring, tenant), {
    db: { password: 'db-SECRET', user: 'acme_role' },
    bucket: { access_key: 'ak-SECRET', secret_key: 'sk-SECRET', prefix: 'acme/' },
  })
  const again = await run(`create acme ${DB}`, 'other\n')
  t.match(again, { code: 3, err: /exists already/ })

  const shown = await run(`show ${tenant.id} --json`)
  t.match(JSON.parse(shown.out), { tenant_key: 'acme', db_name: 'acme_db', bucket_prefix: 'acme/' })
  const listed = await run('list --json --mode shared --status active')
  t.match(JSON.parse(listed.out), [{ tenant_key: 'acme', status: 'active', problem: null }])
  const table = await run('list')
  t.match(table.out, /^KEY +ID .*\nacme +/)
  const all = shown.out + listed.out + table.out + (await run('show acme')).out
  t.notMatch(all, /SECRET|encrypted|v1\./)

  for (let i = 0; i < 2; i++) {
    t.match(await run('suspend acme --reason unpaid'), { code: 0, out: 'acme is suspended\n' })
  }
  t.match((await run('list --status suspended')).out, /acme .*unpaid/)
  t.match(await run('activate acme'), { code: 0, out: 'acme is active\n' })

  t.match(await run('set-db acme --db-pool-max 3 --keep-password'), { code: 0 })
  t.match(await run('set-db acme --db-host localhost', 'new-SECRET\n'), { code: 0 })
  const moved = await store.findById(tenant.id)
  if (moved === null) throw new Error('lost')
  const { db } = openConnections(keyring, moved)
  t.match(db, { host: 'localhost', name: 'acme_db', pool_max: 3, password: 'new-SECRET' })
  t.match(await run('set-bucket acme --bucket-name c', 'ak2\nsk2\n'), { code: 0 })
  t.match((await store.findById(tenant.id))?.bucket, { name: 'c', prefix: null, endpoint: null })
  t.match(await run('set-bucket acme --none'), { code: 0 })
  t.equal((await store.findById(tenant.id))?.bucket, null)
  await run(`set-db acme ${DB}`, 'db-SECRET\n')
})

t.test('a user is added with a hash that opens, once, in lower case', async t => {
  const client = await makeTenantDatabase()
  const add = 'add-user acme --email Admin@Acme.example --name Admin --role-id 1'
  t.match(await run(add, 'pass-word\n'), {
    code: 0,
    out: /^created admin@acme.example \d+\n$/,
    err: '',
  })
  t.match(await run(add, 'pass-word\n'), { code: 3 })
  t.match(await run(add.replace('Admin@', 'b@'), 'short\n'), { code: 2, err: /8 characters/ })
  const { rows } = await client.query('SELECT * FROM users')
  t.match(rows, [{ email: 'admin@acme.example', name: 'Admin', role_id: 1, first_login: true }])
  t.equal(await verifyPassword(rows[0].password_hash, 'pass-word'), true)
  t.equal(await verifyPassword(rows[0].password_hash, 'pass-word2'), false)

  const batch = ['x@a.example', 'x@a.example', 'bad'].map(email =>
    JSON.stringify({ key: 'acme', email, name: 'X', role_id: 2, password: 'SECRET-word' }),
  )
  const ran = await run('add-user --batch', batch.join('\n'))
  t.equal(ran.code, 1)
  t.match(
    ran.out,
    /^created acme x@a.example \d+\nexists {2}acme x@a.example\nfailed {2}line 3: email/,
  )
  t.notMatch(ran.out + ran.err, 'SECRET')
  t.equal((await client.query('SELECT FROM users')).rowCount, 2)
  await client.end()
})

t.test('sessions of a tenant are ended, and single tokens, by jti or as they are', async t => {
  const tenant = await store.findByKey('acme' as TenantKey)
  if (tenant === null) throw new Error('lost')
  const out = await run('revoke-sessions acme')
  t.match(out, { code: 0, err: '', out: /^acme refuses sessions begun before \d{4}-.*Z\n$/ })
  const since = (await store.findById(tenant.id))?.tokensValidAfterMs
  t.match(out.out, new Date(since as number).toISOString())

  const exp = Math.floor(Date.now() / 1000) + 900
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const tokenOf = (claims: object) => `e30.${encode({ exp, tenant_id: tenant.id, ...claims })}.sIg`
  t.match(await run(`revoke-token acme --jti one --expires ${exp}`), {
    code: 0,
    out: `acme refuses token one until ${new Date(exp * 1000).toISOString()}\n`,
  })
  const iso = new Date(exp * 1000).toISOString()
  t.match(await run(`revoke-token acme --jti iso --expires ${iso}`), { code: 0 })
  t.match(await run('revoke-token acme', `${tokenOf({ jti: 'two' })}\n`), { code: 0 })
  const legacy = await run('revoke-token acme', `${tokenOf({})}\n`)
  t.match(legacy, { code: 0, out: /refuses token sha256:[\w-]{43} until/ })
  t.notMatch(legacy.out + legacy.err, tokenOf({}).split('.')[1] as string)
  const { rows } = await registry.admin.query(
    `SELECT token_id, extract(epoch FROM expires_at)::int AS exp FROM revoked_tokens
     WHERE tenant_id = $1 ORDER BY token_id COLLATE "C"`,
    [tenant.id],
  )
  t.match(rows, [
    { token_id: 'iso', exp },
    { token_id: 'one', exp },
    { token_id: /^sha256:/, exp },
    { token_id: 'two', exp },
  ])

  const other = encode({ tenant_id: 'x', exp, jti: 'j' })
  const wrong = [
    ['revoke-token acme --jti x', '', /--expires is required/],
    ['revoke-token acme', 'garbage\n', /cannot be read/],
    ['revoke-token acme', `${tokenOf({ exp: 'never' })}\n`, /has no exp/],
    ['revoke-token acme', `e30.${other}.s\n`, /of another tenant/],
  ] as const
  const answers = await Promise.all(wrong.map(([args, input]) => run(args, input)))
  for (const [i, [args, , err]] of wrong.entries()) t.match(answers[i], { code: 2, err }, args)
  const count = 'SELECT FROM revoked_tokens WHERE tenant_id = $1'
  t.equal((await registry.admin.query(count, [tenant.id])).rowCount, 4)
})

t.test('a batch creates what is new, reports what exists, and goes on past a bad line', async t => {
  const line = (key: string, over = {}) =>
    JSON.stringify({
      ...{ key, name: key, mode: 'shared' },
      db: { host: 'h', port: 5432, name: key, user: 'u', password: 'SECRET', ssl_mode: null },
      ...over,
    })
  const bucket = { name: 'bb', prefix: 'one/', access_key: 'a', secret_key: 's' }
  const input = [
    line('one', { bucket }),
    line('acme'),
    line('two', { db: { host: 'h' } }),
    line('three', { bucket }),
    line('four'),
  ].join('\n')
  const first = await run('create --batch', input)
  t.equal(first.code, 1)
  t.match(
    first.out,
    /created one .*\nexists {2}acme\nfailed {2}line 3: .*\nfailed {2}line 4: .*overlaps.*\ncreated four/,
  )
  t.notMatch(first.out + first.err, 'SECRET')
  const second = await run('create --batch', `${line('one')}\n\n${line('four')}\n`)
  t.match(second, { code: 0, out: 'exists  one\nexists  four\n' })
  t.match(await run('create --batch', '{"key": "SECRET'), {
    code: 2,
    err: /^doorman: line 1: not JSON\n$/,
  })
})

t.test('a database of another tenant is refused unless it is meant, and list shows it', async t => {
  const own = '--db-host db.example --db-name own --db-user own'
  t.match(await run(`create first ${own}`, 'pw\n'), { code: 0 })
  const refused = await run(`create second ${own}`, 'pw\n')
  t.match(refused, {
    code: 1,
    err: /^doorman: tenant first has the database .*allow a shared database.*\n$/,
  })
  t.equal(await store.findByKey('second' as TenantKey), null)
  t.match(await run(`create second ${own.replace('name own', 'name two')}`, 'pw\n'), { code: 0 })
  t.match(await run(`set-db second ${own}`, 'pw\n'), { code: 1, err: /first has the database/ })
  t.notMatch((await run('list')).out, /shares its database/)
  t.match(await run(`set-db second ${own} --allow-shared-database`, 'pw\n'), { code: 0 })
  t.match((await run('list')).out, /^first .* shares its database\nfour (?!.*shares)/m)
  const listed: { tenant_key: string; shares_database: boolean }[] = JSON.parse(
    (await run('list --json')).out,
  )
  t.strictSame(
    listed.filter(row => row.shares_database).map(row => row.tenant_key),
    ['first', 'second'],
  )
  const db = { host: 'DB.example', name: 'own', user: 'u', password: 'p' }
  const line = JSON.stringify({ key: 'third', db })
  t.match(await run('create --batch', line), { code: 1, out: /^failed {2}line 1: tenant first/ })
  t.match(await run('create --batch --allow-shared-database', line), { code: 0 })
  await registry.admin.query(`DELETE FROM tenants WHERE db_name = 'own'`)
})

t.test('a row that an older tool left half empty is shown, suspended and mended', async t => {
  await registry.admin.query(`INSERT INTO tenants (tenant_key, db_name) VALUES ('Half', 'half')`)
  const shown = await run('show half')
  t.match(shown, { code: 0, out: /^db_name +half$/m, err: '' })
  t.match(shown.out, /^problem +tenant .*db_host is missing or not valid$/m)
  t.match((await run('list')).out, /^Half .* -\/half .*db_host is missing/m)
  t.match(await run('suspend half'), { code: 0, out: 'Half is suspended\n' })
  t.match(await run('activate HALF'), { code: 0, out: 'Half is active\n' })
  t.match(await run('set-db half --keep-password'), { code: 2, err: /no password to keep/ })
  t.match(await run('set-db half --db-host h2', 'pw\n'), { code: 2, err: /user: / })
  const mended = await run('set-db half --db-host h2 --db-user half', 'pw\n')
  t.match(mended, { code: 0, out: 'Half uses database h2/half\n', err: '' })
  t.match(await store.findByKey('half' as TenantKey), { db: { host: 'h2', port: 5432 } })
  await registry.admin.query(`DELETE FROM tenants WHERE tenant_key = 'Half'`)
})

t.test('an identity provider of a tenant’s own is set, shown and taken away', async t => {
  const issuer = '--issuer https://id.acme.example --audience doorman'
  const keys = '--jwks-url https://id.acme.example/keys'
  t.match(await run(`set-issuer acme ${issuer} ${keys}`), {
    code: 0,
    out: 'acme has issuer https://id.acme.example\n',
    err: '',
  })
  t.match(JSON.parse((await run('show acme --json')).out), {
    token_issuer: 'https://id.acme.example',
    token_jwks_url: 'https://id.acme.example/keys',
    token_audience: 'doorman',
  })
  const taken = await run(`set-issuer one ${issuer} ${keys}`)
  t.match(taken, { code: 1, err: /tenant with this issuer exists already/ })
  t.match(await run(`set-issuer one ${issuer}`), { code: 2, err: /jwks_url: / })
  t.match(await run(`set-issuer one ${issuer} --jwks-url https://u:p@x`), { code: 2, err: /user/ })
  t.match(await run(`set-issuer one ${issuer} --jwks-url ftp://x`), { code: 2, err: /http/ })
  const own = { ...env, JWT_ISSUER: 'https://id.acme.example' }
  t.match(await run(`set-issuer one ${issuer} ${keys}`, '', own), { code: 2, err: /platform/ })
  const production = { ...env, NODE_ENV: 'production' }
  const plain = await run(`set-issuer one ${issuer} --jwks-url http://x`, '', production)
  t.match(plain, { code: 2, err: /https: in production/ })
  t.match(await run('set-issuer acme --none'), { code: 0, out: 'acme has issuer -\n' })
  t.equal((await store.findByKey('acme' as TenantKey))?.tokenIssuer, null)
})

t.test('in production a user is added only where a tenant database may be', async t => {
  const add = 'add-user acme --email prod@acme.example --name P --role-id 1'
  const production = { ...env, NODE_ENV: 'production' }
  const refused = await run(add, 'pass-word\n', production)
  t.match(refused, { code: 1, out: '', err: /127\.0\.0\.1 is a refused address/ })
  const allowed = { ...production, TENANT_ADDRESS_ALLOW: '10.0.0.0/8,127.0.0.1' }
  t.match(await run(add, 'pass-word\n', allowed), { code: 0 })
  const wrong = await run(add, 'pass-word\n', { ...env, TENANT_ADDRESS_ALLOW: '10.0.0.0/99' })
  t.match(wrong, { code: 1, err: /TENANT_ADDRESS_ALLOW 10\.0\.0\.0\/99 is neither/ })
})

t.test('an admin key is made, listed without itself, and revoked', async t => {
  const made = await run('admin-key create ci --scope operate')
  t.match(made, { code: 0, out: /^adk_[\w-]{43}\n$/, err: /ci may operate; it is not shown again/ })
  t.match(await run('admin-key create ci'), { code: 3, out: '' })
  t.match(await run('admin-key create x --scope all'), { code: 2 })
  const { out } = await run('admin-key list --json')
  t.match(JSON.parse(out), [{ name: 'ci', scope: 'operate', revoked_at: null }])
  t.notOk(out.includes(made.out.trim()))
  t.match(await run('admin-key revoke ci'), { code: 0 })
  t.match(await run('admin-key revoke ci'), { code: 4 })
  t.match((await run('admin-key list')).out, /ci +operate +\S+Z +\S+Z/)
  const { rows } = await registry.admin.query(
    "SELECT actor, action FROM admin_audit WHERE action LIKE 'admin_key.%' ORDER BY id",
  )
  t.match(rows, [{ actor: /^cli:./, action: 'admin_key.create' }, { action: 'admin_key.revoke' }])
})

t.test('what is wrong is one clear line and the right exit code', async t => {
  t.match(await run('show nobody'), { code: 4, err: 'doorman: there is no tenant nobody\n' })
  t.match(await run('suspend nobody'), { code: 4 })
  t.match(await run(`create new ${DB}`, ''), { code: 2, err: /Database password is missing/ })
  t.match(await run('create new --db-host h', 'x\n'), { code: 2, err: /db.name/ })
  t.match(await run('create Bad!Key --db-host h', 'x\n'), { code: 2, err: /key: must be/ })
  t.match(await run('list --mode odd'), { code: 2 })
  t.match(await run('nonsense'), { code: 2 })
  t.match(await run(`create new ${DB} --db-password x`, 'x\n'), { code: 2, err: /unknown option/ })
  const help = await run('--help', '', {})
  t.match(help, { code: 0, out: /Exit codes: 0 ok.*no such tenant/ })

  const none = await run('list', '', {})
  t.match(none, {
    code: 1,
    err: /TENANT_REGISTRY_DB_URL is required\n.*MASTER_ENCRYPTION_KEY is required/,
  })
  const wrong = await run(`create new ${DB}`, 'x\n', {
    ...env,
    MASTER_ENCRYPTION_KEY: 'f'.repeat(64),
  })
  t.match(wrong, { code: 1, err: /^doorman: MASTER_ENCRYPTION_KEY is not the key .*\n$/ })
  const rotated = { MASTER_ENCRYPTION_KEY: 'f'.repeat(64), MASTER_ENCRYPTION_KEY_PREVIOUS: MASTER }
  t.match(await run('set-db acme --keep-password', '', { ...env, ...rotated }), { code: 0 })
  const url = 'postgres://u:SECRET@127.0.0.1:1/db'
  const down = await run('list', '', { ...env, TENANT_REGISTRY_DB_URL: url })
  t.match(down, { code: 1, err: /^doorman: the Registry cannot be asked: [^\n]*\n$/ })
  t.notMatch(down.err, 'SECRET')
})
