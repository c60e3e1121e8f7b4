import { readFile } from 'node:fs/promises'
import type { Log } from '../registry/lib/log.ts'
import type { GatewayConfig } from './config.ts'
import { Issuers, type IssuersOptions, type PlatformIssuer } from './identify/issuers.ts'
import { fetchJwks, JWKS_BYTES_MAX, JWKS_DEADLINE_MS } from './identify/jwks-fetch.ts'
import type { TenantSource } from './tenant-source.ts'

/** The identity providers of `config` and of the tenants. */
export function openIssuers(
  config: GatewayConfig,
  tenants: TenantSource,
  log: Log,
  onLoad: NonNullable<IssuersOptions['onLoad']>,
): Issuers {
  const isProduction = config.NODE_ENV === 'production'
  const issuers = new Issuers({
    tenants,
    platform: platformOf(config, isProduction),
    times: { refreshMs: config.JWT_JWKS_REFRESH_MS, staleMs: config.JWT_JWKS_STALE_MS },
    isHttpsRequired: isProduction,
    addressPolicy: isProduction ? config.TENANT_ADDRESS_ALLOW : null,
    log,
    onLoad,
  })
  issuers.warm()
  return issuers
}

function platformOf(config: GatewayConfig, isHttpsRequired: boolean): PlatformIssuer | null {
  const { JWT_ISSUER: issuer, JWT_AUDIENCE: audience } = config
  const { JWT_JWKS_URL: url, JWT_JWKS_FILE: file } = config
  if (issuer === undefined) return null
  const read =
    file !== undefined
      ? () => readJwksFile(file)
      : url !== undefined
        ? () => fetchPlatform(url)
        : null
  if (read === null || audience === undefined) return { issuer, keys: null }
  return { issuer, keys: { audience, read } }

  // The platform's own provider is where its operator says, on the machine itself if need be.
  function fetchPlatform(from: string): Promise<string> {
    const bounds = { deadlineMs: JWKS_DEADLINE_MS, bytesMax: JWKS_BYTES_MAX }
    return fetchJwks(from, { ...bounds, isHttpsRequired, addressPolicy: null })
  }
}

async function readJwksFile(file: string): Promise<string> {
  const text = await readFile(file, {
    encoding: 'utf8',
    signal: AbortSignal.timeout(JWKS_DEADLINE_MS),
  })
  if (text.length > JWKS_BYTES_MAX) throw new Error('the file is too long for a key set')
  return text
}
