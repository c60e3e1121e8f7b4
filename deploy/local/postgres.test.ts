import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { access, chmod, chown, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Client } from 'pg'
import t from 'tap'
import { type LocalPostgres, startPostgres, startTestPostgres } from './postgres.ts'
import { removeDataDir } from './postgres-host.ts'

const MODULE = new URL('postgres.ts', import.meta.url).href
const isRoot = process.getuid?.() === 0
const NOBODY = 65_534

async function query(url: string, sql: string): Promise<unknown> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 5000 })
  client.on('error', () => {})
  await client.connect()
  try {
    return Object.values((await client.query(sql)).rows[0] ?? {})[0]
  } finally {
    await client.end()
  }
}

async function poll(what: string, isTrue: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error(`not within 10 s: ${what}`)
    await delay(20)
  }
}

function isOpen(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false))
    socket.on('connect', () => socket.destroy())
  })
}

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )

/** Runs `code` (an async body that sees both start functions) in a process of its own. */
function inProcess(code: string, options: object = {}): ChildProcess {
  const source = `import { startPostgres, startTestPostgres } from ${JSON.stringify(MODULE)}\n${code}`
  const args = ['--input-type=module', '-e', source]
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'], ...options })
}

async function firstLine(child: ChildProcess): Promise<string> {
  const [chunk] = await once(child.stdout as NonNullable<typeof child.stdout>, 'data')
  return String(chunk).trim()
}

t.test('durable data survives stop, kill -9 of the postmaster and a foreign pid file', async t => {
  const home = await mkdtemp(join(tmpdir(), 'doorman-postgres-test-'))
  t.teardown(() => rm(home, { recursive: true, force: true }))
  if (isRoot) await chmod(home, 0o755)
  const dataDir = join(home, 'pg')
  let server: LocalPostgres | undefined
  t.teardown(() => server?.stop('immediate'))

  server = await startPostgres({ dataDir })
  await query(server.url('postgres'), 'CREATE TABLE kept AS SELECT 42 AS n')
  t.equal(await query(server.url('postgres'), 'SHOW fsync'), 'on')
  t.equal(await query(server.url('postgres'), 'SHOW max_connections'), '300')
  t.equal(await query(server.url('postgres'), 'SHOW unix_socket_directories'), '')
  t.equal(await query(server.url('postgres'), 'SHOW listen_addresses'), '127.0.0.1')
  t.equal((await stat(`${dataDir}.password`)).mode & 0o777, 0o600, 'the password is ours alone')
  await t.rejects(
    query(server.url('postgres', 'postgres', 'wrong'), 'SELECT 1'),
    { code: '28P01' },
    'a wrong password is refused',
  )
  await t.rejects(
    startPostgres({ dataDir, port: server.port }),
    /already runs on/,
    'a second server on the same data is refused',
  )
  await server.stop()
  t.notOk(await isOpen(server.port), 'its port is closed')
  t.notOk(await exists(join(dataDir, 'postmaster.pid')))

  server = await startPostgres({ dataDir, settings: { max_connections: '20' } })
  t.equal(await query(server.url('postgres'), 'SHOW max_connections'), '20', 'settings win')
  t.equal(await query(server.url('postgres'), 'SELECT n FROM kept'), 42)
  let isGone = false
  void server.exited.then(() => {
    isGone = true
  })
  process.kill(server.pid, 'SIGKILL')
  await poll('the killed server is noticed', () => isGone)
  t.ok(await exists(join(dataDir, 'postmaster.pid')), 'a killed server leaves its pid file')

  // As in a container, where the number of the killed server belongs to another process now.
  await writeFile(join(dataDir, 'postmaster.pid'), `${process.pid}\n${dataDir}\n`)
  server = await startPostgres({ dataDir })
  t.equal(await query(server.url('postgres'), 'SELECT n FROM kept'), 42)
  await server.stop()
})

t.test('a cluster whose making was cut short is made again', async t => {
  const home = await mkdtemp(join(tmpdir(), 'doorman-postgres-test-'))
  t.teardown(() => rm(home, { recursive: true, force: true }))
  if (isRoot) await chmod(home, 0o755)
  await mkdir(join(home, 'pg'))
  await writeFile(join(home, 'pg.unfinished'), '')
  await writeFile(join(home, 'pg', 'PG_VERSION'), '18\n')
  const server = await startPostgres({ dataDir: join(home, 'pg'), isDurable: false })
  t.teardown(() => server.stop('immediate'))
  t.equal(await query(server.url('postgres'), 'SELECT 1'), 1)
})

t.test('a server that cannot start says why', async t => {
  await t.rejects(startTestPostgres({ shared_buffers: 'nonsense' }), /shared_buffers/)
})

t.test('test servers are apart and leave nothing behind', async t => {
  const [one, two] = await Promise.all([startTestPostgres(), startTestPostgres()])
  t.teardown(() => Promise.all([one.stop(), two.stop()]))
  await query(one.url('postgres'), 'CREATE TABLE mine AS SELECT 1')
  await t.rejects(query(two.url('postgres'), 'SELECT * FROM mine'), { code: '42P01' })
  const folder = String(await query(one.url('postgres'), 'SHOW data_directory'))
  t.ok(await exists(folder))
  await one.stop()
  t.notOk(await exists(folder), 'the data goes with the server')
  t.notOk(await isOpen(one.port))
  t.equal(await query(two.url('postgres'), 'SELECT 1'), 1, 'the other is not touched')
})

t.test('a test server does not outlive a process that is killed', async t => {
  const child = inProcess(`
    const server = await startTestPostgres()
    console.log(server.pid + ' ' + server.port)
    setInterval(() => {}, 1000)`)
  const [pid, port] = (await firstLine(child)).split(' ').map(Number)
  t.ok(await isOpen(Number(port)))
  child.kill('SIGKILL')
  await poll(
    'the server is gone',
    async () => !(await exists(`/proc/${pid}`)) && !(await isOpen(Number(port))),
  )
})

t.test('a test that forgets its server still ends', async t => {
  const child = inProcess(`console.log((await startTestPostgres()).port)`)
  const port = Number(await firstLine(child))
  if (child.exitCode === null) await once(child, 'exit')
  t.equal(child.exitCode, 0)
  await poll('the server is gone', async () => !(await isOpen(port)))
})

t.test('root in a home of mode 0700', { skip: isRoot ? false : 'needs root' }, async t => {
  const home = await mkdtemp(join(tmpdir(), 'doorman-postgres-test-'))
  t.teardown(() => rm(home, { recursive: true, force: true }))
  const dataDir = join(home, 'deep', 'pg')
  let server = await startPostgres({ dataDir, isDurable: false })
  t.teardown(() => server.stop('immediate'))
  const folder = String(await query(server.url('postgres'), 'SHOW data_directory'))
  t.teardown(() => rm(join(folder, '..'), { recursive: true, force: true }))
  t.notOk(folder.startsWith(home), 'the data lies where the account can reach it')
  t.equal((await stat(folder)).mode & 0o777, 0o700)
  await query(server.url('postgres'), 'CREATE TABLE kept AS SELECT 42 AS n')
  await server.stop()
  server = await startPostgres({ dataDir, isDurable: false })
  t.equal(await query(server.url('postgres'), 'SELECT n FROM kept'), 42, 'the pointer finds it')

  await server.stop()
  await chown(join(folder, '..'), NOBODY, NOBODY)
  server = await startPostgres({ dataDir, isDurable: false })
  const moved = String(await query(server.url('postgres'), 'SHOW data_directory'))
  t.not(moved, folder, 'a folder that someone else owns is not trusted')

  await server.stop()
  await removeDataDir(dataDir)
  t.notOk(await exists(join(moved, '..')), 'what the pointer names goes with it')
  t.notOk(await exists(dataDir))
  for (const notOurs of [folder, join(folder, '..')]) {
    await mkdir(dataDir)
    await writeFile(join(dataDir, 'moved-to'), `${notOurs}\n`)
    await removeDataDir(dataDir)
    t.ok(await exists(folder), 'a folder that we have not made, or that is not ours, stays')
    t.notOk(await exists(dataDir))
  }
})

/** As an ordinary user the whole suite is that test; root needs a clone that such a user can enter. */
function whyNoOrdinaryUser(): string | false {
  if (!isRoot) return 'needs root'
  const tried = spawnSync(process.execPath, ['-e', '0'], { uid: NOBODY, gid: NOBODY, cwd: '/' })
  return tried.error === undefined ? false : 'the clone lies where an ordinary user cannot go'
}

t.test('an ordinary user runs it as himself', { skip: whyNoOrdinaryUser() }, async t => {
  const home = await mkdtemp(join(tmpdir(), 'doorman-postgres-test-'))
  t.teardown(() => rm(home, { recursive: true, force: true }))
  await chown(home, NOBODY, NOBODY)
  const code = `
    const server = await startPostgres({ dataDir: ${JSON.stringify(join(home, 'pg'))} })
    const other = await startTestPostgres()
    await other.stop()
    console.log(server.pid)
    await server.stop()`
  const env = { PATH: process.env.PATH, HOME: home, TMPDIR: home }
  const child = inProcess(code, {
    uid: NOBODY,
    gid: NOBODY,
    cwd: '/',
    env,
    // tap's own hook complains that it cannot write into the work tree.
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const pid = Number(await firstLine(child))
  t.ok(pid > 0)
  if (child.exitCode === null) await once(child, 'exit')
  t.equal(child.exitCode, 0)
  t.equal((await stat(join(home, 'pg'))).uid, NOBODY)
  t.equal((await stat(join(home, 'pg.password'))).mode & 0o777, 0o600)
})
