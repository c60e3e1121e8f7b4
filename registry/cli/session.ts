import { z } from 'zod'
import type { Actor } from '../admin/actor.ts'
import type { AdminDeps } from '../admin/deps.ts'
import { Keyring } from '../envelope.ts'
import { checkMasterKey } from '../key-check.ts'
import { makeAddressPolicy } from '../lib/address.ts'
import { readPem } from '../lib/ca.ts'
import { int, list, parsed, readEnv, url } from '../lib/env.ts'
import { Fault } from '../lib/errors.ts'
import { makeLog } from '../lib/log.ts'
import { userName } from '../lib/user-name.ts'
import { RegistryStore } from '../store.ts'
import type { Tenant, TenantId } from '../tenant.ts'
import { findListedTenant, type ListedTenant } from '../tenant-list.ts'
import { USERS_KEEP_DAYS_MIN } from '../usage-prune.ts'
import { CliFailure, EXIT } from './failure.ts'

/** What a command works with: the service of the control plane, and who is at the keyboard. */
export interface Session extends AdminDeps {
  readonly actor: Actor
  /** METERING_USERS_KEEP_DAYS. */
  readonly usersKeepDays: number
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
  ARCHIVE_GRACE_DAYS: int(0, 3650, 30),
  METERING_USERS_KEEP_DAYS: int(USERS_KEEP_DAYS_MIN, 3650, 100),
}

/** Runs `work` with a session and closes it, whatever happens. */
export async function withSession<T>(
  env: NodeJS.ProcessEnv,
  work: (session: Session) => Promise<T>,
  queryTimeoutMs = 10_000,
): Promise<T> {
  const read = readEnv(ENV, env)
  const isProduction = read.NODE_ENV === 'production'
  const { REGISTRY_DB_SSL_CA: ca, DB_SSL_CA: tenantCa } = read
  const log = makeLog('tenant', 'silent')
  // Whoever has the environment of this command has the master key.
  const actor: Actor = { name: `cli:${userName()}`, scope: 'own', requestId: null }
  const store = new RegistryStore({
    url: read.TENANT_REGISTRY_DB_URL,
    log,
    poolMax: 1,
    queryTimeoutMs,
    connectTimeoutMs: 3000,
    applicationName: 'doorman-cli',
    actor: actor.name,
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
      actor,
      log,
      archiveGraceDays: read.ARCHIVE_GRACE_DAYS,
      usersKeepDays: read.METERING_USERS_KEEP_DAYS,
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
  const listed = await findListedTenant(store, name)
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
