import { isDeepStrictEqual } from 'node:util'
import type { ClientBase } from 'pg'
import type { Actor } from '../admin/actor.ts'
import { addAudit } from '../admin/audit.ts'
import { tellAudit } from '../admin/change.ts'
import { requireSound } from '../admin/merge.ts'
import { type Columns, insertRow } from '../admin/row.ts'
import { requireFreeDatabase } from '../database-place.ts'
import type { SecretColumn } from '../envelope.ts'
import { Fault, publicFault } from '../lib/errors.ts'
import { newPassword } from '../lib/scram.ts'
import type { RegistryStore } from '../store.ts'
import type { TenantId } from '../tenant.ts'
import { findListedTenant } from '../tenant-list.ts'
import { sealPassword } from './first-user.ts'
import { findHost, type HostAccess, type SealedHost } from './hosts.ts'
import { beginRun, findRun, type ProvisionRun, setFirstUserHash } from './runs.ts'
import type { ProvisionSecrets, ProvisionSpec } from './spec.ts'

export interface BeginDeps extends HostAccess {
  readonly store: RegistryStore
}

export interface Begun {
  readonly run: ProvisionRun
  /** False: it was begun before, and is gone on with. */
  readonly isNew: boolean
}

const SET_BUCKET_KEYS = `
  UPDATE tenants SET bucket_access_key_encrypted = $2, bucket_secret_key_encrypted = $3
  WHERE id = $1 AND status = 'provisioning'`

/**
 * Reserves a tenant: its run, its row (which nobody is served by yet), its secrets, all in one transaction. From
 * here on the Registry alone says what is to be done, and whoever goes on with the run needs no secret.
 *
 * @param id of the tenant, where no run of this key was begun before
 * @throws Fault VALIDATION_FAILED; CONFLICT where the key, the database or the bucket is taken, or where the run
 *   was begun for something else, or is being undone
 */
export async function beginProvision(
  deps: BeginDeps,
  actor: Actor,
  spec: ProvisionSpec,
  secrets: ProvisionSecrets,
  id: TenantId,
): Promise<Begun> {
  const { store } = deps
  // Before anything is reserved: a misspelt host is no run.
  const host = await findHost(store, spec.host)
  const present = await findRun(store, spec.key)
  if (present === null && (await findListedTenant(store, spec.key)) !== null) {
    throw publicFault('CONFLICT', `tenant ${spec.key} exists already`)
  }
  if (present !== null) requireSame(present, spec)
  const tenantId = present?.tenantId ?? id
  if (present === null && spec.admin !== null && secrets.password === null) {
    const text = 'the password of the first user is needed'
    throw new Fault('VALIDATION_FAILED', text, {
      publicMessage: text,
      problems: { 'provision.admin.password': text },
    })
  }
  const sealed = await sealSecrets(deps, tenantId, secrets)
  return store.transaction(async client => {
    await tellAudit(client, { actor, action: 'tenant.provision' })
    const run = await beginRun(client, spec, tenantId)
    if (run.tenantId !== tenantId)
      throw publicFault('CONFLICT', `someone else has just begun ${spec.key}`)
    requireSame(run, spec)
    const { rows } = await client.query('SELECT FROM tenants WHERE id = $1', [tenantId])
    if (rows.length === 0) await reserve(client, deps, tenantId, spec, host, sealed)
    else await keep(client, run, sealed)
    if (sealed.hash !== null) await setFirstUserHash(client, spec.key, sealed.hash)
    return { run, isNew: present === null }
  })
}

/** Gives a run that stopped other secrets than it was begun with: a key that was wrong, a password that was lost. */
export async function giveSecrets(
  deps: BeginDeps,
  actor: Actor,
  run: ProvisionRun,
  secrets: ProvisionSecrets,
): Promise<void> {
  const { tenantId, spec } = run
  const sealed = await sealSecrets(deps, tenantId, secrets)
  await deps.store.transaction(async client => {
    await tellAudit(client, { actor, action: 'tenant.provision' })
    await keep(client, run, sealed)
    if (sealed.hash !== null) await setFirstUserHash(client, spec.key, sealed.hash)
    const entry = { actor, tenantId, tenantKey: spec.key }
    await addAudit(client, { ...entry, action: 'tenant.provision_retry' })
  })
}

/** As they stand in the Registry. */
interface SealedSecrets {
  readonly accessKey: string | null
  readonly secretKey: string | null
  readonly hash: string | null
}

async function sealSecrets(
  { keyring }: BeginDeps,
  id: TenantId,
  { bucket, password }: ProvisionSecrets,
): Promise<SealedSecrets> {
  const seal = (secret: string, column: SecretColumn) => {
    return keyring.encrypt(secret, { owner: id, column })
  }
  return {
    accessKey: bucket && seal(bucket.accessKey, 'bucket_access_key_encrypted'),
    secretKey: bucket && seal(bucket.secretKey, 'bucket_secret_key_encrypted'),
    hash: password === null ? null : await sealPassword(keyring, id, password),
  }
}

async function reserve(
  client: ClientBase,
  { keyring }: BeginDeps,
  id: TenantId,
  { key, name, mode, database, role, poolMax, bucket, columns: further = {} }: ProvisionSpec,
  { host, port, sslMode }: SealedHost,
  { accessKey, secretKey }: SealedSecrets,
): Promise<void> {
  const column = 'db_password_encrypted'
  const columns: Columns = {
    ...further,
    ...{ name, mode, status: 'provisioning' },
    ...{ db_host: host, db_port: port, db_name: database, db_user: role },
    ...{ db_ssl_mode: sslMode, db_pool_max: poolMax },
    db_password_encrypted: keyring.encrypt(newPassword(), { owner: id, column }),
    ...(bucket !== null && {
      bucket_provider: bucket.provider,
      bucket_endpoint: bucket.endpoint,
      bucket_region: bucket.region,
      bucket_name: bucket.name,
      bucket_prefix: bucket.prefix,
      bucket_access_key_encrypted: accessKey,
      bucket_secret_key_encrypted: secretKey,
    }),
  }
  requireSound({}, columns, { platformIssuer: null, isProduction: false })
  await requireFreeDatabase(client, id, { host, port, name: database })
  await insertRow(client, id, key, columns)
}

async function keep(
  client: ClientBase,
  { tenantId, spec, isLeased }: ProvisionRun,
  { accessKey, secretKey }: SealedSecrets,
): Promise<void> {
  if (isLeased || spec.bucket === null || accessKey === null) return
  await client.query(SET_BUCKET_KEYS, [tenantId, accessKey, secretKey])
}

function requireSame(run: ProvisionRun, spec: ProvisionSpec): void {
  if (run.isUndoing) throw publicFault('CONFLICT', `${spec.key} is being undone: end that first`)
  // As it comes back from the Registry.
  if (isDeepStrictEqual(run.spec, JSON.parse(JSON.stringify(spec)))) return
  throw publicFault(
    'CONFLICT',
    `a run of ${spec.key} was begun with other options; give the same, or undo it`,
  )
}
