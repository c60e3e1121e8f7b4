import { Fault } from '../lib/errors.ts'

/** Exit codes of the CLI; scripts rely on them. */
export const EXIT = { ok: 0, failure: 1, usage: 2, exists: 3, notFound: 4, busy: 5 } as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

/** A failure that the operator reads as one line, without a stack trace. */
export class CliFailure extends Error {
  override readonly name = 'CliFailure'
  readonly exitCode: ExitCode

  constructor(exitCode: ExitCode, message: string) {
    super(message)
    this.exitCode = exitCode
  }
}

const EXIT_CODES: Readonly<Record<string, ExitCode>> = {
  VALIDATION_FAILED: EXIT.usage,
  NOT_FOUND: EXIT.notFound,
}

/** What an error means for whoever typed the command. */
export function explain(error: unknown): { exitCode: ExitCode; text: string } {
  if (error instanceof CliFailure) return { exitCode: error.exitCode, text: error.message }
  if (error instanceof Fault) {
    return { exitCode: EXIT_CODES[error.code] ?? EXIT.failure, text: error.reason }
  }
  return { exitCode: EXIT.failure, text: error instanceof Error ? error.message : String(error) }
}
