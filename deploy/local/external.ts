import { type BinaryPorts, type Running, startBinaries } from './binaries.ts'

export interface ExternalOptions {
  readonly root: string
  readonly env: NodeJS.ProcessEnv
  readonly signal: AbortSignal
  readonly print: (text: string) => void
  readonly onStarted: (stop: () => Promise<void>) => void
}

/** What only the gateway may hold (DESIGN 1): the app neither reads the Registry nor signs contexts. */
const GATEWAY_ONLY = [
  'TENANT_REGISTRY_DB_URL',
  'MASTER_ENCRYPTION_KEY',
  'MASTER_ENCRYPTION_KEY_PREVIOUS',
  'TENANT_CONTEXT_SIGNING_KEY',
  'ADMIN_API_KEY',
]

/** Starts gateway and app with the given environment against a Registry that exists. */
export async function startExternal(options: ExternalOptions): Promise<Running> {
  const env: NodeJS.ProcessEnv = { ...options.env, NODE_ENV: options.env.NODE_ENV || 'production' }
  const ports: BinaryPorts = {
    gateway: portOf(env, 'PORT', 9090),
    gatewayAdmin: portOf(env, 'ADMIN_PORT', 9091),
    app: portOf(env, 'APP_PORT', 3000),
    appAdmin: portOf(env, 'APP_ADMIN_PORT', 3001),
  }
  const appEnv = Object.fromEntries(
    // Nor the files and commands that they come from.
    Object.entries(env).filter(
      ([name]) => !GATEWAY_ONLY.includes(name.replace(/_(FILE|COMMAND)$/, '')),
    ),
  )
  const binaries = await startBinaries({
    root: options.root,
    ports,
    gatewayEnv: {
      ...env,
      APP_UPSTREAMS: env.APP_UPSTREAMS || `http://127.0.0.1:${ports.app}`,
    },
    appEnv,
    signal: options.signal,
    onLine: options.print,
  })
  options.onStarted(() => binaries.stop())
  options.print(`\nDoorman is ready: http://127.0.0.1:${ports.gateway}\n`)
  return binaries
}

function portOf(env: NodeJS.ProcessEnv, name: string, standard: number): number {
  const port = Number(env[name] || standard)
  if (Number.isInteger(port) && port >= 1 && port <= 65_535) return port
  throw new Error(`${name} must be a port from 1 to 65535`)
}
