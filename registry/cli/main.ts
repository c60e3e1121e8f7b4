import { CommanderError } from 'commander'
import { requireSafeRuntime } from '../lib/runtime.ts'
import { EXIT, type ExitCode, explain } from './failure.ts'
import { makeProgram } from './program.ts'

requireSafeRuntime()
process.exitCode = await run(process.argv.slice(2))

async function run(args: readonly string[]): Promise<ExitCode> {
  const streams = { input: process.stdin, output: process.stdout, error: process.stderr }
  let exitCode: ExitCode = EXIT.ok
  try {
    const program = makeProgram(streams, process.env, code => {
      exitCode = code
    })
    await program.parseAsync([...args], { from: 'user' })
    return exitCode
  } catch (error) {
    // Commander has written its text already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    const failure = explain(error)
    process.stderr.write(`doorman: ${failure.text}\n`)
    return failure.exitCode
  } finally {
    // A pipe that nobody closes must not keep a finished command alive.
    process.stdin.destroy()
  }
}
