import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { SECRET_NAMES } from '../lib/secret-sources.ts'

export interface RunnerOptions {
  /** Never a secret: other users of the machine see them. */
  readonly args: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** It goes on where this process dies. */
  readonly isDetached?: boolean
  /** Takes its output by lines; absent: nobody reads it. */
  readonly onLine?: (line: string) => void
  /** Then it is told to stop, and ended a while later; absent: it ends by itself. */
  readonly deadlineMs?: number
  /** The same, by the caller. */
  readonly signal?: AbortSignal
}

export interface RunnerProcess {
  readonly ended: Promise<RunnerEnd>
  /** Once: what runs is finished, and nothing more begun. */
  stop(): void
}

export interface RunnerEnd {
  /** null: ended by a signal. */
  readonly code: number | null
  /** The last that it said on standard error. */
  readonly complaint: string
  readonly isLate: boolean
}

const RUNNER = join(import.meta.dirname, '../../migrations/tenant-migrate.ts')
const NEEDED: readonly string[] = [
  ...['MASTER_ENCRYPTION_KEY', 'MASTER_ENCRYPTION_KEY_PREVIOUS', 'TENANT_REGISTRY_DB_URL'],
]
const COMPLAINT_CHARS_MAX = 2000
const KILL_AFTER_MS = 5000

/**
 * What the runner gets of this process's environment: all but the secrets that it has no use for. Not a list of what it
 * reads: a command that fetches the master key (MASTER_ENCRYPTION_KEY_COMMAND) has variables of its own.
 */
export function runnerEnv(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const foreign = new Set(
    SECRET_NAMES.filter(name => !NEEDED.includes(name)).flatMap(name => [
      ...[name, `${name}_FILE`, `${name}_COMMAND`],
    ]),
  )
  return Object.fromEntries(Object.entries(env).filter(([name]) => !foreign.has(name)))
}

/**
 * Starts the fleet runner as a process of its own: the control plane lies below migrations/ and does not import it.
 *
 * @throws Error where there is no process to be had
 */
export async function startRunner(options: RunnerOptions): Promise<RunnerProcess> {
  const { args, env, isDetached = false, onLine, deadlineMs, signal } = options
  const child = spawn(process.execPath, [RUNNER, ...args], {
    env,
    detached: isDetached,
    stdio: ['ignore', onLine === undefined ? 'ignore' : 'pipe', 'pipe'],
  })
  let isLate = false
  let complaint = ''
  const { stdout, stderr } = child
  stderr?.setEncoding('utf8').on('data', (text: string) => {
    complaint = (complaint + text).slice(-COMPLAINT_CHARS_MAX)
  })
  if (stdout !== null && onLine !== undefined) {
    createInterface({ input: stdout, crlfDelay: Number.POSITIVE_INFINITY }).on('line', onLine)
  }
  const timers: NodeJS.Timeout[] = []
  const end = () => {
    child.kill('SIGTERM')
    timers.push(setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS).unref())
  }
  if (deadlineMs !== undefined) {
    const late = () => {
      isLate = true
      end()
    }
    timers.push(setTimeout(late, deadlineMs).unref())
  }
  const ended = new Promise<RunnerEnd>(resolve => {
    child.once('close', code => {
      for (const timer of timers) clearTimeout(timer)
      signal?.removeEventListener('abort', end)
      resolve({ code, complaint: complaint.trim(), isLate })
    })
  })
  await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject))
  // Of a signal that does not arrive; the process's end tells.
  child.on('error', () => {})
  if (signal?.aborted) end()
  else signal?.addEventListener('abort', end, { once: true })
  let isStopped = false
  return {
    ended,
    stop() {
      // A second one would end it at once.
      if (!isStopped) child.kill('SIGTERM')
      isStopped = true
    },
  }
}
