import { randomUUID } from 'node:crypto'
import type { Client } from 'pg'
import { openConnections } from '../connection.ts'
import type { SecretColumn } from '../envelope.ts'
import { Fault } from '../lib/errors.ts'
import { newPassword } from '../lib/scram.ts'
import type { RegistryStore } from '../store.ts'
import type { Tenant, TenantId } from '../tenant.ts'
import { connectAdmin, findHost, type HostAccess } from './hosts.ts'
import {
  beginRun,
  beginUndo,
  endRun,
  findRun,
  forgetTenant,
  noteStep,
  type ProvisionRun,
  type ProvisionSpec,
} from './runs.ts'
import { dropObjects, ensureDatabase, ensureRole } from './server-objects.ts'

export interface ProvisionDeps extends HostAccess {
  readonly store: RegistryStore
  /** Brings the tenant's database to this release's schema. @throws Error that says why not */
  readonly migrate: (tenantId: TenantId) => Promise<void>
  /** Makes the bucket where it is not there, or sees that it can be used; absent: not looked at. */
  readonly ensureBucket?: (tenant: Tenant) => Promise<void>
  /** Makes the first user; one that is there already is fine. */
  readonly addAdmin: (tenant: Tenant, admin: NonNullable<ProvisionSpec['admin']>) => Promise<void>
  /** Told at the begin of each step. */
  readonly onStep: (step: StepName) => void
}

/** Secrets of the bucket, which only the first run needs: from then on the tenant's row holds them. */
export interface BucketKeys {
  readonly accessKey: string
  readonly secretKey: string
}

export type StepName = 'reserve' | 'role' | 'database' | 'bucket' | 'migrate' | 'admin' | 'activate'

/**
 * Makes a tenant: row, role, database, schema, first user; active last of all, so that nothing half made
 * is ever served. Every step looks at what is there and does what is missing, so a run that was killed
 * is simply run again; what is not this tenant's is never touched.
 *
 * @throws Fault CONFLICT, VALIDATION_FAILED; the failed step is noted in the run
 */
export async function provision(
  deps: ProvisionDeps,
  spec: ProvisionSpec,
  bucketKeys: BucketKeys | null,
): Promise<TenantId> {
  const { store, onStep } = deps
  // Before anything is reserved: a misspelt host is no run.
  const host = await findHost(store, spec.host)
  if ((await findRun(store, spec.key)) === null && (await store.findListed(spec.key)) !== null) {
    throw new Fault('CONFLICT', `tenant ${spec.key} exists already`)
  }
  const run = await beginRun(store, spec, randomUUID() as string as TenantId)
  const step = async (name: StepName, work: () => Promise<void>) => {
    onStep(name)
    await noteStep(store, spec.key, name, null)
    try {
      await work()
    } catch (error) {
      const reason = error instanceof Fault ? error.reason : (error as Error).message
      await noteStep(store, spec.key, name, reason).catch(() => {})
      throw error
    }
  }
  const withAdmin = async (work: (client: Client, tenant: Tenant) => Promise<void>) => {
    const tenant = await reserved(store, run)
    const client = await connectAdmin(host, deps)
    try {
      await work(client, tenant)
    } finally {
      await client.end().catch(() => {})
    }
  }

  await step('reserve', () => reserve(deps, run, host, bucketKeys))
  await step('role', () =>
    withAdmin((client, tenant) => {
      const { password } = openConnections(deps.keyring, tenant).db
      return ensureRole(client, spec.role, password, run.tenantId)
    }),
  )
  await step('database', () =>
    withAdmin(client => ensureDatabase(client, spec.database, spec.role)),
  )
  const { ensureBucket } = deps
  if (spec.bucket !== null && ensureBucket !== undefined) {
    await step('bucket', async () => ensureBucket(await reserved(store, run)))
  }
  await step('migrate', () => deps.migrate(run.tenantId))
  const { admin } = spec
  if (admin !== null) {
    await step('admin', async () => deps.addAdmin(await reserved(store, run), admin))
  }
  await step('activate', async () => {
    // A run that lost its end only must not wake a tenant that was suspended since.
    const { status } = await reserved(store, run)
    if (status === 'provisioning') await store.setStatus(run.tenantId, 'active', null)
  })
  await endRun(store, spec.key)
  return run.tenantId
}

/**
 * Takes back what a run has made, in the reverse order: database, role, row. Not for a tenant that was
 * active already. Can be killed and run again like the run itself.
 *
 * @returns false where there is no run of this key
 */
export async function undoProvision(
  deps: Pick<ProvisionDeps, 'store' | keyof HostAccess>,
  key: string,
): Promise<boolean> {
  const { store } = deps
  const run = await findRun(store, key)
  if (run === null) return false
  const { tenantId, spec } = run
  const listed = await store.findListed(tenantId)
  if (listed !== null && listed.status !== 'provisioning') {
    throw new Fault('CONFLICT', `${key} is ${listed.status}: archive it, then delete it`)
  }
  await beginUndo(store, key)
  const client = await connectAdmin(await findHost(store, spec.host), deps)
  try {
    await dropObjects(client, spec, tenantId)
  } finally {
    await client.end().catch(() => {})
  }
  await forgetTenant(store, tenantId)
  await endRun(store, key)
  return true
}

/** The tenant's row, with a password that this call has made up where there was no row. */
async function reserve(
  { store, keyring }: ProvisionDeps,
  { spec, tenantId }: ProvisionRun,
  host: { readonly host: string; readonly port: number; readonly sslMode: Tenant['db']['sslMode'] },
  bucketKeys: BucketKeys | null,
): Promise<void> {
  if ((await store.findById(tenantId)) !== null) return
  const seal = (secret: string, column: SecretColumn) =>
    keyring.encrypt(secret, { owner: tenantId, column })
  if (spec.bucket !== null && bucketKeys === null) {
    throw new Fault('VALIDATION_FAILED', 'the keys of the bucket are needed')
  }
  await store.create({
    id: tenantId,
    key: spec.key,
    name: spec.name,
    mode: spec.mode,
    status: 'provisioning',
    db: {
      host: host.host,
      port: host.port,
      name: spec.database,
      user: spec.role,
      passwordEncrypted: seal(newPassword(), 'db_password_encrypted'),
      sslMode: host.sslMode,
      poolMax: spec.poolMax,
    },
    bucket:
      spec.bucket === null || bucketKeys === null
        ? null
        : {
            ...spec.bucket,
            accessKeyEncrypted: seal(bucketKeys.accessKey, 'bucket_access_key_encrypted'),
            secretKeyEncrypted: seal(bucketKeys.secretKey, 'bucket_secret_key_encrypted'),
          },
  })
}

async function reserved(store: RegistryStore, { spec, tenantId }: ProvisionRun): Promise<Tenant> {
  const tenant = await store.findById(tenantId)
  if (tenant === null) throw new Fault('CONFLICT', `the row of ${spec.key} was taken away`)
  return tenant
}
