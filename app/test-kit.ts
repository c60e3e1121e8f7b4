import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { type IncomingHttpHeaders, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { JWK } from 'jose'
import pg from 'pg'
import type { BucketConnection, DbConnection } from '../registry/connection.ts'
import {
  CONTEXT_HEADER,
  type ContextClaims,
  type ContextMinter,
  encodePrincipal,
  makeContextMinter,
  NO_PRINCIPAL,
  type Principal,
  REQUEST_HEADER,
  signRequest,
} from '../registry/context.ts'
import { HmacSha256 } from '../registry/lib/hmac.ts'
import { makeLog } from '../registry/lib/log.ts'
import { hashPassword } from '../registry/lib/password.ts'
import type { Tenant, TenantId, TenantKey } from '../registry/tenant.ts'
import { readAppConfig } from './config.ts'
import { type AppServer, makeAppServer } from './server.ts'

/** What the tests need of a PostgreSQL server. */
export interface TestServer {
  readonly host: string
  readonly port: number
  url(database: string, user?: string, password?: string): string
}

export const PASSWORD = 'a fine password'

/** A tenant with a database, a role and a user of its own, as the gateway knows it. */
export interface TestTenant {
  readonly id: TenantId
  readonly key: TenantKey
  version: number
  db: DbConnection
  bucket: BucketConnection | null
  readonly user: Principal & { readonly sub: string; readonly email: string }
}

export interface TestKeys {
  readonly signing: JWK
  readonly contentKey: string
  /** Environment of an app that trusts them. */
  readonly env: Record<string, string>
}

export function makeKeys(): TestKeys {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const contentKey = randomBytes(32).toString('base64url')
  return {
    signing: privateKey.export({ format: 'jwk' }) as JWK,
    contentKey,
    env: {
      TENANT_CONTEXT_PUBLIC_KEYS: JSON.stringify({ keys: [publicKey.export({ format: 'jwk' })] }),
      TENANT_CONTEXT_ENCRYPTION_KEY: contentKey,
      JWT_SECRET_ACCESS_TOKEN: randomBytes(32).toString('hex'),
      JWT_SECRET_REFRESH_TOKEN: randomBytes(32).toString('hex'),
    },
  }
}

/** Runs SQL as the superuser. */
export async function sql(
  server: TestServer,
  database: string,
  text: string,
  values: unknown[] = [],
) {
  const client = new pg.Client({ connectionString: server.url(database) })
  client.on('error', () => {})
  await client.connect()
  try {
    return (await client.query(text, values)).rows
  } finally {
    await client.end()
  }
}

export async function makeTenant(server: TestServer, key: string): Promise<TestTenant> {
  const name = `t_${key}_${randomBytes(4).toString('hex')}`
  const password = randomBytes(12).toString('hex')
  await sql(server, 'postgres', `CREATE ROLE ${name} LOGIN PASSWORD '${password}'`)
  await sql(server, 'postgres', `CREATE DATABASE ${name} OWNER ${name}`)
  const base = await readFile(
    new URL('../migrations/tenant/0001_base.sql', import.meta.url),
    'utf8',
  )
  await sql(server, name, `SET ROLE ${name}; ${base}`)
  const email = `admin@${key}.example`
  const [row] = await sql(
    server,
    name,
    `INSERT INTO users (email, name, role_id, password_hash) VALUES ($1, 'Admin', 1, $2)
     RETURNING id`,
    [email, await hashPassword(PASSWORD)],
  )
  const { host, port } = server
  return {
    id: randomUUID() as TenantId,
    key: key as TenantKey,
    version: 1,
    db: { host, port, name, user: name, password, ssl: null, pool_max: null },
    bucket: null,
    user: { sub: row.id, email, role_id: 1, jti: randomUUID() },
  }
}

export interface TestAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into it freely
  readonly json: any
}

export interface CallOptions {
  /** Absent: the tenant's user; null: a route without a user. */
  readonly principal?: Principal | null
  readonly body?: unknown
  readonly headers?: readonly string[]
  /** Sent instead of the headers that the gateway would make. */
  readonly context?: readonly string[]
}

/** The gateway's half of the contract, with nothing in between. */
export class TestGateway {
  readonly keys: TestKeys
  readonly #minter: Promise<ContextMinter>

  constructor(keys: TestKeys) {
    this.keys = keys
    this.#minter = makeContextMinter(keys.signing, [keys.contentKey])
  }

  async mint(tenant: TestTenant, nowMs = Date.now()) {
    return (await this.#minter).mint(
      { id: tenant.id, key: tenant.key, mode: 'shared', configVersion: tenant.version } as Tenant,
      { db: tenant.db, bucket: tenant.bucket },
      nowMs,
    )
  }

  /** Name, value, … of both headers for one request. */
  async sign(
    tenant: TestTenant,
    method: string,
    target: string,
    principal: Principal | null = tenant.user,
    nowMs = Date.now(),
  ): Promise<string[]> {
    const { token, mac } = await this.mint(tenant, nowMs)
    const who = principal === null ? NO_PRINCIPAL : encodePrincipal(principal)
    const header = signRequest(mac, method, target, who, randomUUID(), nowMs)
    return [CONTEXT_HEADER, token, REQUEST_HEADER, header]
  }

  async call(
    port: number,
    tenant: TestTenant,
    method: string,
    target: string,
    options: CallOptions = {},
  ): Promise<TestAnswer> {
    const context = options.context ?? (await this.sign(tenant, method, target, options.principal))
    const isRaw = options.body instanceof Buffer
    const body = options.body === undefined || isRaw ? options.body : JSON.stringify(options.body)
    const headers = [
      ...context,
      ...(body === undefined || isRaw ? [] : ['content-type', 'application/json']),
      ...(options.headers ?? []),
    ]
    return send(port, method, target, headers, body as Buffer | string | undefined)
  }
}

export function send(
  port: number,
  method: string,
  target: string,
  headers: readonly string[],
  body?: Buffer | string,
): Promise<TestAnswer> {
  return new Promise((resolve, reject) => {
    const length = body === undefined ? [] : ['content-length', String(Buffer.byteLength(body))]
    const outgoing = request({
      host: '127.0.0.1',
      port,
      method,
      path: target,
      headers: ['host', 'app', ...headers, ...length],
      agent: false,
    })
    outgoing.on('error', reject)
    outgoing.on('response', response => {
      const chunks: Buffer[] = []
      response.on('error', reject)
      response.on('data', chunk => chunks.push(chunk))
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        const isJson = response.headers['content-type']?.includes('json') === true
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: isJson && text !== '' ? JSON.parse(text) : null,
        })
      })
    })
    outgoing.end(body)
  })
}

export interface TestApp extends AppServer {
  readonly port: number
  /** Every line that was logged. */
  readonly lines: string[]
  stop(): Promise<void>
}

/** The real app on a free port, within this process. */
export async function startApp(keys: TestKeys, env: Record<string, string> = {}): Promise<TestApp> {
  const lines: string[] = []
  const log = makeLog('app', 'info', { write: (line: string) => lines.push(line) })
  const server = await makeAppServer(readAppConfig({ ...keys.env, ...env }), log)
  await server.app.listen({ port: 0, host: '127.0.0.1' })
  return {
    ...server,
    port: (server.app.server.address() as AddressInfo).port,
    lines,
    async stop() {
      server.drain.start()
      await server.drain.closeStreams(1000)
      await server.app.close()
    },
  }
}

/** Resolves once `isTrue` holds; polls, for there is no event to wait for. */
export async function until(
  what: string,
  isTrue: () => boolean | Promise<boolean>,
  ms = 5000,
): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await isTrue())) {
    if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

/** Sessions that the app holds on a tenant's database. */
export async function sessionsOf(server: TestServer, tenant: TestTenant): Promise<number> {
  const [row] = await sql(
    server,
    'postgres',
    'SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = $1',
    [tenant.db.name],
  )
  return row.n
}

/** Claims of the tenant's context, as the gate hands them on. */
export function claimsOf(tenant: TestTenant): ContextClaims {
  return {
    tid: tenant.id,
    key: tenant.key,
    mode: 'shared',
    ver: tenant.version,
    mac: new HmacSha256(Buffer.alloc(32)),
    exp: 0,
    db: tenant.db,
    bucket: tenant.bucket,
  }
}

/** The value of a series as `/metrics` shows it; 0 where it is not there yet. */
export async function metricOf(app: TestApp, series: string): Promise<number> {
  const lines = (await app.metrics.registry.metrics()).split('\n')
  const line = lines.find(text => text.startsWith(`${series} `))
  return Number(line?.slice(series.length + 1) ?? 0)
}
