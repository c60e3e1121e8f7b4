import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { publicFault } from '../lib/errors.ts'
import { runnerEnv } from '../migrate/runner-process.ts'
import type { TenantId } from '../tenant.ts'

const MIGRATE = join(import.meta.dirname, '../../migrations/tenant-migrate.ts')
const TIMEOUT_MS = 600_000
/** Between the signal that lets it finish a migration, and the one that does not. */
const KILL_MS = 10_000
const OUTPUT_CHARS_MAX = 2000

/**
 * The fleet's own runner, with its locks and its notes, as a process of its own: this layer imports nothing of
 * it. Secrets go by the environment, for arguments are seen by every user of the machine.
 *
 * @throws Fault PROVISIONING_FAILED with the end of what it said
 */
export function migrateByChild(
  env: NodeJS.ProcessEnv,
): (id: TenantId, signal: AbortSignal) => Promise<void> {
  const own = runnerEnv(env)
  return (id, signal) =>
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [MIGRATE, `--tenant-id=${id}`], {
        env: own,
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      let output = ''
      let late: NodeJS.Timeout | undefined
      const keep = (chunk: Buffer) => {
        output = (output + chunk.toString('utf8')).slice(-OUTPUT_CHARS_MAX)
      }
      const stop = () => {
        child.kill('SIGTERM')
        late ??= setTimeout(() => child.kill('SIGKILL'), KILL_MS)
      }
      const timer = setTimeout(stop, TIMEOUT_MS)
      signal.addEventListener('abort', stop, { once: true })
      const end = () => {
        clearTimeout(timer)
        clearTimeout(late)
        signal.removeEventListener('abort', stop)
      }
      child.stdout.on('data', keep).on('error', () => {})
      child.stderr.on('data', keep).on('error', () => {})
      child.on('error', error => {
        end()
        reject(error)
      })
      child.on('close', code => {
        end()
        if (code === 0) return resolve()
        const text = `the migration failed: ${output.trim() || `it ended with ${code}`}`
        reject(publicFault('PROVISIONING_FAILED', text))
      })
      if (signal.aborted) stop()
    })
}
