import { type SpawnOptions, spawn } from 'node:child_process'
import { resolve as resolvePath } from 'node:path'

export interface Finished {
  /** null where a signal ended the process. */
  readonly code: number | null
  readonly stdout: string
  /** The end of both streams together, for an error text. */
  readonly output: string
}

/** Characters of output kept per stream; a child that talks more loses its oldest lines. */
const OUTPUT_CHARS_MAX = 4 * 1024 * 1024

/**
 * What a Node child needs of our own environment where it gets one of its own: where programs are,
 * and V8's compile cache if one is in use, which halves the time that a child takes to start.
 */
export function childEnv(): Record<string, string> {
  const { PATH, NODE_COMPILE_CACHE } = process.env
  return {
    ...(PATH === undefined ? {} : { PATH }),
    // Absolute, for a child may run elsewhere.
    ...(NODE_COMPILE_CACHE === undefined
      ? {}
      : { NODE_COMPILE_CACHE: resolvePath(NODE_COMPILE_CACHE) }),
  }
}

/**
 * Runs a command to its end, `input` on its standard input. A command that exits with any code is
 * no error here.
 *
 * @throws Error where it cannot be spawned or is still running after `deadlineMs` (it is killed)
 */
export function run(
  command: string,
  args: readonly string[],
  deadlineMs: number,
  options: SpawnOptions & { input?: string } = {},
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const { input, ...spawnOptions } = options
    const child = spawn(command, args, { ...spawnOptions, stdio: ['pipe', 'pipe', 'pipe'] })
    let stdout = ''
    let output = ''
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout = (stdout + text).slice(-OUTPUT_CHARS_MAX)
      output = (output + text).slice(-OUTPUT_CHARS_MAX)
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      output = (output + text).slice(-OUTPUT_CHARS_MAX)
    })
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`${command} did not end within ${deadlineMs} ms\n${output.slice(-2000)}`))
    }, deadlineMs)
    child.on('error', error => {
      clearTimeout(timer)
      reject(error)
    })
    child.on('close', code => {
      clearTimeout(timer)
      resolve({ code, stdout, output })
    })
    // A child that ends without reading its input closes the pipe first; its exit code tells why.
    child.stdin?.on('error', () => {})
    child.stdin?.end(input ?? '')
  })
}
