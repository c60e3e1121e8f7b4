import { z } from 'zod'
import { Keyring } from '../envelope.ts'
import { checkMasterKey } from '../key-check.ts'
import { readCa } from '../lib/ca.ts'
import { list, readEnv, url } from '../lib/env.ts'
import { makeLog } from '../lib/log.ts'
import { RegistryStore } from '../store.ts'
import { parseTenantId, parseTenantKey, type Tenant } from '../tenant.ts'
import { CliFailure, EXIT } from './failure.ts'

/** What a command works with: the Registry, and its keys where the command needs secrets. */
export interface Session {
  readonly store: RegistryStore
  /** @throws KeyCheckError where the master key is not this Registry's */
  keyring(): Promise<Keyring>
  /** PEM of the CA of the tenant databases. */
  readonly tenantCa: string | undefined
}

const ENV = {
  TENANT_REGISTRY_DB_URL: url('postgres:', 'postgresql:'),
  /** PEM file of the CA of the Registry's certificate. */
  REGISTRY_DB_SSL_CA: z.string().optional(),
  /** PEM file of the CA of the tenant databases. */
  DB_SSL_CA: z.string().optional(),
  MASTER_ENCRYPTION_KEY: z.string(),
  MASTER_ENCRYPTION_KEY_PREVIOUS: list(),
}

/** Runs `work` with a session and closes it, whatever happens. */
export async function withSession<T>(
  env: NodeJS.ProcessEnv,
  work: (session: Session) => Promise<T>,
): Promise<T> {
  const read = readEnv(ENV, env)
  const ca = await readCa(read.REGISTRY_DB_SSL_CA, 'REGISTRY_DB_SSL_CA')
  const tenantCa = await readCa(read.DB_SSL_CA, 'DB_SSL_CA')
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
      keyring: () => {
        keys ??= deriveKeys()
        return keys
      },
    })
  } finally {
    await store.close()
  }
}

/** The tenant that an operator names by key or id. @throws CliFailure notFound */
export async function findTenant({ store }: Session, name: string): Promise<Tenant> {
  const id = parseTenantId(name)
  const key = parseTenantKey(name)
  const tenant =
    (id !== null ? await store.findById(id) : null) ??
    (key !== null ? await store.findByKey(key) : null)
  if (tenant === null) throw new CliFailure(EXIT.notFound, `there is no tenant ${name}`)
  return tenant
}
