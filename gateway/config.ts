import { createPrivateKey } from 'node:crypto'
import { accessSync, constants, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import type { JWK } from 'jose'
import { z } from 'zod'
import { makeAddressPolicy } from '../registry/lib/address.ts'
import { readPem } from '../registry/lib/ca.ts'
import { commonEnv, EnvError, int, list, parsed, port, readEnv, url } from '../registry/lib/env.ts'
import { readSecretSources } from '../registry/lib/secret-sources.ts'
import { otelEnv } from '../registry/lib/trace/otel-env.ts'
import { type LimitsInput, planLimitsInput } from '../registry/limits.ts'
import { parseTenantKey, type TenantKey } from '../registry/tenant.ts'
import { parseMemberEntry } from './fleet/members.ts'
import { makeTrustedProxies } from './forwarded.ts'
import { DEFAULT_ROUTES, parseRoutes } from './route.ts'
import type { TlsFileNames } from './tls/tls-files.ts'
import { tlsProblems } from './tls/tls-keys.ts'

const text = () => z.string().min(1)

/** The gateway's environment (DESIGN 4.7): `.env.example` says unit, default and effect of each. */
const ENV = {
  ...commonEnv,
  ...otelEnv,
  PORT: port(9090),
  HOST: text().default('0.0.0.0'),
  // Each worker is a whole gateway: what is per process below counts as often as there are workers.
  // The Registry sees workers × (REGISTRY_DB_POOL_MAX + 1 listener) connections and a replica up to
  // workers × UPSTREAM_CONNECTIONS_MAX; a rolling restart adds one share. The caches and the caps on
  // clients' connections are per worker too.
  GATEWAY_WORKERS: parsed(text().default('1'), readWorkers),
  TLS_CERT_FILE: text().optional(),
  TLS_KEY_FILE: text().optional(),
  TLS_SNI_FILE: text().optional(),
  TLS_RELOAD_MS: int(100, 86_400_000, 30_000),
  HSTS_MAX_AGE_S: int(0, 63_072_000, 31_536_000),
  PROXY_PROTOCOL: z.enum(['off', 'v1', 'v2', 'on'], 'must be off, v1, v2 or on').default('off'),
  ADMIN_PORT: port(9091),
  ADMIN_HOST: text().default('127.0.0.1'),
  ADMIN_API_KEY: text().optional(),
  ADMIN_SESSION_IDLE_MS: int(1000, 86_400_000, 1_800_000),
  ADMIN_SESSION_MAX_MS: int(1000, 604_800_000, 43_200_000),
  ARCHIVE_GRACE_DAYS: int(0, 3650, 30),
  ACCESS_LOG_PERCENT: int(0, 100, 100),
  APP_UPSTREAMS: parsed(text(), readUpstreams),
  TENANT_SPREAD: int(1, 64, 2),
  REPLICA_SLOW_START_MS: int(0, 600_000, 10_000),
  HEALTH_PATH: parsed(z.string().default('/readyz'), readHealthPath),
  HEALTH_INTERVAL_MS: int(100, 600_000, 1000),
  HEALTH_TIMEOUT_MS: int(50, 60_000, 1000),
  ROUTES_FILE: parsed(text().optional(), readRoutes),
  DECOY_TENANT_KEY: parsed(text().optional(), readTenantKey),
  TENANT_SCHEMA_MIN: parsed(text().optional(), readSchemaVersion),
  TENANT_REGISTRY_DB_URL: url('postgres:', 'postgresql:'),
  REGISTRY_DB_SSL_CA: text().optional(),
  REGISTRY_DB_POOL_MAX: int(1, 100, 5),
  REGISTRY_QUERY_TIMEOUT_MS: int(100, 60_000, 2000),
  MASTER_ENCRYPTION_KEY: text(),
  MASTER_ENCRYPTION_KEY_PREVIOUS: list(),
  JWT_SECRET_ACCESS_TOKEN: text(),
  JWT_SECRET_ACCESS_TOKEN_PREVIOUS: list(),
  JWT_SECRET_REFRESH_TOKEN: text(),
  JWT_SECRET_REFRESH_TOKEN_PREVIOUS: list(),
  JWT_ISSUER: text().max(255, 'must be 255 characters at most').optional(),
  JWT_AUDIENCE: text().optional(),
  JWT_JWKS_URL: url('https:', 'http:').optional(),
  JWT_JWKS_FILE: parsed(text().optional(), requireReadable),
  JWT_JWKS_REFRESH_MS: int(1000, 86_400_000, 300_000),
  JWT_JWKS_STALE_MS: int(0, 604_800_000, 3_600_000),
  TENANT_ADDRESS_ALLOW: parsed(list(), makeAddressPolicy),
  DB_SSL_CA: parsed(text(), readPem).optional(),
  JWT_CACHE_ENTRIES: int(1, 10_000_000, 65_536),
  REVOKED_TOKENS_MAX: int(1000, 1_000_000, 100_000),
  EXPIRED_TOKEN_STATUS: int(400, 499, 401),
  TENANT_CONTEXT_SIGNING_KEY: parsed(text(), readSigningKey),
  TENANT_CONTEXT_ENCRYPTION_KEY: parsed(text(), readContentKeys),
  TENANT_CACHE_ENTRIES: int(1, 10_000_000, 16_384),
  TENANT_CACHE_TTL_MS: int(100, 3_600_000, 60_000),
  FRONTEND_URL: parsed(list(), readOrigins),
  APP_DOMAIN: text().optional(),
  TRUSTED_PROXIES: parsed(list(), makeTrustedProxies),
  HEAD_BYTES_MAX: int(1024, 1_048_576, 16_384),
  HEAD_FIELDS_MAX: int(10, 1000, 100),
  LOGIN_BODY_BYTES_MAX: int(256, 1_048_576, 65_536),
  LOGIN_FAILURES_MAX: int(0, 1_000_000, 10),
  LOGIN_FAILURES_PER_ACCOUNT_MAX: int(0, 1_000_000, 100),
  LOGIN_FAILURES_PER_ADDRESS_MAX: int(0, 1_000_000, 300),
  LOGIN_FAILURES_WINDOW_MS: int(1000, 86_400_000, 900_000),
  HEAD_TIMEOUT_MS: int(100, 600_000, 10_000),
  CLIENT_CONNECTIONS_MAX: int(1, 1_000_000, 20_000),
  CLIENT_CONNECTIONS_PER_ADDRESS_MAX: int(1, 1_000_000, 10_000),
  BODY_IDLE_TIMEOUT_MS: int(100, 3_600_000, 30_000),
  BODY_RATE_MIN_BYTES_PER_S: int(0, 1_000_000, 100),
  BODY_RATE_WINDOW_MS: int(100, 3_600_000, 20_000),
  WRITE_STALL_TIMEOUT_MS: int(100, 3_600_000, 60_000),
  CLIENT_IDLE_TIMEOUT_MS: int(100, 3_600_000, 75_000),
  HOLD_WAIT_MAX_MS: int(100, 600_000, 30_000),
  HELD_REQUESTS_MAX: int(0, 1_000_000, 10_000),
  HELD_REQUESTS_PER_TENANT_MAX: int(0, 1_000_000, 1000),
  METRICS_TENANTS_MAX: int(0, 500, 20),
  METERING_FLUSH_MS: int(100, 60_000, 5000),
  METERING_USERS_EXACT_MAX: int(0, 100_000, 5000),
  METERING_JOURNAL_DIR: text().optional(),
  ADMISSION: z.enum(['on', 'off'], 'must be on or off').default('on'),
  TENANT_LIMITS: parsed(text().optional(), readLimits),
  FORWARDED_MAX: int(0, 1_000_000, 0),
  FAIR_QUEUE_MAX: int(0, 1_000_000, 1024),
  FAIR_QUEUE_WAIT_MS: int(1, 600_000, 2000),
  REFUSALS_HELD_MAX: int(0, 1_000_000, 4096),
  IN_FLIGHT_MAX: int(1, 1_000_000, 10_000),
  OVERLOAD_LOOP_DELAY_MS: int(0, 60_000, 250),
  UPSTREAM_SSL_CA: parsed(text(), readPem).optional(),
  UPSTREAM_CONNECT_TIMEOUT_MS: int(10, 60_000, 1000),
  UPSTREAM_HEAD_TIMEOUT_MS: int(10, 3_600_000, 30_000),
  UPSTREAM_BODY_IDLE_TIMEOUT_MS: int(100, 3_600_000, 300_000),
  UPSTREAM_IDLE_TIMEOUT_MS: int(100, 3_600_000, 55_000),
  UPSTREAM_CONNECTIONS_MAX: int(1, 65_536, 256),
  UPSTREAM_TENANT_SHARE_PERCENT: int(1, 100, 80),
  DRAIN_TIMEOUT_MS: int(0, 3_600_000, 30_000),
  DRAIN_NOTICE_MS: int(0, 120_000, 1000),
} as const

export type GatewayConfig = ReturnType<typeof readEnv<typeof ENV>>

/** HARDENING B.8: a shorter HMAC secret can be searched (RFC 7518 section 3.2). */
const SECRET_BYTES_MIN = 32
const SECRETS = [
  'ADMIN_API_KEY',
  'MASTER_ENCRYPTION_KEY',
  'JWT_SECRET_ACCESS_TOKEN',
  'JWT_SECRET_ACCESS_TOKEN_PREVIOUS',
  'JWT_SECRET_REFRESH_TOKEN',
  'JWT_SECRET_REFRESH_TOKEN_PREVIOUS',
] as const

/**
 * Reads the environment, once.
 *
 * @returns the config, and warnings: what production refuses and other environments let pass
 * @throws EnvError with all problems
 */
export function readGatewayConfig(from: NodeJS.ProcessEnv): {
  config: GatewayConfig
  warnings: readonly string[]
} {
  // Once: a source may be a command, or a pipe.
  const sources = readSecretSources(from, Object.keys(ENV))
  const { env } = sources
  const weak = [...weakSecrets(env), ...plainKeySet(env)]
  const isProduction = env.NODE_ENV === 'production'
  const refused = [...contradictions(env), ...edgeProblems(env), ...(isProduction ? weak : [])]
  let config: GatewayConfig
  try {
    config = readEnv(ENV, env, sources)
  } catch (error) {
    if (!(error instanceof EnvError)) throw error
    throw new EnvError([...error.problems, ...refused])
  }
  if (refused.length > 0) throw new EnvError(refused)
  return { config, warnings: weak }
}

/** Variables that are good each by itself and not together. */
function contradictions(env: NodeJS.ProcessEnv): string[] {
  const { JWT_JWKS_URL: url = '', JWT_JWKS_FILE: file = '' } = env
  const problems: string[] = []
  if (url !== '' && file !== '') problems.push('JWT_JWKS_FILE and JWT_JWKS_URL: one of the two')
  if (url === '' && file === '') return problems
  // A provider signs tokens for many: those for someone else must not open this door (RFC 8725 section 3.9).
  for (const name of ['JWT_ISSUER', 'JWT_AUDIENCE']) {
    if ((env[name] ?? '') === '') problems.push(`${name} is required with a JWKS`)
  }
  return problems
}

function plainKeySet({ JWT_JWKS_URL: url = '' }: NodeJS.ProcessEnv): string[] {
  return url.startsWith('http:') ? ['JWT_JWKS_URL must be https:'] : []
}

/** Where the certificates of the public listener are. */
export function tlsNamesOf(env: {
  readonly TLS_CERT_FILE?: string | undefined
  readonly TLS_KEY_FILE?: string | undefined
  readonly TLS_SNI_FILE?: string | undefined
}): TlsFileNames {
  return {
    cert: env.TLS_CERT_FILE || undefined,
    key: env.TLS_KEY_FILE || undefined,
    hosts: env.TLS_SNI_FILE || undefined,
  }
}

/** Variables that make sense only together, and the files of TLS. */
function edgeProblems(env: NodeJS.ProcessEnv): string[] {
  const problems = tlsProblems(tlsNamesOf(env))
  if ((env.PROXY_PROTOCOL || 'off') !== 'off' && !env.TRUSTED_PROXIES) {
    problems.push('TRUSTED_PROXIES is required where PROXY_PROTOCOL is not off')
  }
  return problems
}

function weakSecrets(env: NodeJS.ProcessEnv): string[] {
  const weak: string[] = []
  for (const name of SECRETS) {
    const value = env[name] ?? ''
    const values = name.endsWith('_PREVIOUS') ? value.split(',').map(v => v.trim()) : [value]
    if (values.some(v => v !== '' && Buffer.byteLength(v) < SECRET_BYTES_MIN)) {
      weak.push(`${name} must be at least ${SECRET_BYTES_MIN} bytes`)
    }
  }
  const access = env.JWT_SECRET_ACCESS_TOKEN ?? ''
  if (access !== '' && access === env.JWT_SECRET_REFRESH_TOKEN) {
    weak.push('JWT_SECRET_REFRESH_TOKEN must differ from JWT_SECRET_ACCESS_TOKEN')
  }
  return weak
}

const WORKERS_MAX = 256

function readWorkers(value: string): number {
  const workers = value === 'auto' ? availableParallelism() : Number(value)
  if (!/^(auto|\d+)$/.test(value) || workers < 1 || workers > WORKERS_MAX) {
    throw new Error(`must be auto or a whole number from 1 to ${WORKERS_MAX}`)
  }
  return workers
}

function readUpstreams(value: string) {
  return value.split(',').map(entry => parseMemberEntry(entry.trim()))
}

function readHealthPath(value: string): string | null {
  if (value === 'off') return null
  if (!/^\/[!-~]*$/.test(value)) throw new Error('must be a path such as /readyz, or off')
  return value
}

function readRoutes(file: string | undefined) {
  return file === undefined ? DEFAULT_ROUTES : parseRoutes(readFileSync(file, 'utf8'))
}

function readTenantKey(text: string | undefined): TenantKey | null {
  const key = text === undefined ? null : parseTenantKey(text)
  if (text !== undefined && key === null) throw new Error('must be a tenant key')
  return key
}

function readLimits(json: string | undefined): LimitsInput {
  if (json === undefined) return {}
  const read = planLimitsInput.safeParse(parseJson(json))
  if (read.success) return read.data
  const [issue] = read.error.issues
  throw new Error(`${issue?.path.join('.') || 'the JSON'}: ${issue?.message}`)
}

function parseJson(json: string): unknown {
  try {
    return JSON.parse(json)
  } catch {
    throw new Error('must be JSON such as {"requests_per_s":100}')
  }
}

function readSchemaVersion(version: string | undefined): string | null {
  if (version === undefined) return null
  if (!/^\d{4}$/.test(version)) throw new Error('must be the four digits of a tenant migration')
  return version
}

/** Here only whether it can be read at all: the file is read again and again while the gateway runs. */
function requireReadable(file: string | undefined): string | undefined {
  try {
    if (file !== undefined) accessSync(file, constants.R_OK)
    return file
  } catch (error) {
    throw new Error(`cannot be read: ${(error as NodeJS.ErrnoException).code}`)
  }
}

function readSigningKey(value: string): JWK {
  try {
    const jwk = JSON.parse(value) as JWK
    createPrivateKey({ key: jwk as never, format: 'jwk' })
    if (jwk.kty === 'OKP' && jwk.crv === 'Ed25519') return jwk
  } catch {
    // Not rethrown: the parser's message would quote the key.
  }
  throw new Error('must be an Ed25519 private key as JWK')
}

function readContentKeys(value: string): readonly string[] {
  const keys = value.split(',').map(key => key.trim().replace(/=+$/, ''))
  if (keys.some(key => !/^[A-Za-z0-9_-]{43}$/.test(key))) {
    throw new Error('must be 32 bytes as base64url, or a list of such')
  }
  return keys
}

function readOrigins(origins: readonly string[]): readonly string[] {
  for (const origin of origins) {
    if (URL.parse(origin)?.origin !== origin) {
      throw new Error('must list origins such as https://app.example, without a path')
    }
  }
  return origins
}
