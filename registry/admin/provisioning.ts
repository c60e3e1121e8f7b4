import { randomBytes } from 'node:crypto'
import { Fault, publicFault } from '../lib/errors.ts'
import { beginProvision, giveSecrets } from '../provision/begin.ts'
import type { HostAccess } from '../provision/hosts.ts'
import { provision } from '../provision/provision.ts'
import { findRun, findRunOf, type ProvisionRun } from '../provision/runs.ts'
import { type ProvisionSecrets, type StepName, stepsOf } from '../provision/spec.ts'
import { type Taken, take } from '../provision/take.ts'
import { undoProvision } from '../provision/undo.ts'
import type { TenantId } from '../tenant.ts'
import type { Actor } from './actor.ts'
import type { AdminDeps } from './deps.ts'
import { wrongField } from './fields.ts'
import { isMadeBefore, newTenantId } from './idempotency.ts'
import { type ProvisionInput, type RetryInput, specOf } from './provision-input.ts'
import { requireRow } from './row.ts'

/** How far the making of a tenant has come. */
export interface Provisioning {
  readonly tenant_id: string
  readonly tenant_key: string
  readonly action: 'provision' | 'undo'
  /** interrupted: its process is gone, and nobody goes on with it by itself. */
  readonly state: 'running' | 'failed' | 'interrupted' | 'done'
  /** Under way or failed; null where none is. */
  readonly step: string | null
  /** All of this tenant's, in their order. */
  readonly steps: readonly StepName[]
  readonly error: { readonly code: string; readonly message: string } | null
  readonly database_host: string | null
  readonly started_at: string | null
  readonly updated_at: string | null
}

/** The answer of the request that made a password up: nobody can read it again. */
export type Accepted = Provisioning & { readonly admin_password: string | null }

/** 144 bits, to be typed once. */
const PASSWORD_BYTES = 18

/**
 * Reserves a tenant and makes it while nobody waits. The same again goes on with what was begun, where it stopped.
 *
 * @throws Fault VALIDATION_FAILED, CONFLICT, OVERLOADED
 */
export async function provisionTenant(
  deps: AdminDeps,
  actor: Actor,
  input: ProvisionInput,
  idempotencyKey: string | null,
): Promise<Accepted> {
  const { store } = deps
  const spec = specOf(input)
  requireBucketFields(input)
  const id = newTenantId(actor, idempotencyKey)
  const present = await findRun(store, spec.key)
  if (idempotencyKey !== null) {
    const isDone = (await isMadeBefore(store, id, spec.key)) && present === null
    if (isDone) return { ...(await provisioningOf(deps, id)), admin_password: null }
    if (present !== null && present.tenantId !== id) {
      throw publicFault('CONFLICT', `tenant ${spec.key} is being made by another request`)
    }
  }
  const given = input.provision.admin?.password ?? null
  const made =
    present === null && spec.admin !== null && given === null
      ? randomBytes(PASSWORD_BYTES).toString('base64url')
      : null
  const secrets = { ...secretsOf(input), password: given ?? made }
  const access = await accessOf(deps)
  let tenantId = id
  await provisionerOf(deps).start(spec.key, async () => {
    const { run } = await beginProvision({ ...access, store }, actor, spec, secrets, id)
    tenantId = run.tenantId
    // The same request twice, and the first of them is at it.
    if (run.isLeased) return null
    const taken = await take(store, spec.key)
    return taken && (signal => provision(runDeps(deps, access), actor, taken, signal))
  })
  return { ...(await provisioningOf(deps, tenantId)), admin_password: made }
}

/** @throws Fault NOT_FOUND where the tenant is not there, or was not made here */
export async function provisioningOf(deps: AdminDeps, id: TenantId): Promise<Provisioning> {
  const run = await deps.store.use(client => findRunOf(client, id))
  if (run !== null) return view(run)
  const row = await requireRow(deps.store, id)
  if (row.status === 'provisioning') throw notBegun()
  return {
    ...{ tenant_id: id, tenant_key: String(row.tenant_key), action: 'provision', state: 'done' },
    ...{ step: null, steps: [], error: null, database_host: null },
    started_at: row.created_at instanceof Date ? row.created_at.toISOString() : null,
    updated_at: row.updated_at instanceof Date ? row.updated_at.toISOString() : null,
  }
}

/** Goes on with a run that failed or was interrupted. @throws Fault NOT_FOUND, CONFLICT, OVERLOADED */
export async function retryProvisioning(
  deps: AdminDeps,
  actor: Actor,
  id: TenantId,
  input: RetryInput,
): Promise<Provisioning> {
  const { store } = deps
  const run = await requireRun(deps, id)
  const key = run.spec.key
  if (run.isUndoing) throw publicFault('CONFLICT', `${key} is being undone: end that first`)
  requireBucketFields({ ...input, bucket_name: run.spec.bucket?.name })
  const secrets = { ...secretsOf(input), password: input.admin_password ?? null }
  const access = await accessOf(deps)
  await provisionerOf(deps).start(key, async () => {
    requireIdle(run)
    await giveSecrets({ ...access, store }, actor, run, secrets)
    const taken = requireTaken(await take(store, key))
    return signal => provision(runDeps(deps, access), actor, taken, signal)
  })
  return provisioningOf(deps, id)
}

/** Takes back what a run has made, while nobody waits. @throws Fault NOT_FOUND, CONFLICT, OVERLOADED */
export async function undoProvisioning(
  deps: AdminDeps,
  actor: Actor,
  id: TenantId,
  reason: string | null,
): Promise<Provisioning> {
  const { store } = deps
  const run = await requireRun(deps, id)
  const key = run.spec.key
  const access = await accessOf(deps)
  await provisionerOf(deps).start(key, async () => {
    requireIdle(run)
    const taken = requireTaken(await take(store, key))
    return signal => undoProvision({ ...access, store }, actor, taken, signal, reason)
  })
  // It may be over by now, and the tenant gone.
  return { ...view(run), action: 'undo', state: 'running', error: null }
}

export async function accessOf(deps: AdminDeps): Promise<HostAccess> {
  const { tenantCa: ca, addressPolicy } = deps
  return { keyring: await deps.keyring(), ca, addressPolicy }
}

function runDeps(deps: AdminDeps, access: HostAccess) {
  const { migrate } = provisionerOf(deps)
  return { ...access, store: deps.store, migrate, onStep: () => {} }
}

async function requireRun(deps: AdminDeps, id: TenantId): Promise<ProvisionRun> {
  const run = await deps.store.use(client => findRunOf(client, id))
  if (run !== null) return run
  await requireRow(deps.store, id)
  throw notBegun()
}

function requireIdle(run: ProvisionRun): void {
  if (run.isLeased) throw publicFault('CONFLICT', `${run.spec.key} is worked at already`)
}

function requireTaken(taken: Taken | null): Taken {
  if (taken === null) throw publicFault('CONFLICT', 'the run has just ended')
  return taken
}

/** A key comes with the other, and both with a bucket. @throws Fault VALIDATION_FAILED */
function requireBucketFields(input: {
  readonly bucket_name?: string | null | undefined
  readonly bucket_access_key?: string | null | undefined
  readonly bucket_secret_key?: string | null | undefined
  readonly bucket_endpoint?: string | null | undefined
}): void {
  const { bucket_name, bucket_access_key: accessKey, bucket_secret_key: secretKey } = input
  if ((accessKey == null) !== (secretKey == null)) {
    throw wrongField('bucket_access_key', 'comes with bucket_secret_key, or neither of the two')
  }
  const stray = Object.entries(input).find(
    ([name, value]) => name.startsWith('bucket_') && name !== 'bucket_name' && value != null,
  )
  if (bucket_name == null && stray !== undefined) {
    throw wrongField('bucket_name', 'is required with the rest of a bucket')
  }
}

function secretsOf(input: RetryInput): Pick<ProvisionSecrets, 'bucket'> {
  const { bucket_access_key: accessKey, bucket_secret_key: secretKey } = input
  return { bucket: accessKey == null || secretKey == null ? null : { accessKey, secretKey } }
}

function view(run: ProvisionRun): Provisioning {
  const { tenantId, spec, isUndoing, isLeased, step, problem, errorCode } = run
  const failed = { code: errorCode ?? 'PROVISIONING_FAILED', message: problem ?? '' }
  const hasFailed = !isLeased && (errorCode !== null || problem !== null)
  return {
    tenant_id: tenantId,
    tenant_key: spec.key,
    action: isUndoing ? 'undo' : 'provision',
    state: isLeased ? 'running' : hasFailed ? 'failed' : 'interrupted',
    step,
    steps: stepsOf(spec),
    error: hasFailed ? failed : null,
    database_host: spec.host,
    started_at: run.startedAt.toISOString(),
    updated_at: run.updatedAt.toISOString(),
  }
}

function provisionerOf({ provisioner }: AdminDeps) {
  if (provisioner === undefined) throw new Fault('INTERNAL', 'no provisioner')
  return provisioner
}

function notBegun(): Fault {
  const text = 'The tenant is not being made.'
  return publicFault('NOT_FOUND', text)
}
