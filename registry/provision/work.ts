import { type AuditEntry, addAudit } from '../admin/audit.ts'
import { Fault, publicFault } from '../lib/errors.ts'
import { messageForLog } from '../lib/log-error.ts'
import type { RegistryStore } from '../store.ts'
import type { Taken } from './take.ts'

const PROBLEM_CHARS_MAX = 2000

interface Notes {
  /** Filled while it works; none of them is told. */
  readonly secrets: readonly string[]
  readonly audit: AuditEntry
}

/**
 * Does `work` at a run, and lets go of the run in the end: where it fails with the reason in the run, where
 * operators and the next process find it.
 *
 * @throws Fault
 */
export async function atWork(
  store: RegistryStore,
  { lease }: Taken,
  { secrets, audit }: Notes,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work()
    lease.end()
  } catch (error) {
    const fault = failureOf(error, secrets)
    // The Registry may be what failed: then the lease ends by itself, and the run counts as interrupted.
    await lease.letGo(fault.reason, fault.code).catch(() => {})
    const details = { code: fault.code, problem: fault.reason }
    const entry: AuditEntry = { ...audit, outcome: 'failed', details }
    await store.use(client => addAudit(client, entry)).catch(() => {})
    throw fault
  }
}

/** @throws Fault SHUTTING_DOWN */
export function requireGoing(signal: AbortSignal): void {
  if (!signal.aborted) return
  const text = 'the process was stopped, or the run took too long'
  throw publicFault('SHUTTING_DOWN', text)
}

/** In words that may be shown: what a server or a child process says may repeat what it was given. */
function failureOf(error: unknown, secrets: readonly string[]): Fault {
  const isFault = error instanceof Fault
  let text = isFault ? error.reason : messageForLog(error)
  for (const secret of secrets) if (secret !== '') text = text.replaceAll(secret, '[secret]')
  text = text.slice(0, PROBLEM_CHARS_MAX)
  const code = isFault ? error.code : 'PROVISIONING_FAILED'
  return publicFault(code, text, { cause: error })
}
