import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Account,
  isOurs,
  lstatOrNull,
  makeTemporary,
  own,
  POSTGRES_ENV,
  type PostgresHost,
  temporaryRoot,
} from './postgres-host.ts'
import { run } from './run.ts'

const INITDB_MS = 120_000
const COPY_MS = 60_000

export const SUPERUSER = 'postgres'

/** Makes a cluster in `dataDir` where there is none: passwords over TCP by scram-sha-256 only. */
export async function initCluster(
  host: PostgresHost,
  dataDir: string,
  password: string,
  isDurable: boolean,
): Promise<void> {
  // Stands while initdb runs: where an earlier start was killed within it, half a cluster is left.
  const unfinished = `${dataDir}.unfinished`
  if ((await lstatOrNull(unfinished)) !== null) await emptyFolder(dataDir)
  if ((await lstatOrNull(join(dataDir, 'PG_VERSION'))) !== null) return
  await writeFile(unfinished, '', { mode: 0o600 })
  const staging = await makeTemporary('doorman-initdb-', host.account)
  try {
    const pwfile = join(staging, 'password')
    await writeFile(pwfile, `${password}\n`, { mode: 0o600 })
    await own(pwfile, host.account)
    const args = [
      `--pgdata=${dataDir}`,
      `--username=${SUPERUSER}`,
      `--pwfile=${pwfile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      ...(isDurable ? [] : ['--no-sync', '--no-data-checksums', '--wal-segsize=1']),
    ]
    const options = { ...host.account, cwd: '/', env: POSTGRES_ENV }
    const made = await run(join(host.native, 'bin/initdb'), args, INITDB_MS, options)
    if (made.code !== 0) throw new Error(`initdb failed:\n${made.output.slice(-2000)}`)
    await rm(unfinished)
  } finally {
    await rm(staging, { recursive: true, force: true })
  }
}

/**
 * A cluster for a test: a copy of one that initdb made before (copying takes a tenth of the time).
 * The copies of a user share the superuser's password, which this returns.
 */
export async function copyTestCluster(host: PostgresHost, dataDir: string): Promise<string> {
  const template = await makeTemplate(host)
  const options = { ...host.account, cwd: '/', env: POSTGRES_ENV }
  const copied = await run('cp', ['-RP', `${join(template, 'data')}/.`, dataDir], COPY_MS, options)
  if (copied.code !== 0) throw new Error(`Cannot copy ${template}: ${copied.output}`)
  return (await readFile(join(template, 'password'), 'utf8')).trim()
}

/** The password kept in `file`, made on first use. */
export async function keepPassword(file: string): Promise<string> {
  const password = randomBytes(24).toString('base64url')
  try {
    const handle = await open(file, 'wx', 0o600)
    try {
      await handle.writeFile(`${password}\n`)
      await handle.sync()
    } finally {
      await handle.close()
    }
    return password
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return (await readFile(file, 'utf8')).trim()
  }
}

/** Made under another name and renamed, so that test files that start at once see all or nothing. */
async function makeTemplate(host: PostgresHost): Promise<string> {
  const name = `doorman-template-${host.version}-${process.getuid?.()}`
  const shared = join(await temporaryRoot(host.account), name)
  const known = await lstatOrNull(shared)
  if (isOurs(known)) return shared
  const made = await makeTemporary(`${name}-`, host.account)
  await makeOwned(join(made, 'data'), host.account)
  const password = await keepPassword(join(made, 'password'))
  await initCluster(host, join(made, 'data'), password, false)
  if (known !== null) throw new Error(`${shared} belongs to someone else; remove it`)
  try {
    await rename(made, shared)
  } catch (error) {
    await rm(made, { recursive: true, force: true })
    if (!isOurs(await lstatOrNull(shared))) throw error
  }
  return shared
}

async function makeOwned(folder: string, account: Account): Promise<void> {
  await mkdir(folder, { mode: 0o700 })
  await own(folder, account)
}

async function emptyFolder(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    await rm(join(folder, name), { recursive: true, force: true })
  }
}
