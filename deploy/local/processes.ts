import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { guard } from './guard.ts'
import { childEnv } from './run.ts'

export interface ProcessOptions {
  readonly name: string
  readonly script: string
  readonly args?: readonly string[]
  /** The environment of the child; of our own it gets what childEnv says, and nothing else. */
  readonly env: NodeJS.ProcessEnv
  readonly onLine: (line: string) => void
}

/** A Node process of ours. It ends with this process, however that ends (guard.ts). */
export interface RunningProcess {
  readonly name: string
  readonly pid: number
  /** Resolves when it ends, wanted or not, with how and its last lines. */
  readonly exited: Promise<string>
  /** SIGTERM, and SIGKILL where it still runs after `graceMs`. */
  stop(graceMs: number): Promise<void>
}

const LINES_KEPT = 20
const POLL_MS = 50
const PROBE_MS = 2_000

export function startProcess(options: ProcessOptions): RunningProcess {
  const { name, script, env, onLine } = options
  const child = spawn(process.execPath, [script, ...(options.args ?? [])], {
    env: { ...childEnv(), ...env },
    // Its own process group: Ctrl-C reaches us alone, and we stop the processes in order.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  guard(child, { signals: ['TERM', 'KILL'] })
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr] as Readable[]) {
    createInterface({ input: stream }).on('line', line => {
      lines.push(line)
      if (lines.length > LINES_KEPT) lines.shift()
      onLine(line)
    })
  }
  const exited = new Promise<string>(done => {
    child.on('error', error => done(`${name}: ${error.message}`))
    child.on('close', (code, signal) => {
      done([`${name} ended (${signal ?? `exit code ${code}`})`, ...lines].join('\n  '))
    })
  })
  return { name, pid: child.pid ?? 0, exited, stop: graceMs => stop(child, graceMs) }
}

/**
 * Waits until GET `url` answers 200.
 *
 * @throws Error where the process ends first, or is not ready within `deadlineMs`
 */
export async function untilReady(
  running: RunningProcess,
  url: string,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<void> {
  let ended: string | undefined
  void running.exited.then(text => {
    ended = text
  })
  const deadline = Date.now() + deadlineMs
  let last = 'no answer'
  while (Date.now() < deadline) {
    signal.throwIfAborted()
    if (ended !== undefined) throw new Error(ended)
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(PROBE_MS) })
      const body = await response.text()
      if (response.status === 200) return
      last = `${response.status} ${body.slice(0, 300)}`
    } catch {
      // Not listening yet.
    }
    await delay(POLL_MS)
  }
  throw new Error(`${running.name} was not ready within ${deadlineMs / 1000} s (${last})`)
}

async function stop(child: ChildProcess, graceMs: number): Promise<void> {
  const isGone = () => child.pid === undefined || child.exitCode !== null || !!child.signalCode
  if (isGone()) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
  await gone
  clearTimeout(timer)
}
