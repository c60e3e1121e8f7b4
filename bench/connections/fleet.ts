import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { type RunningProcess, startProcess, untilReady } from '../../deploy/local/processes.ts'
import type { FleetDatabases } from './databases.ts'

export interface FleetOptions {
  readonly databases: FleetDatabases
  readonly replicas: number
  readonly gateways: number
  /** Processes of each gateway (GATEWAY_WORKERS). */
  readonly workers: number
  /** TENANT_SPREAD. */
  readonly spread: number
  readonly appEnv?: Readonly<Record<string, string>>
  readonly gatewayEnv?: Readonly<Record<string, string>>
  /** What stands between gateways and replicas, see front.ts. */
  readonly front: 'none' | 'pinned' | 'round-robin'
}

/** App replicas and gateways as they are deployed, one process each. */
export interface RunningFleet {
  readonly gatewayPorts: readonly number[]
  readonly appPids: readonly number[]
  /** HS256 key of access tokens. */
  readonly accessSecret: string
  stop(): Promise<void>
}

const START_MS = 60_000
const STOP_MS = 10_000

/** @throws Error where a process ends or is not ready within 60 s; none is left running then */
export async function startFleet(options: FleetOptions): Promise<RunningFleet> {
  const stops: (() => Promise<void>)[] = []
  const stop = async () => {
    // Gateways first: what they forward still finds its replica.
    for (const end of stops.splice(0).reverse()) await end()
  }
  const start = (name: string, command: string, env: NodeJS.ProcessEnv) =>
    startListening(name, command, env, running => {
      stops.push(() => running.stop(STOP_MS))
    })
  try {
    const { databases } = options
    const secret = () => randomBytes(32).toString('base64url')
    const { privateKey } = generateKeyPairSync('ed25519')
    const signingKey = { ...privateKey.export({ format: 'jwk' }), kid: 'bench' }
    const { d: _private, ...publicKey } = signingKey as Record<string, string>
    const accessSecret = secret()
    const shared = {
      HOST: '127.0.0.1',
      PORT: '0',
      ADMIN_PORT: '0',
      LOG_LEVEL: 'info',
      JWT_SECRET_ACCESS_TOKEN: accessSecret,
      JWT_SECRET_REFRESH_TOKEN: secret(),
      TENANT_CONTEXT_ENCRYPTION_KEY: secret(),
    }
    const apps = await Promise.all(
      Array.from({ length: options.replicas }, (_, i) =>
        start(`app ${i}`, 'app/main.ts', {
          ...shared,
          REPLICA_ID: `app-${i}`,
          DRAIN_NOTICE_MS: '0',
          TENANT_CONTEXT_PUBLIC_KEYS: JSON.stringify({ keys: [publicKey] }),
          ...options.appEnv,
        }),
      ),
    )
    let ports: readonly number[] = apps.map(({ port }) => port)
    if (options.front !== 'none') {
      const command = ['bench/connections/front.ts', options.front, ...ports].join(' ')
      ports = (await start('front', command, {})).ports
    }
    const gateways = await Promise.all(
      Array.from({ length: options.gateways }, (_, i) =>
        start(`gateway ${i}`, 'gateway/main.ts', {
          ...shared,
          ACCESS_LOG_PERCENT: '0',
          GATEWAY_WORKERS: String(options.workers),
          TENANT_SPREAD: String(options.spread),
          TENANT_REGISTRY_DB_URL: databases.registryUrl,
          MASTER_ENCRYPTION_KEY: databases.masterKey,
          TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(signingKey),
          APP_UPSTREAMS: ports.map(port => `http://127.0.0.1:${port}`).join(','),
          ...options.gatewayEnv,
        }),
      ),
    )
    const { signal } = new AbortController()
    for (const { running, adminPort } of gateways) {
      await untilReady(running, `http://127.0.0.1:${adminPort}/readyz`, START_MS, signal)
    }
    return {
      gatewayPorts: gateways.map(({ port }) => port),
      appPids: apps.map(({ running }) => running.pid),
      accessSecret,
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

interface Listening {
  readonly running: RunningProcess
  readonly port: number
  readonly ports: readonly number[]
  readonly adminPort: number
}

/** Starts a script, with arguments behind it, and waits until it says on which ports it listens. */
async function startListening(
  name: string,
  command: string,
  env: NodeJS.ProcessEnv,
  onStarted: (running: RunningProcess) => void,
): Promise<Listening> {
  let onListening = (_entry: Record<string, unknown>) => {}
  const listening = new Promise<Record<string, unknown>>(resolve => {
    onListening = resolve
  })
  const [script, ...args] = command.split(' ')
  const running = startProcess({
    name,
    args,
    script: fileURLToPath(new URL(`../../${script}`, import.meta.url)),
    env,
    onLine: line => {
      if (line.includes('"listening"')) onListening(JSON.parse(line))
    },
  })
  onStarted(running)
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`${name} does not listen`)), START_MS)
  const ended = running.exited.then(text => Promise.reject(new Error(text)))
  // Once it listens, its end is nobody's business here: requests will fail.
  ended.catch(() => {})
  try {
    const entry = await Promise.race([listening, ended, late.promise])
    const address = entry.address as { port: number } | undefined
    const internal = entry.internal as { port: number } | undefined
    const ports = (entry.ports as number[] | undefined) ?? []
    return {
      running,
      port: address?.port ?? Number(entry.port),
      ports,
      adminPort: internal?.port ?? Number(entry.admin_port),
    }
  } finally {
    clearTimeout(timer)
  }
}
