import { createCipheriv, pbkdf2Sync, randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { listAudit } from '../admin/audit.ts'
import { readCsv } from '../admin/csv.ts'
import { startAdminWorld } from '../admin/test-kit.ts'
import { openConnections } from '../connection.ts'
import type { TenantKey } from '../tenant.ts'
import { type ImportFlags, importFleet } from './import.ts'
import { runHere, spawnCli } from './test-kit.ts'

const world = await startAdminWorld()
const { deps, registry, env } = world
const folder = await mkdtemp(join(tmpdir(), 'doorman-test-import-'))
t.teardown(async () => {
  await world.stop()
  await rm(folder, { recursive: true, force: true })
})

async function fileOf(name: string, text: string): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, text)
  return path
}

async function run(text: string, flags: ImportFlags = {}, input = '') {
  const path = await fileOf('fleet', text)
  return runHere(world, (session, streams) => importFleet(session, path, flags, streams), input)
}

async function tenantsCount(): Promise<number> {
  return Number((await registry.admin.query('SELECT count(*) FROM tenants')).rows[0].count)
}

/** As the older tool sealed: base64(iv 16, tag 16, ciphertext). */
function sealOld(master: string, secret: string): string {
  const iv = randomBytes(16)
  const key = pbkdf2Sync(master, 'tenant-registry-salt', 100_000, 32, 'sha256')
  const cipher = createCipheriv('aes-256-gcm', key, iv)
  const sealed = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final()])
  return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString('base64')
}

async function passwordOf(key: string): Promise<string> {
  const tenant = await deps.store.findByKey(key as TenantKey)
  if (tenant === null) throw new Error(`no ${key}`)
  return openConnections(await deps.keyring(), tenant).db.password
}

const HEAD = 'id,tenant_key,name,status,db_host,db_port,db_name,db_user'

t.test('a fleet of the older tool is tried, then taken over, with ids and secrets', async t => {
  const id = randomUUID()
  const master = 'the key of the older tool SECRET'
  const csv = [
    `${HEAD},db_password_encrypted,created_at,tokens_valid_after`,
    `${id},Acme,"Acme, ""Inc""",active,db1,5433,acme,acme,${sealOld(master, 'pw-1')},2020-01-01,2026-01-31T12:00:00Z`,
    `,globex,,suspended,db1,,globex,globex,${sealOld(master, 'pw-2')},,`,
  ].join('\r\n')
  const path = await fileOf('old.csv', csv)
  const tried = await spawnCli(['import', path, '--old-master-key'], env, `${master}\n`)
  t.match(tried, {
    code: 0,
    err: '',
    out: 'line 2: fits    Acme\nline 3: fits    globex\n2 to create, 0 exist, 0 failed; a trial, --apply writes\n',
  })
  t.equal(await tenantsCount(), 0, 'a trial writes nothing')
  const done = await spawnCli(['import', path, '--old-master-key', '--apply'], env, `${master}\n`)
  t.match(done, { code: 0, out: /^line 2: created Acme\n.*\n2 created, 0 exist, 0 failed\n$/ })
  t.notMatch(done.out + done.err, /SECRET|pw-/)
  const acme = await deps.store.findByKey('acme' as TenantKey)
  t.match(acme, { id, name: 'Acme, "Inc"', status: 'active', db: { host: 'db1', port: 5433 } })
  t.equal(acme?.tokensValidAfterMs, Date.parse('2026-01-31T12:00:00Z'), 'signed out stays so')
  t.strictSame([await passwordOf('acme'), await passwordOf('globex')], ['pw-1', 'pw-2'])
  t.match(acme?.db.passwordEncrypted, /^v1\./, 'sealed anew')
  const { items } = await listAudit(deps, { limit: 10 })
  const actor = `cli:${userInfo().username}`
  t.match(items, [
    { action: 'tenant.import', actor, tenant_key: 'globex' },
    { action: 'tenant.import', actor, tenant_key: 'acme' },
  ])
  const again = await run(csv, { oldMasterKey: true, apply: true }, `${master}\n`)
  t.match(again, { code: 0, out: /exists {2}Acme\n.*exists {2}globex\n0 created, 2 exist/ })
  t.match(await run(csv), { code: 1, out: /Acme: db_password_encrypted: .*does not open/ })
})

t.test('one line that fails takes all back, and every line says what is wrong with it', async t => {
  const before = await tenantsCount()
  const row = (key: string, change: object = {}) => ({
    ...{ tenant_key: key, db_host: 'db2', db_name: key, db_user: key, db_password: 'pw-SECRET' },
    ...change,
  })
  const bucket = { bucket_name: 'b', bucket_access_key: 'a', bucket_secret_key: 's' }
  const rows = [
    row('one', { ...bucket, bucket_prefix: 'x/', limits: { requests_per_s: 5 }, db_port: '6000' }),
    row('two', { db_host: '' }),
    row('three', { ...bucket, bucket_prefix: 'x/' }),
    row('four', { db_name: 'acme', db_host: 'DB1', db_port: 5433 }),
    row('five', { db_password_encrypted: 'SECRET', db_password: '' }),
    row('six', { extra: 'SECRET' }),
    row('seven', { id: (await deps.store.findByKey('acme' as TenantKey))?.id }),
    row('eight', { db_port: 'SECRET' }),
    row('one'),
    row('nine', { status: 'odd' }),
    row('ten'),
  ]
  const ran = await run(JSON.stringify(rows), { apply: true, json: true })
  t.equal(ran.code, 1)
  t.notMatch(ran.out + ran.err, 'SECRET')
  const { written, results } = JSON.parse(ran.out)
  t.equal(written, false)
  const expected: [string, RegExp | null][] = [
    ['created', null],
    ['failed', /db_host: is required/],
    ['failed', /overlaps|another tenant has it/],
    ['failed', /tenant acme has the database/],
    ['failed', /db_password_encrypted: not a known/],
    ['failed', /extra: no such field/],
    ['failed', /tenant acme has this id/],
    ['failed', /db_port: must be a whole number/],
    ['exists', null],
    ['failed', /status: must be one of/],
    ['created', null],
  ]
  for (const [i, [outcome, problem]] of expected.entries()) {
    t.equal(results[i].outcome, outcome, String(rows[i]?.tenant_key))
    if (problem !== null) t.match(results[i].problem, problem)
  }
  t.equal(await tenantsCount(), before, 'nothing half done')
  const good = [rows[0], rows[10]].map(value => JSON.stringify(value)).join('\n')
  t.match(await run(good, { apply: true }), { code: 0, out: /2 created/ })
  t.match(await deps.store.findByKey('one' as TenantKey), { limits: { requests_per_s: 5 } })
})

t.test('a file that cannot be read as a whole is one clear line, without its text', async t => {
  const files: [string, RegExp][] = [
    ['', /no column tenant_key/],
    ['a,b\n1,SECRET\n', /no column tenant_key/],
    ['tenant_key,tenant_key\n', /there twice/],
    [`${HEAD}\nSECRET,2\n`, /line 2: 2 fields where the head has 8/],
    [`tenant_key\n"SECRET\n`, /line 2: a quote/],
    ['[{"tenant_key": "SECRET"', /not JSON/],
    ['{"tenant_key": "a"}\n{SECRET', /line 2: not JSON/],
    ['["SECRET"]', /entry 1: not an object/],
    [JSON.stringify(Array(2001).fill({})), /more than 2000 tenants/],
  ]
  for (const [text, err] of files) {
    const ran = await run(text)
    t.match(ran, { code: 2, err }, String(err))
    t.notMatch(ran.err, 'SECRET')
  }
})

t.test('CSV is read as RFC 4180 writes it', t => {
  const cells = (text: string) => readCsv(text).map(record => record.cells)
  t.strictSame(cells('\uFEFFa,b\r\n"x ""y"", z",\r\n'), [
    ['a', 'b'],
    ['x "y", z', ''],
  ])
  t.strictSame(cells('a\n\n"two\nlines"\nlast'), [['a'], ['two\nlines'], ['last']])
  t.strictSame(
    readCsv('a\n"1\n2"\nb').map(record => record.line),
    [1, 2, 4],
  )
  t.strictSame(cells('a,'), [['a', '']])
  t.strictSame(cells(''), [])
  for (const text of ['a"b', '"a"b', '"a', 'x,"']) t.throws(() => readCsv(text), text)
  t.end()
})
