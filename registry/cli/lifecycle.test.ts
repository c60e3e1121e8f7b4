import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { PutObjectCommand } from '@aws-sdk/client-s3'
import pg from 'pg'
import t from 'tap'
import { listAudit } from '../admin/audit.ts'
import { addDatabaseHost, hostInput } from '../admin/database-hosts.ts'
import { readFields } from '../admin/fields.ts'
import { setTenantStatus } from '../admin/status.ts'
import { owner, startAdminWorld, storedPassword } from '../admin/test-kit.ts'
import { copyOut } from '../export/copy-out.ts'
import type { Manifest } from '../export/export.ts'
import { makeBucketClient } from '../lib/bucket-client.ts'
import type { TenantId } from '../tenant.ts'
import { findListedTenant } from '../tenant-list.ts'
import { type DeleteFlags, deleteTenant } from './delete.ts'
import { edit, rotate, test } from './edit.ts'
import { exportOne } from './export.ts'
import { deletePlan, setPlan, showPlans } from './plans.ts'
import { runHere, spawnCli } from './test-kit.ts'

const world = await startAdminWorld()
const { deps, registry, bucket, s3, env } = world
const folder = await mkdtemp(join(tmpdir(), 'doorman-test-export-'))
t.teardown(async () => {
  await world.stop()
  await rm(folder, { recursive: true, force: true })
})

const ACTOR = `cli:${userInfo().username}`

/** As the tenant's own role, or as the superuser. */
async function inDatabase(name: string, ...statements: string[]) {
  const client = new pg.Client({ connectionString: registry.server.url(name) })
  client.on('error', () => {})
  await client.connect()
  try {
    for (const text of statements) await client.query(text)
  } finally {
    await client.end()
  }
}

async function putObjects(objects: Readonly<Record<string, string>>) {
  const place = { endpoint: s3.endpoint, region: null }
  const client = makeBucketClient(
    { ...place, access_key: s3.accessKey, secret_key: s3.secretKey },
    { connectMs: 3000, idleMs: 5000, socketsMax: 1, addressPolicy: null },
  )
  for (const [Key, Body] of Object.entries(objects)) {
    await client.send(new PutObjectCommand({ Bucket: 'shared', Key, Body }))
  }
  client.destroy()
}

const sha256 = (data: Buffer | string) => createHash('sha256').update(data).digest('hex')

async function auditOf(key: string) {
  const { items } = await listAudit(deps, { limit: 100 })
  return items.filter(item => item.tenant_key === key)
}

t.test(
  'a tenant is edited, tested, rotated and moved through its states, by whom is told',
  async t => {
    const tenant = await world.create('acme', { ...bucket, bucket_prefix: 'acme/' })
    const limits = '{"requests_per_s":100}'
    t.match(await spawnCli(['edit', 'acme', '--plan', 'gold'], env), {
      ...{ code: 2, err: /plan: there is no such plan/ },
    })
    const plan = { limits: '{"requests_per_s":50,"burst":100}', weight: 3 }
    const made = await runHere(world, (session, streams) => setPlan(session, 'gold', plan, streams))
    t.match(made, { code: 0, out: 'plan gold has {"burst":100,"requests_per_s":50}, weight 3' })
    const edited = await spawnCli(
      ['edit', 'acme', '--plan', 'gold', '--limits', limits, '--mode', 'dedicated'],
      env,
    )
    t.match(edited, { code: 0, err: '', out: `acme has plan "gold", limits ${limits}, mode "dedi` })
    const run = (flags: object) =>
      runHere(world, (session, streams) => edit(session, 'acme', flags, streams))
    t.match(await run({ mode: 'shared' }), { code: 1, err: /dedicated only/ })
    t.match(await run({ limits: 'SECRET' }), { code: 2, err: /^--limits: not JSON/ })
    t.match(await run({ appUrl: 'ftp://x' }), { code: 2, err: /app_url/ })
    t.match(await run({}), { code: 2, err: /nothing to change/ })
    const drop = () => runHere(world, (session, streams) => deletePlan(session, 'gold', streams))
    t.match(await drop(), { code: 1, err: /plan gold is in use/ })
    t.match(await run({ plan: '' }), { code: 0, out: 'acme has plan null\n' })
    const shown = await runHere(world, (session, streams) => showPlans(session, {}, streams))
    t.match(shown, { out: /^gold +gold +\{"burst":100,"requests_per_s":50\} +3 +0$/m })
    t.match(await drop(), { code: 0, out: 'plan gold is deleted\n' })
    t.match(await drop(), { code: 4 })

    t.match(await spawnCli(['maintenance', 'acme', '--reason', 'move'], env), {
      code: 0,
      out: 'acme is maintenance\n',
    })
    const [last] = await auditOf('acme')
    t.match(last, { actor: ACTOR, action: 'tenant.maintenance', reason: 'move' })

    const before = await storedPassword(world, tenant)
    const rotated = await runHere(world, (session, streams) => rotate(session, 'acme', {}, streams))
    t.match(rotated, { code: 0, out: 'acme: role db_acme has a new password\n' })
    const after = await storedPassword(world, tenant)
    t.not(after, before)
    t.notMatch(rotated.out + rotated.err, after)

    const works = await runHere(world, (session, streams) => test(session, 'acme', {}, streams))
    t.match(works, { code: 0, out: /^ok {4}database {2}works, \d+ ms\nok {4}bucket {4}works/ })
    await registry.admin.query(`ALTER ROLE db_acme PASSWORD 'changed by someone'`)
    const fails = await runHere(world, (session, streams) => test(session, 'acme', {}, streams))
    t.match(fails, { code: 1, out: /^FAIL {2}database .*\(credentials\).*\nok {4}bucket/ })
    t.match(await spawnCli(['test', 'nobody'], env), { code: 4, err: /no tenant nobody/ })
  },
)

t.test('what stores write for other verbs is told as the user of the command line too', async t => {
  await spawnCli(
    ['create', 'plain', ...'--db-host h --db-name plain --db-user u'.split(' ')],
    env,
    'pw\n',
  )
  t.match(await auditOf('plain'), [{ actor: ACTOR, action: 'tenant.insert' }])
})

t.test(
  'an export holds row, tables of one moment and own objects, each with its checksum',
  async t => {
    await world.create('exported', { ...bucket, bucket_prefix: 'exported/' })
    await inDatabase(
      'db_exported',
      'CREATE TABLE notes (id int PRIMARY KEY, body text, twice int GENERATED ALWAYS AS (id * 2) STORED)',
      `INSERT INTO notes SELECT i, repeat('x', 900) || i FROM generate_series(1, 20000) i`,
      `CREATE SCHEMA "Odd/Schema"; CREATE TABLE "Odd/Schema"."../up" (v text)`,
      `INSERT INTO "Odd/Schema"."../up" VALUES (E'tab\\tnew\\nline'), (NULL)`,
      'CREATE TABLE doorman_migrations (version text)',
      `INSERT INTO doorman_migrations VALUES ('0001'), ('0002'); CREATE SEQUENCE seq START 7`,
      'GRANT USAGE ON SCHEMA "Odd/Schema" TO db_exported',
      'GRANT SELECT ON ALL TABLES IN SCHEMA public, "Odd/Schema" TO db_exported',
    )
    await putObjects({
      'exported/a ä%2F..txt': 'one',
      'exported/b/c': 'two',
      'exported2/x': 'of another tenant',
    })
    const to = join(folder, 'exported')
    const ran = await spawnCli(['export', 'exported', '--to', to], env)
    t.match(ran, { code: 0, out: /: 3 tables, 20004 rows, 2 objects, \d+ bytes\n$/ })
    const manifest: Manifest = JSON.parse(await readFile(join(to, 'manifest.json'), 'utf8'))
    t.match(manifest, { format: 'doorman-export', tenant: { key: 'exported' } })
    t.match(manifest.database, { schema_version: '0002', large_objects: 0 })
    const [up, versions, notes] = manifest.database.tables
    t.match(up, { schema: 'Odd/Schema', table: '../up', rows: 2 })
    t.match(versions, { table: 'doorman_migrations', rows: 2 })
    t.match(notes, { table: 'notes', rows: 20_000, columns: ['id', 'body'] })
    for (const { file, bytes, sha256: sum } of manifest.database.tables) {
      const data = await readFile(join(to, file))
      t.strictSame([data.length, sha256(data)], [bytes, sum], file)
    }
    t.equal(await readFile(join(to, up?.file as string), 'utf8'), 'tab\\tnew\\nline\n\\N\n')
    const row = await readFile(join(to, 'tenant.json'), 'utf8')
    t.equal(sha256(row), manifest.row.sha256)
    t.match(JSON.parse(row), { tenant_key: 'exported', has_db_password: true })
    t.notMatch(row, /v1\.|encrypted/, 'no secret is in it')

    const index = await readFile(join(to, 'objects.jsonl'), 'utf8')
    t.equal(sha256(index), manifest.bucket?.index.sha256)
    const objects = index
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
    t.strictSame(
      objects.map(({ key }) => key),
      ['exported/a ä%2F..txt', 'exported/b/c'],
    )
    for (const { file, sha256: sum } of objects)
      t.equal(sha256(await readFile(join(to, file))), sum)
    t.equal((await stat(join(to, 'manifest.json'))).mode & 0o077, 0, 'for its owner alone')
    t.strictSame(await readdir(folder), ['exported'], 'nothing is left beside it')
    t.match(await auditOf('exported'), [
      { action: 'tenant.export', actor: ACTOR, after: { rows: 20_004 } },
      { action: 'tenant.create' },
    ])

    const lines = (await readFile(join(to, notes?.file as string), 'utf8')).split('\n').sort()
    const all = Array.from({ length: 20_000 }, (_, i) => `${i + 1}\t${'x'.repeat(900)}${i + 1}`)
    t.ok(lines.join('\n') === ['', ...all].sort().join('\n'), 'every row, as it was')
  },
)

t.test('a table of any size is held up while its reader is, and ends with it', async t => {
  const connect = async () => {
    const client = new pg.Client({ connectionString: registry.server.url('db_exported') })
    client.on('error', () => {})
    await client.connect()
    return client
  }
  const client = await connect()
  let longest = 0
  let bytes = 0
  const slow: Writable = new Writable({
    highWaterMark: 1024,
    write(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      longest = Math.max(longest, slow.writableLength)
      setImmediate(done)
    },
  })
  t.equal(await copyOut(client, 'COPY notes (body) TO STDOUT', slow), 20_000)
  t.ok(bytes > 17_000_000 && longest < 1_000_000, `${bytes} bytes, ${longest} at most in memory`)
  t.equal((await client.query('SELECT 1 AS one')).rows[0].one, 1, 'the connection goes on')
  await t.rejects(copyOut(client, 'COPY nothing TO STDOUT', slow), /does not exist/)
  await client.end()

  const other = await connect()
  const gone = new Promise(resolve => other.once('end', resolve))
  const full = new Writable({ write: (_chunk, _encoding, done) => done(new Error('disk full')) })
  full.on('error', () => {})
  await t.rejects(copyOut(other, 'COPY notes TO STDOUT', full), /closed while it was written/)
  await gone
})

t.test('an export that did not end is recognised, and no folder is written over', async t => {
  const to = join(folder, 'broken')
  const run = (key: string, target = to) =>
    runHere(world, (session, streams) => exportOne(session, key, { to: target }, streams))
  t.match(await run('exported', join(folder, 'exported')), { code: 2, err: /is not empty/ })
  await inDatabase('db_exported', 'CREATE TABLE zz_hidden (v int)')
  t.match(await run('exported'), { code: 1, err: /zz_hidden: permission denied/ })
  const names = await readdir(`${to}.unfinished`)
  t.notOk(names.includes('manifest.json'), 'without manifest')
  t.notOk((await readdir(folder)).includes('broken'))
  t.match(await run('exported'), { code: 2, err: /did not end: remove it/ })
  await inDatabase(
    'db_exported',
    'ALTER TABLE zz_hidden ENABLE ROW LEVEL SECURITY; GRANT SELECT ON zz_hidden TO db_exported',
  )
  const filtered = await run('exported', join(folder, 'filtered'))
  t.match(filtered, { code: 1, err: /zz_hidden: .*row-level security/ }, 'never a part of the rows')
})

t.test(
  'an object that goes while it is read is left out, any other fault ends the export',
  async t => {
    let status = 404
    const proxy = createServer((request, response) => {
      if (
        /two/.test(request.url ?? '') &&
        request.method === 'GET' &&
        !/list-type/.test(request.url ?? '')
      ) {
        const code = status === 404 ? 'NoSuchKey' : 'AccessDenied'
        response.writeHead(status).end(`<Error><Code>${code}</Code></Error>`)
        return
      }
      const { method, url: path, headers } = request
      const onward = httpRequest(
        { port: s3.port, host: '127.0.0.1', method, path, headers },
        answer => {
          response.writeHead(answer.statusCode ?? 502, answer.headers)
          answer.pipe(response)
        },
      )
      request.pipe(onward)
    })
    await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve))
    t.teardown(() => proxy.close())
    await putObjects({ 'moving/one': '1', 'moving/two': '2', 'moving/x': '3' })
    const endpoint = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
    await world.create('moving', { ...bucket, bucket_endpoint: endpoint, bucket_prefix: 'moving/' })
    const run = (name: string) =>
      runHere(world, (session, streams) =>
        exportOne(session, 'moving', { to: join(folder, name) }, streams),
      )
    t.match(await run('moving'), { code: 0, out: / 2 objects, 2 bytes/ })
    const index = await readFile(join(folder, 'moving', 'objects.jsonl'), 'utf8')
    t.strictSame(index.match(/moving\/\w+/g), ['moving/one', 'moving/x'])
    status = 403
    t.match(await run('refused'), { code: 1, err: /bucket: AccessDenied/ })
  },
)

const DELETE: DeleteFlags = { export: false }

function runDelete(key: string, flags: Partial<DeleteFlags>, input = '', isTTY = false) {
  return runHere(
    world,
    (session, streams) => deleteTenant(session, key, { ...DELETE, ...flags }, streams),
    input,
    {},
    isTTY,
  )
}

const exists = async (key: string) => (await findListedTenant(deps.store, key)) !== null
const databaseExists = async (name: string) =>
  (await registry.admin.query('SELECT FROM pg_database WHERE datname = $1', [name])).rowCount === 1

t.test('a tenant is deleted only archived, in time, by its key, and after its export', async t => {
  const gone = await world.create('gone')
  const { id } = gone
  const yes = { yesDelete: 'gone' }
  t.match(await runDelete('gone', yes), { code: 1, err: /Only an archived tenant/ })
  await setTenantStatus(deps, owner, id as TenantId, 'archived', null)
  t.match(await runDelete('gone', yes), { code: 1, err: /can be deleted from \d{4}-/ })
  const force = { ...yes, force: true }
  t.match(await runDelete('gone', { force: true }), { code: 2, err: /--yes-delete gone/ })
  t.match(await runDelete('gone', { ...force, yesDelete: 'acme' }), { code: 2, err: /not its key/ })
  const typed = await runDelete('gone', { force: true }, 'acme\n', true)
  t.match(typed, { code: 2, err: /Type gone to delete this tenant: .*not its key/s })
  t.match(await runDelete('gone', { ...force, export: true }), { code: 2, err: /--to DIR/ })
  await registry.admin.query(`ALTER ROLE db_gone PASSWORD 'changed'`)
  const to = join(folder, 'gone')
  t.match(await runDelete('gone', { ...force, export: true, to }), { code: 1, err: /refuses this/ })
  t.equal(await exists('gone'), true, 'no export, no end')
  await registry.admin.query(`ALTER ROLE db_gone PASSWORD '${await storedPassword(world, gone)}'`)
  await rm(`${to}.unfinished`, { recursive: true })
  const done = await spawnCli(
    ['delete', 'gone', '--to', to, '--force', '--yes-delete', 'gone', '--reason', 'left'],
    env,
  )
  t.match(done, { code: 0, out: /^exported gone .*\ngone is deleted; .*\n$/ })
  t.equal(await exists('gone'), false)
  t.equal(await databaseExists('db_gone'), true, 'its database stays')
  t.ok((await readdir(to)).includes('manifest.json'))
  t.match((await auditOf('gone')).slice(0, 2), [
    { action: 'tenant.delete', actor: ACTOR, reason: 'left' },
    { action: 'tenant.export', actor: ACTOR },
  ])
  t.match(await runDelete('gone', force), { code: 4 })
})

t.test('a database is dropped only where it was made for this very tenant', async t => {
  const archived = async (key: string, change = {}) => {
    const item = await world.create(key, change)
    await setTenantStatus(deps, owner, item.id as TenantId, 'archived', null)
    return item
  }
  const flagsOf = (key: string) => ({ yesDelete: key, force: true, dropDatabase: true })
  const made = await archived('made')
  await registry.admin.query(`COMMENT ON ROLE db_made IS 'doorman tenant ${made.id}'`)
  t.match(await runDelete('made', flagsOf('made')), { code: 2, err: /is no database host/ })

  const admin = new URL(registry.server.url('postgres'))
  const place = { name: 'main', host: '127.0.0.1', port: registry.server.port }
  const role = {
    admin_user: decodeURIComponent(admin.username),
    admin_password: decodeURIComponent(admin.password),
  }
  await addDatabaseHost(deps, owner, readFields(hostInput, { ...place, ...role }))
  // Another tenant in the same database: its data would be gone too.
  const { db_name, db_user } = made
  const beside = await world.create('beside', { db_name, db_user, allow_shared_database: true })
  t.match(await runDelete('made', flagsOf('made')), { code: 1, err: /beside uses the same/ })
  t.strictSame([await exists('made'), await databaseExists('db_made')], [true, true])
  await registry.admin.query('DELETE FROM tenants WHERE id = $1', [beside.id])

  // Where the drop fails the row stays, so that it can be run again.
  await registry.admin.query('CREATE TABLE of_made (v int); ALTER TABLE of_made OWNER TO db_made')
  t.match(await runDelete('made', flagsOf('made')), { code: 1, err: /depend on it/ })
  t.equal(await exists('made'), true)
  await registry.admin.query('DROP TABLE of_made')
  t.match(await runDelete('made', flagsOf('made')), { code: 0, out: /dropped database db_made/ })
  t.strictSame([await exists('made'), await databaseExists('db_made')], [false, false])

  await archived('stranger')
  const { yesDelete: _, ...asked } = flagsOf('stranger')
  const kept = await runDelete('stranger', asked, 'stranger\n', true)
  t.match(kept, { code: 0, out: /kept database db_stranger and role db_stranger: .*not made here/ })
  t.strictSame([await exists('stranger'), await databaseExists('db_stranger')], [false, true])
})
