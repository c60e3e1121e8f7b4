import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Binaries, type BinaryPorts, type Running, startBinaries } from './binaries.ts'
import { createDatabases, createMaker, moveTenants, type Ports } from './databases.ts'
import { type DemoTenant, demoGrants, demoTenants, SHARED_BUCKET } from './demo-tenants.ts'
import { derivePassword, type Keys, keepKeys, publicKeys } from './keys.ts'
import type { StartOptions } from './options.ts'
import { exclusively } from './port-mutex.ts'
import { freePort, preferredPort } from './ports.ts'
import { type LocalPostgres, startPostgres } from './postgres.ts'
import { readJson, takeLock, writeJson } from './private-files.ts'
import { type LocalS3, startS3 } from './s3.ts'
import { seed } from './seed.ts'
import { summary } from './summary.ts'
import { startTraffic } from './traffic.ts'

export interface EmbeddedOptions {
  readonly options: StartOptions
  readonly root: string
  readonly env: NodeJS.ProcessEnv
  readonly signal: AbortSignal
  readonly print: (text: string) => void
  /** Called with what stops each part, in the order of their start. */
  readonly onStarted: (stop: () => Promise<void>) => void
}

/** What a start leaves for the next. */
interface State {
  readonly ports: Ports
  /** Keys of the tenants that are complete. */
  readonly done: readonly string[]
}

const REGISTRY = 'registry'
const MAKER = 'tenant_maker'

/** Starts the whole system. Resolves when it is ready. */
export async function startEmbedded(given: EmbeddedOptions): Promise<Running> {
  const { options, signal, print, onStarted } = given
  const dataDir = resolve(options.dataDir)
  // Ours alone. Root lets pass through, not list: PostgreSQL runs as another account below it.
  await mkdir(dataDir, { recursive: true, mode: process.getuid?.() === 0 ? 0o711 : 0o700 })
  onStarted(await takeLock(join(dataDir, 'lock'), 'deploy/local/start'))
  const stateFile = join(dataDir, 'state.json')
  const keys = await keepKeys(join(dataDir, 'keys.json'))
  const state = await readJson<State>(stateFile)
  const done = state?.done ?? []
  const tenants = demoTenants(Math.max(options.tenants, done.length), keys)

  print('PostgreSQL: starting')
  const postgres = await startPostgres({
    dataDir: join(dataDir, 'postgres'),
    port: await preferredPort(state?.ports.postgres ?? 0),
    onNotice: print,
  })
  onStarted(() => postgres.stop())
  signal.throwIfAborted()
  print('S3: starting')
  const s3 = await startStorage(dataDir, state?.ports.s3 ?? 0, tenants)
  onStarted(() => s3.stop())
  signal.throwIfAborted()

  const registry = { name: REGISTRY, password: derivePassword(keys, REGISTRY) }
  const databases = tenants.map(({ database, password }) => ({ name: database, password }))
  await createDatabases(postgres, [registry, ...databases])
  const maker = { name: MAKER, password: derivePassword(keys, MAKER) }
  await createMaker(postgres, maker)
  const ports: Ports = { postgres: postgres.port, s3: s3.port }
  const registryUrl = postgres.url(REGISTRY, REGISTRY, registry.password)
  if (state !== null && done.length > 0) await moveTenants(registryUrl, state.ports, ports)
  await writeJson(stateFile, { ports, done } satisfies State)
  const base = baseEnv(given.env)
  const complete = await seed({
    root: given.root,
    env: { ...base, TENANT_REGISTRY_DB_URL: registryUrl, MASTER_ENCRYPTION_KEY: keys.masterKey },
    tenants,
    done,
    postgresPort: postgres.port,
    s3Endpoint: s3.endpoint,
    signal,
    onStep: print,
    maker,
  })
  await writeJson(stateFile, { ports, done: complete } satisfies State)

  const { binaries, binaryPorts } = await exclusively(signal, async () => {
    const binaryPorts = await choosePorts(options.isFreePorts)
    const binaries = await startBinaries({
      root: given.root,
      ports: binaryPorts,
      gatewayEnv: gatewayEnv(base, keys, registryUrl, binaryPorts),
      appEnv: appEnv(base, keys),
      signal,
      onLine: print,
    })
    return { binaries, binaryPorts }
  })
  onStarted(() => binaries.stop())
  if (options.hasTraffic) {
    const origin = `http://127.0.0.1:${binaryPorts.gateway}`
    onStarted(startTraffic({ origin, tenants }))
  }
  print(summary({ ports: binaryPorts, tenants, dataDir, adminApiKey: keys.adminApiKey }))
  return { died: firstDeath(postgres, s3, binaries) }
}

async function startStorage(
  dataDir: string,
  port: number,
  tenants: readonly DemoTenant[],
): Promise<LocalS3> {
  const buckets = new Set([SHARED_BUCKET, ...tenants.map(({ bucket }) => bucket)])
  return startS3({
    dataDir: join(dataDir, 's3'),
    port: await preferredPort(port),
    buckets: [...buckets],
    grants: demoGrants(tenants),
  })
}

async function choosePorts(isFree: boolean): Promise<BinaryPorts> {
  const choose = (port: number) => (isFree ? freePort() : preferredPort(port))
  return {
    gateway: await choose(9090),
    gatewayAdmin: await choose(9091),
    app: await choose(3000),
    appAdmin: await choose(3001),
  }
}

/** What the children may inherit: the rest of the environment may hold what is not theirs. */
function baseEnv(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR, LANG, TZ, NODE_COMPILE_CACHE } = env
  const kept = { PATH, HOME, TMPDIR, LANG, TZ, NODE_COMPILE_CACHE }
  return {
    ...Object.fromEntries(Object.entries(kept).filter(([, value]) => value !== undefined)),
    NODE_ENV: env.NODE_ENV || 'development',
    // Nobody balances between one gateway, and the app ends after it.
    DRAIN_NOTICE_MS: '0',
    LOG_LEVEL: env.LOG_LEVEL || 'info',
    HOST: '127.0.0.1',
    // Databases and buckets of the demo are on this machine, which production refuses by default.
    TENANT_ADDRESS_ALLOW: '127.0.0.1',
  }
}

function gatewayEnv(
  base: NodeJS.ProcessEnv,
  keys: Keys,
  registryUrl: string,
  ports: BinaryPorts,
): NodeJS.ProcessEnv {
  return {
    ...base,
    TENANT_REGISTRY_DB_URL: registryUrl,
    MASTER_ENCRYPTION_KEY: keys.masterKey,
    JWT_SECRET_ACCESS_TOKEN: keys.jwtAccess,
    JWT_SECRET_REFRESH_TOKEN: keys.jwtRefresh,
    TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(keys.contextSigning),
    TENANT_CONTEXT_ENCRYPTION_KEY: keys.contextContent,
    ADMIN_API_KEY: keys.adminApiKey,
    APP_UPSTREAMS: `http://127.0.0.1:${ports.app}`,
  }
}

/** No Registry, no master key, no private signing key: the app works without them. */
function appEnv(base: NodeJS.ProcessEnv, keys: Keys): NodeJS.ProcessEnv {
  return {
    ...base,
    JWT_SECRET_ACCESS_TOKEN: keys.jwtAccess,
    JWT_SECRET_REFRESH_TOKEN: keys.jwtRefresh,
    TENANT_CONTEXT_PUBLIC_KEYS: publicKeys(keys),
    TENANT_CONTEXT_ENCRYPTION_KEY: keys.contextContent,
  }
}

function firstDeath(postgres: LocalPostgres, s3: LocalS3, binaries: Binaries): Promise<string> {
  return Promise.race([
    postgres.exited.then(text => `PostgreSQL ended:\n${text}`),
    s3.exited.then(text => `The S3 server ended:\n${text}`),
    binaries.died,
  ])
}
