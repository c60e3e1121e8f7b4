import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { childEnv } from '../../deploy/local/run.ts'
import { type AdminWorld, owner } from '../admin/test-kit.ts'
import { type ExitCode, explain } from './failure.ts'
import type { Session } from './session.ts'
import type { Streams } from './streams.ts'

/** For tests: what a command answered. */
export interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** The real command line as a process of its own. */
export function spawnCli(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  input = '',
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const main = join(import.meta.dirname, 'main.ts')
    const child = spawn(process.execPath, [main, ...args], { env: { ...childEnv(), ...env } })
    const texts = { out: '', err: '' }
    child.stdout.on('data', chunk => {
      texts.out += chunk
    })
    child.stderr.on('data', chunk => {
      texts.err += chunk
    })
    child.stdin.on('error', () => {})
    child.stdin.end(input)
    child.on('error', reject)
    child.on('close', code => resolve({ code, ...texts }))
  })
}

/** A command within this process, for what a process of its own adds nothing to. */
export async function runHere(
  world: AdminWorld,
  work: (session: Session, streams: Streams) => Promise<ExitCode>,
  input = '',
  change: Partial<Session> = {},
  isTTY = false,
): Promise<Ran> {
  const texts = { out: '', err: '' }
  const collect = (name: 'out' | 'err') =>
    new PassThrough().on('data', chunk => {
      texts[name] += chunk
    })
  const stdin = Object.assign(new PassThrough(), { isTTY })
  stdin.end(input)
  const streams = { input: stdin, output: collect('out'), error: collect('err') }
  try {
    const session = { ...world.deps, actor: owner, usersKeepDays: 100 }
    const code = await work({ ...session, ...change }, streams)
    await new Promise(resolve => setImmediate(resolve))
    return { code, ...texts }
  } catch (error) {
    const { exitCode, text } = explain(error)
    return { code: exitCode, out: texts.out, err: `${texts.err}${text}` }
  }
}
