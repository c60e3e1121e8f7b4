import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { S3Client } from '@aws-sdk/client-s3'
import pg from 'pg'
import { createDatabases } from '../local/databases.ts'
import {
  DEMO_PASSWORD,
  type DemoTenant,
  demoGrants,
  demoTenants,
  SHARED_BUCKET,
} from '../local/demo-tenants.ts'
import { derivePassword, type Keys, keepKeys, publicKeys } from '../local/keys.ts'
import { type LocalPostgres, startPostgres, startTestPostgres } from '../local/postgres.ts'
import { removeDataDir } from '../local/postgres-host.ts'
import { type RunningProcess, startProcess } from '../local/processes.ts'
import { childEnv, type Finished, run } from '../local/run.ts'
import { type LocalS3, startS3 } from '../local/s3.ts'
import { seed } from '../local/seed.ts'
import { type Answer, CALLS, type Called, call } from './call.ts'
import { harvest, plantContexts, plantInput, plantKeys } from './harvest.ts'
import { LeakWatch } from './leak-watch.ts'
import { type Recorder, startRecorder } from './recorder.ts'

/** A tenant with its database, bucket and one user. */
export interface WorldTenant extends DemoTenant {
  readonly id: string
}

export interface Session {
  readonly id: string
  readonly accessToken: string
  readonly refreshToken: string
}

/** One of our binaries, running. */
export interface Binary extends RunningProcess {
  /** Of the public listener. */
  readonly origin: string
  readonly port: number
  readonly adminOrigin: string
  /** Its log so far. */
  readonly lines: readonly string[]
}

/** The whole system: real PostgreSQL, real S3, the real binaries. */
export interface World {
  readonly tenants: readonly WorldTenant[]
  readonly acme: WorldTenant
  readonly globex: WorldTenant
  readonly keys: Keys
  readonly gateway: Binary
  readonly apps: readonly Binary[]
  /** In front of the first app where `isRecorded`. */
  readonly recorder: Recorder | null
  /** A client that may read every bucket. */
  readonly s3: S3Client
  readonly s3Endpoint: string
  readonly postgres: LocalPostgres
  readonly registryUrl: string
  stopRegistry(): Promise<void>
  startRegistry(): Promise<void>
  /** Through the gateway. */
  call: (path: string, options?: Parameters<typeof call>[2]) => Promise<Answer>
  login(tenant: WorldTenant, password?: string): Promise<Session>
  /** As the superuser, in a tenant's database or the server's own (`postgres`). */
  sql(database: string, text: string, values?: readonly unknown[]): Promise<Row[]>
  registrySql(text: string, values?: readonly unknown[]): Promise<Row[]>
  cli(args: readonly string[], input?: string): Promise<Finished>
  migrateTenants(): Promise<Finished>
  /** @param root of another version's checkout; default: this one */
  startGateway(env?: NodeJS.ProcessEnv, root?: string): Promise<Binary>
  startApp(env?: NodeJS.ProcessEnv, root?: string): Promise<Binary>
  /** All secrets of this world, and all that its processes wrote and answered. */
  readonly leaks: LeakWatch
  /**
   * Ends all processes, then searches what they wrote and answered for every secret.
   *
   * @throws Error that names the leaks
   */
  close(): Promise<void>
}

type Row = Readonly<Record<string, unknown>>

export interface WorldOptions {
  readonly tenants?: number
  /** App replicas, 2 by default; 0: no gateway either. */
  readonly apps?: number
  readonly isRecorded?: boolean
  /** The Registry on a server of its own, so that it can be stopped alone. */
  readonly isRegistryApart?: boolean
  /** Of the tenants' server, as in postgresql.conf. */
  readonly postgresSettings?: Readonly<Record<string, string>>
  readonly gatewayEnv?: NodeJS.ProcessEnv
  readonly appEnv?: NodeJS.ProcessEnv
  /** Fills the empty Registry before this release's migrations see it. */
  readonly prepareRegistry?: (setup: RegistrySetup) => Promise<void>
}

export interface RegistrySetup {
  readonly tenants: readonly DemoTenant[]
  readonly keys: Keys
  readonly postgresPort: number
  readonly s3Endpoint: string
  query(text: string, values?: readonly unknown[]): Promise<Row[]>
}

const ROOT = join(import.meta.dirname, '../..')
const COMMAND_MS = 60_000
const LISTEN_MS = 20_000
const STOP_MS = 8_000

export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const stops: (() => Promise<unknown> | void)[] = []
  const leaks = new LeakWatch()
  const onCall = (called: unknown) => harvest(leaks, called as Called)
  subscribe(CALLS, onCall)
  stops.push(() => {
    unsubscribe(CALLS, onCall)
  })
  const stopAll = async () => {
    for (const stop of stops.splice(0).reverse()) await stop()
  }
  const close = async () => {
    if (stops.length === 0) return
    await stopAll()
    const found = leaks.findLeaks()
    if (found.length > 0) throw new Error(`secrets leaked: ${JSON.stringify(found, null, 2)}`)
  }
  try {
    return await build(options, stops, close, leaks)
  } catch (error) {
    await stopAll()
    throw error
  }
}

async function build(
  options: WorldOptions,
  stops: (() => Promise<unknown> | void)[],
  close: () => Promise<void>,
  leaks: LeakWatch,
): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), 'doorman-e2e-'))
  stops.push(() => rm(folder, { recursive: true, force: true }))
  const keys = await keepKeys(join(folder, 'keys.json'))
  const demo = demoTenants(options.tenants ?? 2, keys)
  plantKeys(leaks, keys, demo)
  // All levels: what is written at the lowest must hold no secret either.
  const LOG_LEVEL = 'trace'
  const base = {
    PATH: process.env.PATH,
    HOST: '127.0.0.1',
    PORT: '0',
    ADMIN_PORT: '0',
    LOG_LEVEL,
    DRAIN_NOTICE_MS: '100',
  }
  const secrets = {
    JWT_SECRET_ACCESS_TOKEN: keys.jwtAccess,
    JWT_SECRET_REFRESH_TOKEN: keys.jwtRefresh,
  }

  const launch = async (name: string, script: string, env: NodeJS.ProcessEnv) => {
    const lines: string[] = []
    stops.push(() => leaks.note(`log of ${name}`, lines.join('\n')))
    const binary = await startBinary(name, script, env, lines)
    stops.push(async () => {
      await noteInternal(leaks, name, binary)
      await binary.stop(STOP_MS)
    })
    return binary
  }
  const startApp = (env: NodeJS.ProcessEnv = {}, root = ROOT) =>
    launch('app', join(root, 'app/main.ts'), {
      ...base,
      ...secrets,
      TENANT_CONTEXT_PUBLIC_KEYS: publicKeys(keys),
      TENANT_CONTEXT_ENCRYPTION_KEY: keys.contextContent,
      ...options.appEnv,
      ...env,
    })

  const stores = await startStores(folder, options, demo, stops)
  const { postgres, s3, registry } = stores
  const databases = demo.map(({ database, password }) => ({ name: database, password }))
  const [apps] = await Promise.all([
    Promise.all(Array.from({ length: options.apps ?? 2 }, () => startApp())),
    createDatabases(postgres, databases),
  ])
  const registryUrl = await makeRegistry(registry.server(), keys)
  const registrySql = (text: string, values?: readonly unknown[]) =>
    query(registry.server().url('registry'), text, values)
  const commandEnv = {
    ...childEnv(),
    TENANT_REGISTRY_DB_URL: registryUrl,
    MASTER_ENCRYPTION_KEY: keys.masterKey,
  }
  const places = { postgresPort: postgres.port, s3Endpoint: s3.endpoint }
  await options.prepareRegistry?.({ ...places, tenants: demo, keys, query: registrySql })
  await seed({
    ...places,
    root: ROOT,
    env: commandEnv,
    tenants: demo,
    done: [],
    signal: new AbortController().signal,
    onStep: () => {},
  })

  const recorder = options.isRecorded ? await startRecorder(apps[0]?.port ?? 0) : null
  if (recorder !== null) {
    stops.push(async () => {
      recorder.close()
      await plantContexts(leaks, recorder, keys)
    })
  }
  const origins = apps.map(({ origin }, i) => (i === 0 && recorder ? recorder.origin : origin))
  const startGateway = async (env: NodeJS.ProcessEnv = {}, root = ROOT) => {
    const gateway = await launch('gateway', join(root, 'gateway/main.ts'), {
      ...base,
      ...secrets,
      TENANT_REGISTRY_DB_URL: registryUrl,
      MASTER_ENCRYPTION_KEY: keys.masterKey,
      TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(keys.contextSigning),
      TENANT_CONTEXT_ENCRYPTION_KEY: keys.contextContent,
      APP_UPSTREAMS: origins.join(','),
      // A busy machine is no reason to refuse what a test of something else asks.
      OVERLOAD_LOOP_DELAY_MS: '0',
      ...options.gatewayEnv,
      ...env,
    })
    await untilReady(gateway)
    return gateway
  }
  const gateway = apps.length > 0 ? await startGateway() : null
  const client = new S3Client({
    endpoint: s3.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: s3.accessKey, secretAccessKey: s3.secretKey },
  })
  stops.push(() => client.destroy())

  const ids = await registrySql('SELECT id, tenant_key FROM tenants')
  const tenants = demo.map(tenant => ({
    ...tenant,
    id: String(ids.find(row => row.tenant_key === tenant.key)?.id),
  }))
  const world: World = {
    tenants,
    acme: tenants[0] as WorldTenant,
    globex: tenants[1] as WorldTenant,
    keys,
    gateway: gateway as Binary,
    apps,
    recorder,
    s3: client,
    s3Endpoint: s3.endpoint,
    postgres,
    registryUrl,
    stopRegistry: registry.stop,
    startRegistry: registry.start,
    call: (path, given) => call(world.gateway.origin, path, given),
    async login({ key, email }, password = DEMO_PASSWORD) {
      const json = { tenant_key: key, email, password }
      const answer = await world.call('/api/auth/login', { method: 'POST', json })
      if (answer.status !== 200) throw new Error(`login at ${key}: ${answer.status} ${answer.text}`)
      return answer.result as unknown as Session
    },
    sql: (database, text, values) => query(postgres.url(database), text, values),
    registrySql,
    async cli(args, input = '') {
      plantInput(leaks, input)
      const finished = await command(['registry/cli/main.ts', ...args], commandEnv, input)
      leaks.note(`output of tenant ${args[0]}`, finished.output)
      return finished
    },
    async migrateTenants() {
      const finished = await command(['migrations/tenant-migrate.ts'], commandEnv)
      leaks.note('output of db:tenant-migrate', finished.output)
      return finished
    },
    leaks,
    startGateway,
    startApp,
    close,
  }
  return world
}

interface Registry {
  server(): LocalPostgres
  stop(): Promise<void>
  start(): Promise<void>
}

async function startStores(
  folder: string,
  { isRegistryApart = false, postgresSettings }: WorldOptions,
  demo: readonly DemoTenant[],
  stops: (() => Promise<unknown> | void)[],
): Promise<{ postgres: LocalPostgres; s3: LocalS3; registry: Registry }> {
  const keep = <T extends { stop(): Promise<void> }>(part: T): T => {
    stops.push(() => part.stop())
    return part
  }
  const buckets = [...new Set([SHARED_BUCKET, ...demo.map(({ bucket }) => bucket)])]
  const dataDir = join(folder, 'registry')
  const startApart = (port: number) => startPostgres({ dataDir, port, isDurable: false })
  // For root they lie outside of `folder`, which is nobody's but ours.
  if (isRegistryApart) stops.push(() => removeDataDir(dataDir))
  const [postgres, s3, apart] = await Promise.all([
    startTestPostgres(postgresSettings).then(keep),
    startS3({ dataDir: join(folder, 's3'), buckets, grants: demoGrants(demo) }).then(keep),
    isRegistryApart ? startApart(0) : null,
  ])
  let server = apart ?? postgres
  if (apart !== null) stops.push(() => server.stop('immediate'))
  const { port } = server
  return {
    postgres,
    s3,
    registry: {
      server: () => server,
      stop: () => server.stop('immediate'),
      async start() {
        server = await startApart(port)
      },
    },
  }
}

async function makeRegistry(server: LocalPostgres, keys: Keys): Promise<string> {
  const password = derivePassword(keys, 'registry')
  await createDatabases(server, [{ name: 'registry', password }])
  return server.url('registry', 'registry', password)
}

async function startBinary(
  name: string,
  script: string,
  env: NodeJS.ProcessEnv,
  lines: string[],
): Promise<Binary> {
  let hear: (line: string) => void = () => {}
  const listening = new Promise<{ port: number; adminPort: number }>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${name} does not listen`)), LISTEN_MS)
    hear = line => {
      lines.push(line)
      if (!line.includes('"listening"')) return
      clearTimeout(timer)
      const entry = JSON.parse(line)
      resolve({
        port: entry.port ?? entry.address.port,
        adminPort: entry.admin_port ?? entry.internal.port,
      })
    }
  })
  const running = startProcess({
    name,
    script,
    env,
    onLine: line => hear(line),
  })
  const ended = running.exited.then(text => Promise.reject(new Error(text)))
  ended.catch(() => {})
  try {
    const { port, adminPort } = await Promise.race([listening, ended])
    const origin = `http://127.0.0.1:${port}`
    return { ...running, origin, port, adminOrigin: `http://127.0.0.1:${adminPort}`, lines }
  } catch (error) {
    await running.stop(0)
    throw error
  }
}

/** Metrics and health as they are at the end; a process that a test ended has none. */
async function noteInternal(
  leaks: LeakWatch,
  name: string,
  { adminOrigin }: Binary,
): Promise<void> {
  for (const path of ['/metrics', '/readyz', '/livez']) {
    const answer = await call(adminOrigin, path, { timeoutMs: 2000 }).catch(() => null)
    if (answer === null) return
    leaks.note(`${path} of ${name}`, `${answer.rawHeaders.join('\n')}\n${answer.text}`)
  }
}

async function untilReady({ adminOrigin, exited }: Binary): Promise<void> {
  const deadline = Date.now() + LISTEN_MS
  while (Date.now() < deadline) {
    const answer = await call(adminOrigin, '/readyz').catch(() => null)
    if (answer?.status === 200) return
    await Promise.race([exited, new Promise(resolve => setTimeout(resolve, 20))])
  }
  throw new Error('the gateway is not ready')
}

async function query(url: string, text: string, values: readonly unknown[] = []): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(text, [...values])).rows as Row[]
  } finally {
    await client.end().catch(() => {})
  }
}

function command(args: readonly string[], env: NodeJS.ProcessEnv, input = ''): Promise<Finished> {
  return run(process.execPath, args, COMMAND_MS, {
    cwd: ROOT,
    env: { ...childEnv(), ...env },
    input,
  })
}
