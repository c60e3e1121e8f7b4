import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type RunningProcess, startProcess, untilReady } from './processes.ts'

export interface Running {
  /** Resolves with a text when a part of the system ends by itself. */
  readonly died: Promise<string>
}

export interface Binaries extends Running {
  /** The gateway first: it drains into the app. */
  stop(): Promise<void>
}

export interface BinaryPorts {
  readonly gateway: number
  readonly gatewayAdmin: number
  readonly app: number
  readonly appAdmin: number
}

export interface BinariesOptions {
  readonly root: string
  readonly ports: BinaryPorts
  readonly gatewayEnv: NodeJS.ProcessEnv
  readonly appEnv: NodeJS.ProcessEnv
  readonly signal: AbortSignal
  readonly onLine: (line: string) => void
}

const READY_MS = 60_000
/** The gateway's own drain of 30 s and a little more. */
const STOP_MS = 35_000
/** The other binary's complaints shall be seen too. */
const LAST_WORDS_MS = 3_000

/**
 * Starts the gateway and the app and waits until both are ready.
 *
 * @throws Error where one ends or is not ready in time; none is left running then
 */
export async function startBinaries(options: BinariesOptions): Promise<Binaries> {
  const { root, ports, signal } = options
  const start = (name: string, script: string, env: NodeJS.ProcessEnv) => {
    const onLine = (line: string) => options.onLine(`${name.padEnd(7)} | ${line}`)
    return startProcess({ name, script: join(root, script), env, onLine })
  }
  const app = start('app', 'app/main.ts', {
    ...options.appEnv,
    PORT: String(ports.app),
    ADMIN_PORT: String(ports.appAdmin),
  })
  const gateway = start('gateway', 'gateway/main.ts', {
    ...options.gatewayEnv,
    PORT: String(ports.gateway),
    ADMIN_PORT: String(ports.gatewayAdmin),
  })
  const stop = async () => {
    await gateway.stop(STOP_MS)
    await app.stop(STOP_MS)
  }
  const ready = (running: RunningProcess, port: number) =>
    untilReady(running, `http://127.0.0.1:${port}/readyz`, READY_MS, signal)
  try {
    await Promise.all([ready(app, ports.appAdmin), ready(gateway, ports.gatewayAdmin)])
  } catch (error) {
    const bothEnded = Promise.all([app.exited, gateway.exited])
    if (!signal.aborted) await Promise.race([bothEnded, delay(LAST_WORDS_MS)])
    await stop()
    throw error
  }
  return { died: Promise.race([app.exited, gateway.exited]), stop }
}
