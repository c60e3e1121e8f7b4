import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'

const START_DEADLINE_MS = 30_000
const STOP_DEADLINE_MS = 5_000
const OUTPUT_CHARS_MAX = 8192

/** A child process that this run started, and that it ends by its id. */
export interface Child {
  readonly process: ChildProcess
  readonly pid: number
  /** The last of what it wrote to stdout and stderr. */
  output(): string
  stop(): Promise<void>
}

export interface ChildOptions {
  /** Command prefix (taskset). */
  readonly prefix?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly hasIpc?: boolean
}

export async function startChild(
  command: readonly string[],
  options: ChildOptions = {},
): Promise<Child> {
  const [file, ...args] = [...(options.prefix ?? []), ...command] as [string, ...string[]]
  const child = spawn(file, args, {
    stdio: ['ignore', 'pipe', 'pipe', ...(options.hasIpc === true ? ['ipc' as const] : [])],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  let output = ''
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString('utf8')).slice(-OUTPUT_CHARS_MAX)
  }
  child.stdout?.on('data', keep)
  child.stderr?.on('data', keep)
  await once(child, 'spawn')
  child.on('error', error => keep(Buffer.from(`${error.message}\n`)))

  return {
    process: child,
    pid: child.pid as number,
    output: () => output,
    async stop() {
      if (hasEnded(child)) return
      const ended = once(child, 'exit')
      child.kill('SIGTERM')
      const force = setTimeout(() => child.kill('SIGKILL'), STOP_DEADLINE_MS)
      await ended
      clearTimeout(force)
    },
  }
}

/**
 * Waits until `probe` says yes. A child that is not ready in time is stopped, for nobody else knows of it.
 *
 * @throws when the child ends first, or after 30 s, with its output
 */
export async function waitUntilReady(child: Child, probe: () => Promise<boolean>): Promise<void> {
  try {
    await waitFor(child, probe)
  } catch (error) {
    await child.stop()
    throw error
  }
}

async function waitFor(child: Child, probe: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + START_DEADLINE_MS
  while (!(await probe())) {
    if (hasEnded(child.process)) throw new Error(`ended at start: ${child.output()}`)
    if (Date.now() > deadline) throw new Error(`not ready after 30 s: ${child.output()}`)
    await wait(25)
  }
}

export function acceptsConnections(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.on('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

export async function freePort(): Promise<number> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}
