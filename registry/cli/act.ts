import type { ExitCode } from './failure.ts'
import type { Session } from './session.ts'

/** Runs a command with a session. */
export type Act = (
  work: (session: Session) => Promise<ExitCode>,
  queryTimeoutMs?: number,
) => Promise<void>

/** For a whole fleet in one transaction, or a row deleted in the one that waits for DROP DATABASE. */
export const LONG_MS = 120_000

/** What a command needs is loaded when it runs, so that --help and a usage error are instant. */
export function makeAct(env: NodeJS.ProcessEnv, done: (code: ExitCode) => void): Act {
  return async (work, queryTimeoutMs) => {
    const { withSession } = await import('./session.ts')
    done(await withSession(env, work, queryTimeoutMs))
  }
}
