import { type ChildProcess, spawn } from 'node:child_process'
import { createHmac, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { guard } from '../deploy/local/guard.ts'
import { type LocalPostgres, startTestPostgres } from '../deploy/local/postgres.ts'
import { childEnv, run } from '../deploy/local/run.ts'
import { type ContextVerifier, makeContextVerifier } from '../registry/context.ts'
import { Keyring } from '../registry/envelope.ts'
import { makeLog } from '../registry/lib/log.ts'
import { RegistryStore } from '../registry/store.ts'
import type { Tenant, TenantId, TenantKey } from '../registry/tenant.ts'
import { insertTenant, type NewTenant } from '../registry/tenant-write.ts'

/** What the tests of the gateway share: a real Registry, the real binary, and an upstream that looks. */
export interface World {
  readonly postgres: LocalPostgres
  readonly registryUrl: string
  readonly store: RegistryStore
  readonly keyring: Keyring
  readonly verifier: ContextVerifier
  readonly env: Readonly<Record<string, string>>
  readonly signingJwk: Readonly<Record<string, unknown>>
  createTenant(key: string, change?: Partial<NewTenant>): Promise<Tenant>
  token(tenant: Tenant, claims?: object): string
  close(): Promise<void>
}

const ROOT = join(import.meta.dirname, '..')
const START_MS = 20_000
/** For what it wrote before it ended. */
const OUTPUT_MS = 1000
const MIGRATE_MS = 60_000

export async function startWorld(): Promise<World> {
  const postgres = await startTestPostgres()
  const registryUrl = postgres.url('postgres')
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const kid = randomUUID()
  const signingJwk = { ...privateKey.export({ format: 'jwk' }), kid }
  const contentKey = randomBytes(32).toString('base64url')
  const masterKey = randomBytes(32).toString('hex')
  const env = {
    TENANT_REGISTRY_DB_URL: registryUrl,
    MASTER_ENCRYPTION_KEY: masterKey,
    JWT_SECRET_ACCESS_TOKEN: randomBytes(32).toString('hex'),
    JWT_SECRET_REFRESH_TOKEN: randomBytes(32).toString('hex'),
    TENANT_CONTEXT_SIGNING_KEY: JSON.stringify(signingJwk),
    TENANT_CONTEXT_ENCRYPTION_KEY: contentKey,
    PORT: '0',
    HOST: '127.0.0.1',
    ADMIN_PORT: '0',
    DRAIN_TIMEOUT_MS: '5000',
    // Upstreams here are mostly raw sockets that take each connection for a request of the test.
    HEALTH_PATH: 'off',
    DRAIN_NOTICE_MS: '0',
    // A busy machine is no reason to refuse what a test of something else asks; shed.test.ts sets its own.
    OVERLOAD_LOOP_DELAY_MS: '0',
  }
  const migrated = await run(process.execPath, ['migrations/registry-migrate.ts'], MIGRATE_MS, {
    cwd: ROOT,
    env: { ...childEnv(), ...env },
  })
  if (migrated.code !== 0) throw new Error(migrated.output)
  const keyring = await Keyring.derive([masterKey])
  const store = new RegistryStore({ url: registryUrl, log: makeLog('test', 'silent') })
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid }
  const verifier = await makeContextVerifier({ keys: [jwk as never] }, [contentKey])

  return {
    postgres,
    registryUrl,
    store,
    keyring,
    verifier,
    env,
    signingJwk,
    createTenant(key, change = {}) {
      const id = randomUUID() as TenantId
      const passwordEncrypted = keyring.encrypt(`password-of-${key}`, {
        owner: id,
        column: 'db_password_encrypted',
      })
      const db = {
        host: '127.0.0.1',
        port: postgres.port,
        name: `db_${key}`,
        user: `role_${key}`,
        passwordEncrypted,
        sslMode: null,
        poolMax: null,
      }
      const shared = {
        id,
        key: key as TenantKey,
        name: key,
        mode: 'shared',
        status: 'active',
      } as const
      return insertTenant(store, { ...shared, db, bucket: null, ...change })
    },
    token: (tenant, claims = {}) =>
      makeToken(env.JWT_SECRET_ACCESS_TOKEN, { ...claimsOf(tenant), type: 'access', ...claims }),
    async close() {
      await store.close()
      await postgres.stop('immediate')
    },
  }
}

export function claimsOf(tenant: { id: string }) {
  const nowS = Math.floor(Date.now() / 1000)
  return {
    id: 'u1',
    tenant_id: tenant.id,
    role_id: 1,
    jti: randomUUID(),
    iat: nowS,
    exp: nowS + 900,
  }
}

export function makeToken(
  secret: string,
  claims: object,
  header: object = { alg: 'HS256' },
): string {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${encode(header)}.${encode(claims)}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}

export interface RunningGateway {
  readonly url: string
  readonly port: number
  readonly internalUrl: string
  readonly child: ChildProcess
  /** Log lines so far. */
  readonly log: readonly Record<string, unknown>[]
  readonly exited: Promise<number | null>
  stop(signal?: NodeJS.Signals): Promise<number | null>
}

/** Spawns the real binary and waits until it listens, and is ready unless told otherwise. */
export async function startGateway(
  env: Readonly<Record<string, string>>,
  options: { isReadyAwaited?: boolean } = {},
): Promise<RunningGateway> {
  const child = spawn(process.execPath, ['gateway/main.ts'], {
    cwd: ROOT,
    env: { ...childEnv(), ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  // A test that is killed leaves no gateway behind.
  guard(child, { signals: ['TERM', 'KILL'] })
  const log: Record<string, unknown>[] = []
  const output = createInterface({ input: child.stdout })
  const isRead = once(output, 'close')
  const exited = once(child, 'exit').then(async ([code]) => {
    // Its last lines come through a pipe; workers whose primary was killed hold it a little longer.
    await Promise.race([isRead, delay(OUTPUT_MS, null, { ref: false })])
    return code as number | null
  })
  const listening = new Promise<Record<string, AddressInfo>>((resolve, reject) => {
    output.on('line', line => {
      const entry = JSON.parse(line) as Record<string, unknown>
      log.push(entry)
      if (entry.msg === 'listening') resolve(entry as unknown as Record<string, AddressInfo>)
    })
    exited.then(code => reject(new Error(`the gateway exited with ${code}`)))
    setTimeout(() => reject(new Error('the gateway does not listen')), START_MS).unref()
  })
  const { address, internal } = await listening
  const gateway: RunningGateway = {
    url: `http://127.0.0.1:${address?.port}`,
    port: address?.port ?? 0,
    internalUrl: `http://127.0.0.1:${internal?.port}`,
    child,
    log,
    exited,
    stop(signal = 'SIGTERM') {
      child.kill(signal)
      return exited
    },
  }
  if (options.isReadyAwaited !== false) {
    await until(async () => (await fetch(`${gateway.internalUrl}/readyz`)).status === 200)
  }
  return gateway
}

export interface Upstream {
  readonly server: Server
  readonly origin: string
  /** Requests that reached it. */
  readonly requests: IncomingMessage[]
  respond: (req: IncomingMessage, res: ServerResponse) => void
  /** What the active checks are told. */
  isReady: boolean
  close(): void
}

/** An app replica that keeps what it got and answers as the test says. */
export async function startUpstream(): Promise<Upstream> {
  const requests: IncomingMessage[] = []
  const server = createServer((req, res) => {
    // The gateway's active checks are no requests of a tenant.
    if (req.url === '/readyz') return void res.writeHead(upstream.isReady ? 200 : 503).end()
    requests.push(req)
    upstream.respond(req, res)
  })
  server.keepAliveTimeout = 65_000
  const upstream: Upstream = {
    server,
    origin: '',
    requests,
    isReady: true,
    respond: (req, res) => {
      req.resume().on('end', () => res.setHeader('content-type', 'application/json').end('{}'))
    },
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return Object.assign(upstream, { origin: `http://127.0.0.1:${port}` })
}

/** Sends bytes as they are and reads until the peer closes, or until `isDone` says so. */
export function rawExchange(
  port: number,
  bytes: string | Buffer,
  isDone: (answer: string) => boolean = () => false,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    let answer = ''
    const timer = setTimeout(() => {
      socket.destroy()
      reject(new Error(`no end of the answer: ${answer}`))
    }, 10_000)
    const finish = () => {
      clearTimeout(timer)
      socket.destroy()
      resolve(answer)
    }
    socket.on('error', () => {})
    socket.on('data', chunk => {
      answer += chunk.toString('latin1')
      if (isDone(answer)) finish()
    })
    socket.on('close', finish)
    socket.write(bytes)
  })
}

/** Polls until `condition` holds. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  deadlineMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + deadlineMs
  for (;;) {
    if (
      await Promise.resolve()
        .then(condition)
        .catch(() => false)
    )
      return
    if (performance.now() > deadline) throw new Error(`not true within ${deadlineMs} ms`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}
