import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { run } from './run.ts'

export interface PidFile {
  readonly pid: number
  /** "starting", "ready", "stopping", "standby"; empty until the server has written it. */
  readonly status: string
}

/** How long a server that its guard is stopping may need to go. */
const LEAVING_MS = 4_000
const PS_MS = 5_000

/** `postmaster.pid` of a data folder: line 1 the pid, line 8 the status; null where there is none. */
export async function readPidFile(dataDir: string): Promise<PidFile | null> {
  try {
    const lines = (await readFile(join(dataDir, 'postmaster.pid'), 'utf8')).split('\n')
    return { pid: Number(lines[0]), status: lines[7]?.trim() ?? '' }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/**
 * Removes the pid file of a server that was killed, where its number now belongs to another process:
 * PostgreSQL would take that for itself and refuse to start (usual in containers, where numbers
 * repeat). Nothing is ever killed here.
 *
 * @throws Error where a server really runs on `dataDir`
 */
export async function clearStalePidFile(dataDir: string): Promise<void> {
  const deadline = Date.now() + LEAVING_MS
  for (;;) {
    const file = await readPidFile(dataDir)
    if (file === null) return
    const command = await commandOf(file.pid)
    if (!command.includes(dataDir)) {
      await rm(join(dataDir, 'postmaster.pid'), { force: true })
      return
    }
    if (Date.now() > deadline) {
      throw new Error(`PostgreSQL already runs on ${dataDir} (process ${file.pid})`)
    }
    await delay(100)
  }
}

/** The command line of a process, or '' where there is no such process. */
export async function commandOf(pid: number): Promise<string> {
  if (!Number.isSafeInteger(pid) || pid <= 0) return ''
  try {
    return await readFile(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    // No /proc (macOS) or no such process: ps knows.
    const ps = await run('/bin/ps', ['-p', String(pid), '-o', 'command='], PS_MS).catch(() => null)
    return ps?.stdout ?? ''
  }
}
