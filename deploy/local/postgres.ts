import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { guard } from './guard.ts'
import { freePort } from './ports.ts'
import { copyTestCluster, initCluster, keepPassword, SUPERUSER } from './postgres-cluster.ts'
import {
  findPostgres,
  makeTemporary,
  POSTGRES_ENV,
  type PostgresHost,
  prepareDataDir,
} from './postgres-host.ts'
import { clearStalePidFile, readPidFile } from './postgres-pid-file.ts'

/** A running PostgreSQL of our own, on loopback TCP only. */
export interface LocalPostgres {
  readonly host: '127.0.0.1'
  readonly port: number
  readonly pid: number
  /** Resolves with the last log lines when the server ends, wanted or not. */
  readonly exited: Promise<string>
  /** The superuser's URL, or that of `user` with `password`. */
  url(database: string, user?: string, password?: string): string
  /** `fast` ends sessions and writes everything out; past its deadline it becomes `immediate`. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>
}

export interface PostgresOptions {
  readonly dataDir: string
  /** 0 or absent: a free one. */
  readonly port?: number
  /** false: nothing is synced to disk and a crash of the machine may lose it all; for tests. */
  readonly isDurable?: boolean
  /** Settings as in postgresql.conf; they win over ours. */
  readonly settings?: Readonly<Record<string, string>>
  /** The superuser's password; absent: made once and kept beside `dataDir` with mode 0600. */
  readonly password?: string
  readonly onLog?: (line: string) => void
  /** What a person should know, such as that earlier data is gone. */
  readonly onNotice?: (text: string) => void
}

const READY_MS = 60_000
const FAST_STOP_MS = 15_000
const IMMEDIATE_STOP_MS = 5_000
const KILL_MS = 5_000
const POLL_MS = 10
const LINES_KEPT = 30

const NOT_DURABLE = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  shared_buffers: '32MB',
} as const

/**
 * Starts PostgreSQL on `dataDir`, making the cluster on first use, and waits until it accepts
 * connections. It ends with this process, however that ends.
 *
 * @throws Error with the server's last lines where it does not come up within 60 s, or where
 * another server runs on the same data
 */
export async function startPostgres(options: PostgresOptions): Promise<LocalPostgres> {
  const host = await findPostgres()
  const wanted = resolve(options.dataDir)
  await mkdir(dirname(wanted), { recursive: true, mode: 0o700 })
  const dataDir = await prepareDataDir(wanted, host.account, options.onNotice)
  const isDurable = options.isDurable ?? true
  const password =
    options.password ?? (await keepPassword(join(dirname(wanted), `${basename(wanted)}.password`)))
  await initCluster(host, dataDir, password, isDurable)
  return serve(host, { ...options, dataDir, isDurable, password })
}

/** Starts PostgreSQL on fresh data in a temporary folder, which goes with it. Takes below 1 s. */
export async function startTestPostgres(
  settings?: Readonly<Record<string, string>>,
): Promise<LocalPostgres> {
  const host = await findPostgres()
  const folder = await makeTemporary('doorman-test-postgres-', host.account)
  const remove = () => rm(folder, { recursive: true, force: true, maxRetries: 3 })
  try {
    const dataDir = await prepareDataDir(join(folder, 'data'), host.account)
    const password = await copyTestCluster(host, dataDir)
    const options = { dataDir, password, isDurable: false, ...(settings && { settings }) }
    const server = await serve(host, options, folder)
    return { ...server, stop: mode => server.stop(mode ?? 'immediate').finally(remove) }
  } catch (error) {
    await remove()
    throw error
  }
}

interface ServeOptions extends PostgresOptions {
  readonly password: string
}

/** `doomed`: the folder to remove should this process die without stopping the server. */
async function serve(
  host: PostgresHost,
  options: ServeOptions,
  doomed = '',
): Promise<LocalPostgres> {
  const deadline = Date.now() + READY_MS
  for (;;) {
    await clearStalePidFile(options.dataDir)
    const port = options.port || (await freePort())
    const server = launch(host, options, port)
    const pidFile = join(options.dataDir, 'postmaster.pid')
    const watchdog = guard(server.child, { signals: ['INT', 'QUIT'], pidFile, doomed })
    try {
      await untilReady(server, options.dataDir, deadline)
    } catch (error) {
      await end(server.child, 'SIGQUIT', IMMEDIATE_STOP_MS)
      watchdog.kill('SIGKILL')
      if (mayPass(error, options) && Date.now() < deadline) {
        await delay(200)
        continue
      }
      throw error
    }
    const { child, exited } = server
    return {
      host: '127.0.0.1',
      port,
      pid: child.pid as number,
      exited,
      url: (database, user = SUPERUSER, password = options.password) =>
        `postgres://${encodeURIComponent(user)}:${encodeURIComponent(password)}` +
        `@127.0.0.1:${port}/${encodeURIComponent(database)}`,
      stop: async (mode = 'fast') => {
        const isDown = mode === 'fast' && (await end(child, 'SIGINT', FAST_STOP_MS))
        if (!isDown) await end(child, 'SIGQUIT', IMMEDIATE_STOP_MS)
      },
    }
  }
}

interface Launched {
  readonly child: ChildProcess
  readonly exited: Promise<string>
}

function launch(host: PostgresHost, options: ServeOptions, port: number): Launched {
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    max_connections: '300',
    ...(options.isDurable === false ? NOT_DURABLE : {}),
    ...options.settings,
  }
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const child = spawn(join(host.native, 'bin/postgres'), ['-D', options.dataDir, ...args], {
    ...host.account,
    cwd: '/',
    env: POSTGRES_ENV,
    // Its own process group: Ctrl-C reaches us alone, and we stop it after those who use it.
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const lines: string[] = []
  const stderr = child.stderr as NonNullable<typeof child.stderr>
  createInterface({ input: stderr }).on('line', line => {
    lines.push(line)
    if (lines.length > LINES_KEPT) lines.shift()
    options.onLog?.(line)
  })
  const exited = new Promise<string>(done => {
    child.on('error', error => done(String(error)))
    child.on('close', () => done(lines.join('\n')))
  })
  // A test that forgets to stop its server still ends; the guard then stops the server.
  child.unref()
  ;(stderr as unknown as { unref(): void }).unref()
  return { child, exited }
}

/** The pid file's status line is what pg_ctl waits for too. */
async function untilReady(server: Launched, dataDir: string, deadline: number): Promise<void> {
  const { child, exited } = server
  while (Date.now() < deadline) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) {
      throw new Error(`PostgreSQL did not start:\n${await exited}`)
    }
    const file = await readPidFile(dataDir)
    if (file?.pid === child.pid && file.status === 'ready') return
    await delay(POLL_MS)
  }
  await end(child, 'SIGQUIT', IMMEDIATE_STOP_MS)
  throw new Error(`PostgreSQL was not ready within ${READY_MS} ms:\n${await exited}`)
}

/**
 * Faults that a second attempt gets over: a port taken between choosing and using it, and the
 * sessions of a killed server that still hold its shared memory for a moment.
 */
function mayPass(error: unknown, options: ServeOptions): boolean {
  const text = String(error)
  const isPortTaken = !options.port && /could not (bind|create any TCP)/.test(text)
  return isPortTaken || /pre-existing shared memory block/.test(text)
}

/** True where the process is gone within `ms`; one that outlives SIGQUIT is killed. */
async function end(child: ChildProcess, signal: NodeJS.Signals, ms: number): Promise<boolean> {
  const isGone = () => child.pid === undefined || child.exitCode !== null || !!child.signalCode
  if (isGone()) return true
  child.kill(signal)
  const isDown = await exitWithin(child, isGone, ms)
  if (isDown || signal !== 'SIGQUIT') return isDown
  child.kill('SIGKILL')
  return exitWithin(child, isGone, KILL_MS)
}

async function exitWithin(
  child: ChildProcess,
  isGone: () => boolean,
  ms: number,
): Promise<boolean> {
  if (isGone()) return true
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), ms)
  try {
    await once(child, 'exit', { signal: late.signal })
  } catch {
    // Late: the caller goes on to a harder signal.
  } finally {
    clearTimeout(timer)
  }
  return isGone()
}
