import { createCipheriv, pbkdf2Sync, randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { listAudit } from '../admin/audit.ts'
import { readCsv } from '../admin/csv.ts'
import { importTenants } from '../admin/import.ts'
import { readImport } from '../admin/import-file.ts'
import { owner, startAdminWorld } from '../admin/test-kit.ts'
import { openConnections } from '../connection.ts'
import { Fault } from '../lib/errors.ts'
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

const CSV_HEAD = 'tenant_key,db_host,db_name,db_user,db_password'

/** Lines of a CSV file, of tenants with a database each. */
function fleetOf(name: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => {
    const key = `${name}-${i}`
    return `${key},db3,${key},${key},pw-SECRET`
  })
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
    out: 'line 2: fits      Acme\nline 3: fits      globex\n2 to create, 0 unchanged, 0 differ, 0 failed; a trial, --apply writes\n',
  })
  t.equal(await tenantsCount(), 0, 'a trial writes nothing')
  const done = await spawnCli(['import', path, '--old-master-key', '--apply'], env, `${master}\n`)
  t.match(done, {
    code: 0,
    out: /^line 2: created {3}Acme\n.*\n2 created, 0 unchanged, 0 differ, 0 failed\n$/,
  })
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
  t.match(again, { code: 0, out: /unchanged Acme\n.*unchanged globex\n0 created, 2 unchanged/ })
  t.match(await run(csv), { code: 1, out: /Acme: db_password_encrypted: .*does not open/ })
})

t.test('every line says what is wrong with it; by --all-or-none one takes all back', async t => {
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
  const ran = await run(JSON.stringify(rows), { apply: true, allOrNone: true, json: true })
  t.equal(ran.code, 1)
  t.notMatch(ran.out + ran.err, 'SECRET')
  const results = ran.out
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line))
  t.strictSame(results.pop(), { written: false, created: 2, unchanged: 0, differs: 0, failed: 9 })
  const expected: [string, RegExp | null][] = [
    ['created', null],
    ['failed', /db_host: is required/],
    ['failed', /overlaps|another tenant has it/],
    ['failed', /tenant acme has the database/],
    ['failed', /db_password_encrypted: not a known/],
    ['failed', /extra: no such field/],
    ['failed', /tenant acme has this id/],
    ['failed', /db_port: must be a whole number/],
    ['failed', /^line 1 has this key$/],
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

t.test('of lines that fail and others the others are written, in whatever batch', async t => {
  const lines = fleetOf('lines', 600)
  lines[3] = 'lines-3,,lines-3,r,pw-SECRET'
  lines[520] = 'lines-520,db1,too,many,pw-SECRET,fields'
  lines[521] = lines[5] as string
  const before = await tenantsCount()
  const tried = await run([CSV_HEAD, ...lines].join('\n'))
  const done = await run([CSV_HEAD, ...lines].join('\n'), { apply: true })
  for (const ran of [tried, done]) {
    t.equal(ran.code, 1)
    t.match(ran.out, /^line 5: failed {4}lines-3: db_host: is required$/m)
    t.match(ran.out, /^line 522: failed {4}: 6 fields where the head has 5$/m)
    t.match(ran.out, /^line 523: failed {4}lines-5: line 7 has this key$/m, 'batches later')
    t.notMatch(ran.out + ran.err, 'SECRET')
  }
  t.match(tried.out, /\n597 to create, 0 unchanged, 0 differ, 3 failed; a trial/)
  t.match(done.out, /\n597 created, 0 unchanged, 0 differ, 3 failed\n$/)
  t.equal(await tenantsCount(), before + 597)
})

t.test('what ends a run takes nothing back, and the next run does the rest', async t => {
  const lines = fleetOf('rest', 1100)
  const broken = [...lines]
  broken[1050] = 'rest-1050,"SECRET'
  const before = await tenantsCount()
  const quote = await run([CSV_HEAD, ...broken].join('\n'), { apply: true })
  t.match(quote, { code: 2, err: /line 1052: a quote is not where it may be/ })
  t.match(quote.out, /\n1050 created, 0 unchanged, 0 differ, 0 failed\n$/)
  t.notMatch(quote.out + quote.err, 'SECRET')
  t.equal(await tenantsCount(), before + 1050)
  await registry.admin.query(
    `UPDATE tenants SET name = 'Other', db_host = 'elsewhere' WHERE tenant_key = 'rest-7'`,
  )
  await registry.admin.query(`UPDATE tenants SET status = 'suspended' WHERE tenant_key = 'rest-8'`)
  const away = new Fault('REGISTRY_UNAVAILABLE', 'away')
  let left = 2
  const store = Object.assign(Object.create(deps.store), {
    query: deps.store.query.bind(deps.store),
    use: deps.store.use.bind(deps.store),
    transaction: (work: Parameters<typeof deps.store.transaction>[0]) =>
      left-- > 0 ? deps.store.transaction(work) : Promise.reject(away),
  })
  const path = await fileOf('rest.csv', [CSV_HEAD, ...lines].join('\n'))
  const resume = (change = {}) =>
    runHere(
      world,
      (session, streams) => importFleet(session, path, { apply: true }, streams),
      '',
      change,
    )
  const cut = await resume({ store })
  t.match(cut, { code: 1, err: /away/, out: /\n0 created, 999 unchanged, 1 differ, 0 failed\n$/ })
  t.match(cut.out, /^line 9: differs {3}rest-7: another db_host; left as it is$/m)
  const done = await resume()
  t.match(done, { code: 0, out: /\n50 created, 1049 unchanged, 1 differ, 0 failed\n$/ })
  t.equal(await tenantsCount(), before + 1100)
  const { rows } = await registry.admin.query(
    `SELECT db_host, status FROM tenants WHERE tenant_key IN ('rest-7', 'rest-8') ORDER BY 1 DESC`,
  )
  t.strictSame(rows, [
    { db_host: 'elsewhere', status: 'active' },
    { db_host: 'db3', status: 'suspended' },
  ])
})

t.test('what a tenant that is there has otherwise is named, and no value is', async t => {
  const id = randomUUID()
  const row = {
    ...{ id, tenant_key: 'there', name: 'There', status: 'active', mode: 'shared', db_host: 'db4' },
    ...{ db_name: 'there', db_user: 'there', db_password: 'pw-SECRET', db_port: 5432 },
    ...{ limits: { requests_per_s: 5 }, tokens_valid_after: '2026-01-31T12:00:00Z' },
  }
  t.match(await run(JSON.stringify([row]), { apply: true }), { code: 0 })
  const again = async (change: object) => {
    const ran = await run(JSON.stringify({ ...row, ...change }), { apply: true, json: true })
    t.equal(ran.code, 0)
    t.notMatch(ran.out + ran.err, 'SECRET')
    return JSON.parse(ran.out.split('\n')[0] ?? '')
  }
  t.match(await again({}), { outcome: 'unchanged', problem: null })
  t.match(await again({ tenant_key: 'THERE', status: '', id: '' }), { outcome: 'unchanged' })
  for (const [change, field] of [
    [{ db_password: 'pw-other-SECRET' }, 'db_password'],
    [{ id: randomUUID() }, 'id'],
    [{ limits: { requests_per_s: 6 } }, 'limits'],
    [{ name: 'Else', db_port: '5433' }, 'name, db_port'],
    [{ status: 'suspended' }, 'status'],
    [{ tokens_valid_after: '2026-02-28T12:00:00Z' }, 'tokens_valid_after'],
  ] as const) {
    t.match(await again(change), {
      outcome: 'differs',
      problem: `another ${field}; left as it is`,
    })
  }
  t.match(await deps.store.findByKey('there' as TenantKey), { id, name: 'There' })
})

t.test('a file that cannot be read is one clear line, without its text', async t => {
  const files: [string, RegExp][] = [
    ['', /no column tenant_key/],
    ['\uFEFF \n', /no column tenant_key/],
    ['a,b\n1,SECRET\n', /no column tenant_key/],
    ['tenant_key,tenant_key\n', /there twice/],
    [`tenant_key\n"SECRET\n`, /line 2: a quote/],
    [`tenant_key\n"${'SECRET'.repeat(12_000)}`, /line 2: more than 65536 characters/],
    ['[{"tenant_key": "SECRET"', /not JSON/],
    [`["${'SECRET'.repeat(3_000_000)}"]`, /write it as JSON lines/],
  ]
  for (const [text, err] of files) {
    const ran = await run(text)
    t.match(ran, { code: 2, out: '', err }, String(err))
    t.notMatch(ran.err, 'SECRET')
  }
  const lines: [string, RegExp][] = [
    ['{"tenant_key": "a"}\n{SECRET', /line 2: failed {4}: not JSON/],
    ['["SECRET"]', /line 1: failed {4}: not an object/],
  ]
  for (const [text, out] of lines) {
    const ran = await run(text)
    t.match(ran, { code: 1, out }, String(out))
    t.notMatch(ran.out + ran.err, 'SECRET')
  }
  const many = JSON.stringify(Array(2001).fill({}))
  const atomic = await run(many, { apply: true, allOrNone: true })
  t.match(atomic, { code: 2, out: '', err: /more than 2000 lines/ })
  const nowhere = join(folder, 'nowhere')
  const none = await runHere(world, (session, streams) =>
    importFleet(session, nowhere, {}, streams),
  )
  t.match(none, { code: 2, out: '', err: /nowhere cannot be read \(ENOENT\)/ })
})

t.test('CSV is read as RFC 4180 writes it', t => {
  const cells = (text: string) => readCsv(text).map(record => record.cells)
  t.strictSame(cells('a,b\r\n"x ""y"", z",\r\n'), [
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

t.test('property: however a file is cut into chunks, its rows are the same', async t => {
  const parts = ['a', ',', '"', '""', '\n', '\r\n', '\r', 'é', '"x,\n"', ' ']
  for (let round = 0; round < 400; round++) {
    const random = (below: number) => Math.floor(Math.random() * below)
    const body = Array.from({ length: random(20) }, () => parts[random(parts.length)]).join('')
    const text = `tenant_key\r\n${body}`
    const chunks: string[] = []
    for (let at = 0; at < text.length; ) {
      const length = 1 + random(4)
      chunks.push(text.slice(at, at + length))
      at += length
    }
    const shown = JSON.stringify([text, chunks])
    const [one, cut] = [await readAll([text]), await readAll(chunks)]
    t.strictSame(cut, one, shown)
    let wanted: unknown
    try {
      wanted = readCsv(text)
        .slice(1)
        .map(({ line, cells }) =>
          cells.length === 1
            ? { line, values: { tenant_key: cells[0] } }
            : { line, problem: `${cells.length} fields where the head has 1` },
        )
    } catch {
      t.ok(one.problem !== null, shown)
      continue
    }
    t.strictSame(one, { lines: wanted, problem: null }, shown)
  }
})

t.test('a file is read as it is taken over, and not before', async t => {
  let chunks = 0
  const endless = async function* () {
    yield `${CSV_HEAD}\n`
    for (;;) {
      chunks += 1
      yield fleetOf(`never${chunks}`, 100).join('\n')
      yield '\n'
    }
  }
  const options = {
    writes: 'none',
    allowSharedDatabase: false,
    sealedBy: await deps.keyring(),
  } as const
  const ran = importTenants(deps, owner, readImport(endless()), options)
  for (let batch = 1; batch <= 3; batch++) {
    const { value } = await ran.next()
    t.equal(value?.length, 500)
    t.ok(chunks <= batch * 5 + 1, `${chunks} chunks`)
  }
  await ran.return()
})

async function readAll(chunks: readonly string[]) {
  const source = async function* () {
    yield* chunks
  }
  const lines: unknown[] = []
  try {
    for await (const line of readImport(source())) lines.push(line)
    return { lines, problem: null }
  } catch (error) {
    return { lines, problem: (error as Fault).reason }
  }
}
