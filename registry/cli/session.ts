import { z } from 'zod'
import { Keyring } from '../envelope.ts'
import { checkMasterKey } from '../key-check.ts'
import { type AddressPolicy, makeAddressPolicy } from '../lib/address.ts'
import { readPem } from '../lib/ca.ts'
import { list, parsed, readEnv, url } from '../lib/env.ts'
import { Fault } from '../lib/errors.ts'
import { makeLog } from '../lib/log.ts'
import { type ListedTenant, RegistryStore } from '../store.ts'
import type { Tenant, TenantId } from '../tenant.ts'
import { CliFailure, EXIT } from './failure.ts'

/** What a command works with: the Registry, and its keys where the command needs secrets. */
export interface Session {
  readonly store: RegistryStore
  /** @throws KeyCheckError where the master key is not this Registry's */
  keyring(): Promise<Keyring>
  /** PEM of the CA of the tenant databases. */
  readonly tenantCa: string | undefined
  /** The platform's own issuer, which no tenant can have. */
  readonly platformIssuer: string | null
  /** Keys of identity providers come over TLS alone. */
  readonly isProduction: boolean
  /** Where tenants' databases may be; null outside production: anywhere. */
  readonly addressPolicy: AddressPolicy | null
}

const ENV = {
  TENANT_REGISTRY_DB_URL: url('postgres:', 'postgresql:'),
  REGISTRY_DB_SSL_CA: parsed(z.string(), readPem).optional(),
  DB_SSL_CA: parsed(z.string(), readPem).optional(),
  NODE_ENV: z.string().default('development'),
  TENANT_ADDRESS_ALLOW: parsed(list(), makeAddressPolicy),
  JWT_ISSUER: z.string().optional(),
  MASTER_ENCRYPTION_KEY: z.string(),
  MASTER_ENCRYPTION_KEY_PREVIOUS: list(),
}

/** Runs `work` with a session and closes it, whatever happens. */
export async function withSession<T>(
  env: NodeJS.ProcessEnv,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const read = readEnv(ENV, env)
  const isProduction = read.NODE_ENV === 'production'
  const { REGISTRY_DB_SSL_CA: ca, DB_SSL_CA: tenantCa } = read
  const store = new RegistryStore({
    url: read.TENANT_REGISTRY_DB_URL,
    log: makeLog('tenant', 'silent'),
    poolMax: 1,
    queryTimeoutMs: 10_000,
    connectTimeoutMs: 3000,
    applicationName: 'doorman-cli',
    ...(ca !== undefined && { ca }),
  })
  let keys: Promise<Keyring> | undefined
  const deriveKeys = async () => {
    const keyring = await Keyring.derive([
      read.MASTER_ENCRYPTION_KEY,
      ...read.MASTER_ENCRYPTION_KEY_PREVIOUS,
    ])
    await checkMasterKey(store, keyring)
    return keyring
  }
  try {
    return await work({
      store,
      tenantCa,
      platformIssuer: read.JWT_ISSUER ?? null,
      isProduction,
      addressPolicy: isProduction ? read.TENANT_ADDRESS_ALLOW : null,
      keyring: () => {
        keys ??= deriveKeys()
        return keys
      },
    })
  } finally {
    await store.close()
  }
}

/** A row that an operator names by key or id, fit to be served or not. @throws CliFailure notFound */
export async function findListed(
  { store }: Session,
  name: string,
): Promise<ListedTenant & { readonly id: TenantId }> {
  const listed = await store.findListed(name)
  if (listed === null) throw new CliFailure(EXIT.notFound, `there is no tenant ${name}`)
  // Its type in the Registry is uuid.
  return { ...listed, id: listed.id as TenantId }
}

/** The same where only a tenant that could be served will do. @throws Fault TENANT_CONFIG_INVALID */
export async function findTenant(session: Session, name: string): Promise<Tenant> {
  const { tenant, problem } = await findListed(session, name)
  if (tenant === null) throw new Fault('TENANT_CONFIG_INVALID', String(problem))
  return tenant
}
