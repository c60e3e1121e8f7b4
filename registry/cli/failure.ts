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
