import { isDeepStrictEqual } from 'node:util'
import { Fault } from '../lib/errors.ts'
import type { RegistryStore } from '../store.ts'
import type { TenantId, TenantKey } from '../tenant.ts'

/** What a tenant is made of, without secrets. */
export interface ProvisionSpec {
  readonly key: TenantKey
  readonly name: string | null
  readonly mode: 'shared' | 'dedicated'
  /** Name of the database host. */
  readonly host: string
  readonly database: string
  readonly role: string
  readonly poolMax: number | null
  readonly bucket: {
    readonly provider: string | null
    readonly endpoint: string | null
    readonly region: string | null
    readonly name: string
    readonly prefix: string | null
  } | null
  readonly admin: {
    readonly email: string
    readonly name: string
    readonly roleId: number
  } | null
}

export interface ProvisionRun {
  readonly tenantId: TenantId
  readonly spec: ProvisionSpec
  readonly isUndoing: boolean
}

/** The first to ask for a key has it; everyone else gets what was asked for then. */
const BEGIN_RUN = `
  INSERT INTO provisioning_runs (tenant_key, tenant_id, spec) VALUES ($1, $2, $3)
  ON CONFLICT (tenant_key) DO NOTHING`
const FIND_RUN = `SELECT tenant_id AS "tenantId", spec, is_undoing AS "isUndoing"
  FROM provisioning_runs WHERE tenant_key = $1`
const NOTE_STEP = `UPDATE provisioning_runs SET step = $2, problem = $3, updated_at = now()
  WHERE tenant_key = $1`
const BEGIN_UNDO =
  'UPDATE provisioning_runs SET is_undoing = true, updated_at = now() WHERE tenant_key = $1'
const END_RUN = 'DELETE FROM provisioning_runs WHERE tenant_key = $1'
/** A tenant that never was active; any other is not ours to take away. */
const FORGET_TENANT = `DELETE FROM tenants WHERE id = $1 AND status = 'provisioning'`

/**
 * Begins the run of a key, or finds the one that was begun.
 *
 * @throws Fault CONFLICT where that one is for something else, or is being undone
 */
export async function beginRun(
  store: RegistryStore,
  spec: ProvisionSpec,
  tenantId: TenantId,
): Promise<ProvisionRun> {
  await store.query(BEGIN_RUN, [spec.key, tenantId, JSON.stringify(spec)])
  const run = await findRun(store, spec.key)
  if (run === null) throw new Fault('CONFLICT', `the run of ${spec.key} has just ended; try again`)
  if (run.isUndoing) {
    throw new Fault('CONFLICT', `${spec.key} is being undone: provision --undo ends that first`)
  }
  if (!isDeepStrictEqual(run.spec, spec)) {
    throw new Fault(
      'CONFLICT',
      `a run of ${spec.key} was begun with other options; give the same, or provision --undo`,
    )
  }
  return run
}

export async function findRun(store: RegistryStore, key: string): Promise<ProvisionRun | null> {
  const [row] = await store.query(FIND_RUN, [key])
  return row === undefined ? null : (row as unknown as ProvisionRun)
}

export async function noteStep(
  store: RegistryStore,
  key: string,
  step: string,
  problem: string | null,
): Promise<void> {
  await store.query(NOTE_STEP, [key, step, problem])
}

export async function beginUndo(store: RegistryStore, key: string): Promise<void> {
  await store.query(BEGIN_UNDO, [key])
}

export async function endRun(store: RegistryStore, key: string): Promise<void> {
  await store.query(END_RUN, [key])
}

export async function forgetTenant(store: RegistryStore, id: TenantId): Promise<void> {
  await store.query(FORGET_TENANT, [id])
}
