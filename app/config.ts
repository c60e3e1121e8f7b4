import { hostname } from 'node:os'
import type { JSONWebKeySet } from 'jose'
import { z } from 'zod'
import type { BucketConnection } from '../registry/connection.ts'
import { makeAddressPolicy } from '../registry/lib/address.ts'
import { readPem } from '../registry/lib/ca.ts'
import { commonEnv, EnvError, int, list, parsed, port, readEnv, url } from '../registry/lib/env.ts'
import { Secret } from '../registry/lib/secret.ts'
import { otelEnv, type TraceOptions, traceOptions } from '../registry/lib/trace/otel-env.ts'
import type { TokenOptions } from './api/tokens.ts'
import { KIT_DEFAULTS, type KitOptions } from './kit/open-kit.ts'

/** RFC 7518 section 3.2: a key of HS256 is as long as its hash. */
const SECRET_BYTES_MIN = 32
const GIB = 1024 ** 3
const UNIT_S = { s: 1, m: 60, h: 3600, d: 86_400 } as const

/** Everything that the app reads from its environment, once, at start. */
export interface AppConfig {
  readonly isProduction: boolean
  readonly logLevel: string
  readonly host: string
  readonly port: number
  readonly adminHost: string
  readonly adminPort: number
  readonly replica: string
  readonly kit: Omit<KitOptions, 'log'>
  readonly tokens: TokenOptions
  readonly fileBytesMax: number
  readonly streamsMax: number
  readonly streamsPerTenantMax: number
  /** null: no traces are exported. */
  readonly traces: TraceOptions | null
  readonly drainNoticeMs: number
  readonly drainMs: number
  /** What is allowed outside production only, or looks like a mistake; for the log. */
  readonly warnings: readonly string[]
}

/** "15m" in seconds. */
const duration = (standard: string) =>
  z
    .string()
    .regex(/^[1-9]\d{0,6}[smhd]$/, 'must be a duration such as 15m, 12h or 7d')
    .default(standard)
    .transform(text => Number(text.slice(0, -1)) * UNIT_S[text.slice(-1) as keyof typeof UNIT_S])

const jwks = z.string().transform((text, context): JSONWebKeySet => {
  const parsed = jwksSchema.safeParse(parseJson(text))
  if (parsed.success) return parsed.data as unknown as JSONWebKeySet
  context.addIssue({
    code: 'custom',
    message: 'must be a JWKS of public Ed25519 keys: {"keys":[{"kty":"OKP","crv":"Ed25519",…}]}',
  })
  return z.NEVER
})

const jwksSchema = z.object({
  keys: z
    .array(
      z.looseObject({
        kty: z.literal('OKP'),
        crv: z.literal('Ed25519'),
        x: z.string().regex(/^[\w-]{43}$/),
        // A private key has no business here: who holds it can mint contexts.
        d: z.undefined().optional(),
      }),
    )
    .min(1),
})

const contentKeys = z
  .string()
  .transform(text => text.split(',').map(key => key.trim()))
  .refine(
    keys => keys.every(key => Buffer.from(key, 'base64url').length === 32),
    'must be 32 bytes in base64url, or a comma-separated list of such',
  )

const secret = z.string().min(1)

const shape = {
  ...commonEnv,
  ...otelEnv,
  HOST: z.string().optional(),
  PORT: port(3000),
  ADMIN_HOST: z.string().optional(),
  ADMIN_PORT: port(3001),
  REPLICA_ID: z
    .string()
    .regex(/^[\w.:-]{1,64}$/, 'must be 1 to 64 of A-Z, a-z, 0-9, _ . : -')
    .optional(),
  TENANT_CONTEXT_PUBLIC_KEYS: jwks,
  TENANT_CONTEXT_ENCRYPTION_KEY: contentKeys,
  JWT_SECRET_ACCESS_TOKEN: secret,
  JWT_SECRET_REFRESH_TOKEN: secret,
  JWT_SECRET_REFRESH_TOKEN_PREVIOUS: list(),
  JWT_ACCESS_TOKEN_EXPIRY: duration('15m'),
  JWT_REFRESH_TOKEN_EXPIRY: duration('7d'),
  DB_POOL_MAX: int(1, 1000, KIT_DEFAULTS.pools.connectionsMax),
  DB_POOL_MIN: int(0, 100, KIT_DEFAULTS.pools.connectionsMin),
  DB_GLOBAL_POOL_MAX: int(1, 100_000, KIT_DEFAULTS.pools.connectionsTotalMax),
  DB_HOST_POOL_MAX: int(1, 100_000, KIT_DEFAULTS.pools.connectionsPerServerMax),
  DB_POOLS_MAX: int(1, 100_000, KIT_DEFAULTS.pools.poolsMax),
  DB_CONNECT_TIMEOUT_MS: int(10, 60_000, KIT_DEFAULTS.pools.connectMs),
  DB_CHECKOUT_TIMEOUT_MS: int(10, 60_000, KIT_DEFAULTS.pools.checkoutMs),
  DB_CHECKOUT_WAITERS_MAX: int(1, 100_000, KIT_DEFAULTS.pools.waitersMax),
  DB_CONNECTION_IDLE_MS: int(100, 3_600_000, KIT_DEFAULTS.pools.connectionIdleMs),
  DB_POOL_IDLE_MS: int(100, 3_600_000, KIT_DEFAULTS.pools.poolIdleMs),
  DB_STATEMENT_TIMEOUT_MS: int(100, 3_600_000, KIT_DEFAULTS.pools.statementTimeoutMs),
  DB_IDLE_IN_TRANSACTION_TIMEOUT_MS: int(100, 3_600_000, KIT_DEFAULTS.pools.idleInTransactionMs),
  BREAKER_FAILURES: int(1, 1000, KIT_DEFAULTS.pools.breaker.failuresMax),
  BREAKER_BACKOFF_MS: int(10, 600_000, KIT_DEFAULTS.pools.breaker.backoffMs),
  BREAKER_BACKOFF_MAX_MS: int(10, 600_000, KIT_DEFAULTS.pools.breaker.backoffMaxMs),
  DB_SSL_CA: parsed(z.string(), readPem).optional(),
  TENANT_ADDRESS_ALLOW: parsed(list(), makeAddressPolicy),
  BUCKET_PROVIDER: z.string().optional(),
  BUCKET_ENDPOINT: url('http:', 'https:').optional(),
  BUCKET_REGION: z.string().optional(),
  BUCKET_NAME: z.string().optional(),
  BUCKET_ACCESS_KEY: z.string().optional(),
  BUCKET_SECRET_KEY: z.string().optional(),
  BUCKET_CLIENTS_MAX: int(1, 10_000, KIT_DEFAULTS.buckets.clientsMax),
  BUCKET_CONNECT_TIMEOUT_MS: int(10, 60_000, KIT_DEFAULTS.buckets.connectMs),
  BUCKET_IDLE_TIMEOUT_MS: int(100, 600_000, KIT_DEFAULTS.buckets.idleMs),
  CONTEXTS_MAX: int(1, 1_000_000, KIT_DEFAULTS.contextsMax),
  REPLAY_IDS_MAX: int(1000, 10_000_000, KIT_DEFAULTS.replayIdsMax),
  FILE_BYTES_MAX: int(1, 5 * GIB, 5 * GIB),
  STREAMS_MAX: int(1, 1_000_000, 10_000),
  STREAMS_PER_TENANT_MAX: int(1, 1_000_000, 1000),
  DRAIN_NOTICE_MS: int(0, 120_000, 2500),
  DRAIN_TIMEOUT_MS: int(100, 600_000, 30_000),
  MASTER_ENCRYPTION_KEY: z.string().optional(),
} as const

type Env = z.infer<z.ZodObject<typeof shape>>

/** @throws EnvError with all problems at once */
export function readAppConfig(from: NodeJS.ProcessEnv): AppConfig {
  const env = readEnv(shape, withoutMasterKey(from))
  const isProduction = env.NODE_ENV === 'production'
  const weaknesses = secretWeaknesses(env)
  const problems = [...(isProduction ? weaknesses : []), ...contradictions(env)]
  if (problems.length > 0) throw new EnvError(problems)

  const breaker = {
    failuresMax: env.BREAKER_FAILURES,
    backoffMs: env.BREAKER_BACKOFF_MS,
    backoffMaxMs: env.BREAKER_BACKOFF_MAX_MS,
  }
  const machine = hostname()
    .replace(/[^\w.-]/g, '-')
    .slice(0, 48)
  const replica = env.REPLICA_ID ?? `${machine}:${process.pid}`
  const host = env.HOST ?? (isProduction ? '0.0.0.0' : '127.0.0.1')
  return {
    isProduction,
    logLevel: env.LOG_LEVEL,
    host,
    port: env.PORT,
    adminHost: env.ADMIN_HOST ?? host,
    adminPort: env.ADMIN_PORT,
    replica,
    tokens: {
      accessSecret: new Secret(env.JWT_SECRET_ACCESS_TOKEN),
      refreshSecret: new Secret(env.JWT_SECRET_REFRESH_TOKEN),
      refreshSecretsPrevious: env.JWT_SECRET_REFRESH_TOKEN_PREVIOUS.map(text => new Secret(text)),
      accessLifeS: env.JWT_ACCESS_TOKEN_EXPIRY,
      refreshLifeS: env.JWT_REFRESH_TOKEN_EXPIRY,
    },
    kit: {
      publicKeys: env.TENANT_CONTEXT_PUBLIC_KEYS,
      contentKeys: env.TENANT_CONTEXT_ENCRYPTION_KEY,
      addressPolicy: isProduction ? env.TENANT_ADDRESS_ALLOW : null,
      contextsMax: env.CONTEXTS_MAX,
      replayIdsMax: env.REPLAY_IDS_MAX,
      pools: {
        connectionsMax: env.DB_POOL_MAX,
        connectionsMin: env.DB_POOL_MIN,
        connectionsTotalMax: env.DB_GLOBAL_POOL_MAX,
        connectionsPerServerMax: env.DB_HOST_POOL_MAX,
        connectMs: env.DB_CONNECT_TIMEOUT_MS,
        checkoutMs: env.DB_CHECKOUT_TIMEOUT_MS,
        waitersMax: env.DB_CHECKOUT_WAITERS_MAX,
        connectionIdleMs: env.DB_CONNECTION_IDLE_MS,
        poolIdleMs: env.DB_POOL_IDLE_MS,
        poolsMax: env.DB_POOLS_MAX,
        statementTimeoutMs: env.DB_STATEMENT_TIMEOUT_MS,
        idleInTransactionMs: env.DB_IDLE_IN_TRANSACTION_TIMEOUT_MS,
        breaker,
        sslCa: env.DB_SSL_CA ?? null,
      },
      buckets: {
        defaultBucket: defaultBucket(env),
        clientsMax: env.BUCKET_CLIENTS_MAX,
        clientIdleMs: env.DB_POOL_IDLE_MS,
        connectMs: env.BUCKET_CONNECT_TIMEOUT_MS,
        idleMs: env.BUCKET_IDLE_TIMEOUT_MS,
        breaker: { ...KIT_DEFAULTS.buckets.breaker, ...breaker },
      },
    },
    fileBytesMax: env.FILE_BYTES_MAX,
    streamsMax: env.STREAMS_MAX,
    streamsPerTenantMax: env.STREAMS_PER_TENANT_MAX,
    traces: traceOptions(env, {
      'service.name': 'doorman-app',
      'service.instance.id': replica,
    }),
    drainNoticeMs: env.DRAIN_NOTICE_MS,
    drainMs: env.DRAIN_TIMEOUT_MS,
    warnings: [
      ...(isProduction ? [] : weaknesses),
      ...(isProduction ? [] : ['NODE_ENV is not production: tenant addresses are not checked']),
      ...masterKeyNames(from).map(
        name => `${name} is set: the app must not have it, take it out of its environment`,
      ),
    ],
  }
}

/** Neither the key nor the way to it has a business here: no file is read and no command is run. */
function masterKeyNames(from: NodeJS.ProcessEnv): string[] {
  const names = Object.keys(from).filter(name => /^MASTER_ENCRYPTION_KEY(_[A-Z]+)*$/.test(name))
  return names.filter(name => (from[name] ?? '') !== '').sort()
}

function withoutMasterKey(from: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const env = { ...from }
  for (const name of masterKeyNames(from)) delete env[name]
  return env
}

function secretWeaknesses(env: Env): string[] {
  const { JWT_SECRET_ACCESS_TOKEN: access, JWT_SECRET_REFRESH_TOKEN: refresh } = env
  const named = [
    ['JWT_SECRET_ACCESS_TOKEN', access],
    ['JWT_SECRET_REFRESH_TOKEN', refresh],
    ...env.JWT_SECRET_REFRESH_TOKEN_PREVIOUS.map(s => ['JWT_SECRET_REFRESH_TOKEN_PREVIOUS', s]),
  ] as [string, string][]
  return [
    ...named
      .filter(([, value]) => Buffer.byteLength(value) < SECRET_BYTES_MIN)
      .map(([name]) => `${name} must have at least ${SECRET_BYTES_MIN} bytes`),
    ...(access === refresh
      ? ['JWT_SECRET_REFRESH_TOKEN must not be the same as JWT_SECRET_ACCESS_TOKEN']
      : []),
  ]
}

function contradictions(env: Env): string[] {
  const hasKeys = env.BUCKET_ACCESS_KEY !== undefined && env.BUCKET_SECRET_KEY !== undefined
  const checks: readonly [boolean, string][] = [
    [
      (env.BUCKET_ACCESS_KEY === undefined) !== (env.BUCKET_SECRET_KEY === undefined),
      'BUCKET_SECRET_KEY and BUCKET_ACCESS_KEY go together',
    ],
    [
      env.BUCKET_NAME !== undefined && env.BUCKET_ENDPOINT !== undefined && !hasKeys,
      'BUCKET_ACCESS_KEY is required with BUCKET_ENDPOINT',
    ],
    [env.PORT !== 0 && env.PORT === env.ADMIN_PORT, 'ADMIN_PORT must not be the same as PORT'],
  ]
  return checks.filter(([isWrong]) => isWrong).map(([, problem]) => problem)
}

function defaultBucket(env: Env): BucketConnection | null {
  if (env.BUCKET_NAME === undefined) return null
  return {
    provider: env.BUCKET_PROVIDER ?? null,
    endpoint: env.BUCKET_ENDPOINT ?? null,
    region: env.BUCKET_REGION ?? null,
    name: env.BUCKET_NAME,
    prefix: null,
    access_key: env.BUCKET_ACCESS_KEY ?? null,
    secret_key: env.BUCKET_SECRET_KEY ?? null,
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
