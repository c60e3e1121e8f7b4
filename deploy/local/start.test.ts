import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { plantKeys } from '../e2e/harvest.ts'
import { LeakWatch } from '../e2e/leak-watch.ts'
import { demoTenants } from './demo-tenants.ts'
import { keepKeys } from './keys.ts'
import { childEnv } from './run.ts'

const exec = promisify(execFile)
const START = fileURLToPath(new URL('start.ts', import.meta.url))
const READY_MS = 60_000

/** All that logins gave. */
const tokens: string[] = []

interface Started {
  readonly child: ChildProcess
  readonly summary: string
  readonly output: { readonly text: string }
  readonly api: string
  readonly ports: number[]
}

/** Spawns `node deploy/local/start.ts` with nothing of our environment but what it needs. */
function spawnStart(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, [START, ...args], {
    env: { ...childEnv(), HOME: process.env.HOME, LOG_LEVEL: 'trace', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { text: '' }
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output.text += text
    })
  }
  return { child, output }
}

async function start(dataDir: string, ...args: string[]): Promise<Started> {
  const { child, output } = spawnStart(['--data-dir', dataDir, '--free-ports', ...args])
  t.teardown(() => child.kill('SIGTERM'))
  await until(READY_MS, 'ready', () => {
    if (child.exitCode !== null) throw new Error(output.text)
    return output.text.includes('Ctrl-C stops everything')
  })
  const urls = [...output.text.matchAll(/http:\/\/127\.0\.0\.1:(\d+)/g)]
  const api = String(/API +(\S+)/.exec(output.text)?.[1])
  return { child, summary: output.text, output, api, ports: urls.map(url => Number(url[1])) }
}

async function until(
  ms: number,
  what: string,
  isTrue: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
    await delay(50)
  }
}

async function childrenOf(pid: number | undefined): Promise<number[]> {
  const { stdout } = await exec('ps', ['-A', '-o', 'pid=,ppid='])
  const rows = stdout.split('\n').map(line => line.trim().split(/\s+/).map(Number))
  return rows.filter(([, parent]) => parent === pid).map(([child]) => Number(child))
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

function isOpen(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => resolve(false))
    socket.on('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

async function exitCodeOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  return child.exitCode
}

async function login(api: string, tenant: string): Promise<{ authorization: string }> {
  const response = await fetch(`${api}/api/auth/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      tenant_key: tenant,
      email: `admin@${tenant}.example`,
      password: 'doorman-demo',
    }),
  })
  const body = (await response.json()) as { result: { accessToken: string } }
  tokens.push(body.result.accessToken)
  return { authorization: `Bearer ${body.result.accessToken}` }
}

async function call(api: string, path: string, init: RequestInit = {}) {
  const response = await fetch(`${api}${path}`, init)
  return { status: response.status, text: await response.text() }
}

t.test('npm start: what it prints works, and it stops and starts again cleanly', async t => {
  const home = await mkdtemp(join(tmpdir(), 'doorman-start-test-'))
  t.teardown(() => rm(home, { recursive: true, force: true, maxRetries: 5 }))
  await chmod(home, 0o755)
  const dataDir = join(home, 'data')

  const first = await start(dataDir, '--tenants', '3', '--traffic')
  const commands = first.summary
    .split('\n')
    .map(line => line.trim())
    .filter(line => line.startsWith('TOKEN=') || (line.startsWith('curl ') && /TOKEN/.test(line)))
  t.equal(commands.length, 2)
  // The commands call `node` by its name.
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` }
  const hasCurl = await exec('bash', ['-c', 'command -v curl']).then(
    () => true,
    () => false,
  )
  if (hasCurl) {
    const { stdout } = await exec('bash', ['-ec', commands.join('\n')], { env })
    t.match(JSON.parse(stdout), {
      status: true,
      result: { email: 'admin@acme.example', tenant: { key: 'acme' } },
    })
  }
  const internal = [...first.summary.matchAll(/http:\S+\/(?:metrics|readyz)/g)].map(([url]) => url)
  t.equal(internal.length, 2)
  for (const url of internal) t.equal((await fetch(url)).status, 200, url)
  const [, console = ''] = /Console +(\S+)/.exec(first.summary) ?? []
  const page = await fetch(console)
  t.match(await page.text(), /<title>Doorman<\/title>/, 'the console')
  const [, admin = '', key = ''] = /Admin +(\S+)[\s\S]*?Admin key (\S+)/.exec(first.summary) ?? []
  const listed = await fetch(admin, { headers: { authorization: `Bearer ${key}` } })
  const { result } = (await listed.json()) as { result: { total: number; items: { id: string }[] } }
  t.equal(result.total, 3)
  const ids = result.items.map(({ id }) => id).join()
  await until(15_000, 'traffic of each', async () => {
    const pulse = await fetch(`${admin.replace(/tenants$/, 'pulse')}?ids=${ids}`, {
      headers: { authorization: `Bearer ${key}` },
    })
    const { result } = (await pulse.json()) as { result: { items: { requests: number[] }[] } }
    return result.items.every(({ requests }) => requests.some(count => count > 1))
  })
  const provision = {
    host: 'local',
    admin: { email: 'admin@made.example', password: 'doorman-demo' },
  }
  const made = await fetch(admin, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ tenant_key: 'made', provision }),
  })
  t.equal(made.status, 202, 'a tenant from nothing, on the database host of the demo')
  await until(30_000, 'the tenant is made', async () => {
    const found = await fetch(`${admin}?q=made`, { headers: { authorization: `Bearer ${key}` } })
    const { result } = (await found.json()) as { result: { items: { status: string }[] } }
    return result.items[0]?.status === 'active'
  })
  t.ok((await login(first.api, 'made')).authorization)
  for (const tenant of ['acme', 'globex', 'demo-003']) {
    const headers = await login(first.api, tenant)
    const body = `of ${tenant}`
    const put = await call(first.api, '/api/files/note.txt', { method: 'PUT', headers, body })
    t.match(put.status, /^20[0-9]$/, `${tenant} stores a file`)
    const got = await call(first.api, '/api/files/note.txt', { headers })
    t.equal(got.text, body, 'and reads its own back')
  }
  t.equal((await stat(join(dataDir, 'keys.json'))).mode & 0o777, 0o600)
  t.equal((await stat(dataDir)).mode & 0o066, 0, 'nobody else may list or write')

  const second = spawnStart(['--data-dir', dataDir, '--free-ports'])
  t.equal(await exitCodeOf(second.child), 1)
  t.match(second.output.text, /Already running on .* \(process \d+\)/)
  t.equal(second.output.text.trim().split('\n').length, 1, 'one clear line')

  const children = await childrenOf(first.child.pid)
  t.ok(children.length >= 4, 'PostgreSQL, S3, gateway and app')
  first.child.kill('SIGINT')
  t.equal(await exitCodeOf(first.child), 0)
  // One that was killed last stands in the list until init has taken it.
  await until(5000, 'no process is left', () => !children.some(isAlive))
  for (const port of first.ports) t.notOk(await isOpen(port), `port ${port} is closed`)

  const again = await start(dataDir)
  const acme = await login(again.api, 'acme')
  t.equal((await call(again.api, '/api/files/note.txt', { headers: acme })).text, 'of acme')
  t.ok((await login(again.api, 'demo-003')).authorization, 'tenants of an earlier start stay')

  const orphans = await childrenOf(again.child.pid)
  again.child.kill('SIGKILL')
  await until(15_000, 'no orphan', () => !orphans.some(isAlive))
  const third = await start(dataDir)
  const headers = await login(third.api, 'globex')
  t.equal((await call(third.api, '/api/files/note.txt', { headers })).text, 'of globex')
  third.child.kill('SIGTERM')
  t.equal(await exitCodeOf(third.child), 0)

  // Printed on purpose are the demo logins, whose password is not planted, and the admin key, on two lines
  // of the summary; nothing else is.
  const leaks = new LeakWatch()
  const keys = await keepKeys(join(dataDir, 'keys.json'))
  plantKeys(leaks, keys, demoTenants(3, keys))
  for (const token of tokens) leaks.plantToken('an access token', token)
  for (const started of [first, again, third]) {
    t.match(started.output.text, '"level":"info"', 'the logs of the binaries are in it')
    const printed = ['  Admin key ', '  ADMIN_API_KEY='].map(label => label + keys.adminApiKey)
    const rest = started.output.text.split('\n').filter(line => !printed.includes(line))
    leaks.note('output of npm start', rest.join('\n'))
  }
  t.strictSame(leaks.findLeaks(), [])
})

t.test('wrong options and --help', async t => {
  const help = spawnStart(['--help'])
  t.equal(await exitCodeOf(help.child), 0)
  t.match(help.output.text, /--tenants N/)
  const wrong = spawnStart(['--tenants', 'many'])
  t.equal(await exitCodeOf(wrong.child), 1)
  t.match(wrong.output.text, /--tenants must be a number/)
})

t.test('against a Registry: the problems of the environment are shown, exit 1', async t => {
  const { child, output } = spawnStart([], {
    TENANT_REGISTRY_DB_URL: 'mysql://nowhere',
    APP_PORT: '1',
    APP_ADMIN_PORT: '1',
    PORT: '1',
    ADMIN_PORT: '1',
  })
  t.equal(await exitCodeOf(child), 1)
  t.match(output.text, /gateway \| .*TENANT_REGISTRY_DB_URL/)
  t.match(output.text, /gateway \| .*MASTER_ENCRYPTION_KEY is required/)
  t.match(output.text, /app {5}\| .*TENANT_CONTEXT_PUBLIC_KEYS is required/)
})
