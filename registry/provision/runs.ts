import type { ClientBase } from 'pg'
import { type ErrorCode, type Fault, publicFault } from '../lib/errors.ts'
import type { RegistryStore } from '../store.ts'
import type { TenantId } from '../tenant.ts'
import type { ProvisionSpec } from './spec.ts'

/** The making of a tenant, or its undoing, from the first step to the last. */
export interface ProvisionRun {
  readonly tenantId: TenantId
  readonly spec: ProvisionSpec
  readonly isUndoing: boolean
  /** Some process works at it. */
  readonly isLeased: boolean
  /** Under way, failed or interrupted; null: none was begun. */
  readonly step: string | null
  readonly problem: string | null
  readonly errorCode: ErrorCode | null
  readonly firstUserHashEncrypted: string | null
  readonly bucketMade: boolean
  readonly startedAt: Date
  readonly updatedAt: Date
}

/**
 * Without a word for so long, a process counts as gone and another may go on with its run. One that only hung finds
 * its lease lost at its next step; each step looks at what is there, so that one that two begin does no harm.
 */
export const LEASE_MS = 6000

const COLUMNS = `tenant_id AS "tenantId", spec, is_undoing AS "isUndoing",
  coalesce(leased_until > clock_timestamp(), false) AS "isLeased", step, problem,
  error_code AS "errorCode", first_user_hash_encrypted AS "firstUserHashEncrypted",
  bucket_made AS "bucketMade", started_at AS "startedAt", updated_at AS "updatedAt"`
const UNTIL = `clock_timestamp() + interval '${LEASE_MS} ms'`
/** Primary key; unique index on tenant_id. */
const FIND = `SELECT ${COLUMNS} FROM provisioning_runs WHERE tenant_key = $1`
const FIND_BY_TENANT = `SELECT ${COLUMNS} FROM provisioning_runs WHERE tenant_id = $1`
/** The first to ask for a key has it; everyone else gets what was asked for then. */
const BEGIN = `
  INSERT INTO provisioning_runs (tenant_key, tenant_id, spec, step) VALUES ($1, $2, $3, 'reserve')
  ON CONFLICT (tenant_key) DO NOTHING`
const SET_HASH = `
  UPDATE provisioning_runs SET first_user_hash_encrypted = $2
  WHERE tenant_key = $1 AND coalesce(leased_until < clock_timestamp(), true)`
const TAKE = `
  UPDATE provisioning_runs SET runner = $2, leased_until = ${UNTIL}, error_code = NULL,
    problem = NULL, updated_at = now()
  WHERE tenant_key = $1 AND coalesce(leased_until < clock_timestamp(), true) RETURNING ${COLUMNS}`
const RENEW = `
  UPDATE provisioning_runs SET leased_until = ${UNTIL} WHERE tenant_key = $1 AND runner = $2`
const LET_GO = `
  UPDATE provisioning_runs SET runner = NULL, leased_until = NULL, problem = $3, error_code = $4,
    updated_at = now()
  WHERE tenant_key = $1 AND runner = $2`
const NOTE_STEP = `
  UPDATE provisioning_runs SET step = $3, leased_until = ${UNTIL}, updated_at = now()
  WHERE tenant_key = $1 AND runner = $2 RETURNING tenant_key`
const NOTE_BUCKET = `
  UPDATE provisioning_runs SET bucket_made = true WHERE tenant_key = $1 AND runner = $2
  RETURNING tenant_key`
const BEGIN_UNDO = `
  UPDATE provisioning_runs SET is_undoing = true, updated_at = now()
  WHERE tenant_key = $1 AND runner = $2 RETURNING tenant_key`
const END = 'DELETE FROM provisioning_runs WHERE tenant_key = $1 AND runner = $2'

export async function findRun(store: RegistryStore, key: string): Promise<ProvisionRun | null> {
  const [row] = await store.query(FIND, [key])
  return row === undefined ? null : (row as unknown as ProvisionRun)
}

export async function findRunOf(
  client: Pick<ClientBase, 'query'>,
  id: TenantId,
): Promise<ProvisionRun | null> {
  const { rows } = await client.query<ProvisionRun>(FIND_BY_TENANT, [id])
  return rows[0] ?? null
}

/** In a transaction of the caller's. @returns the run of this key, whoever began it */
export async function beginRun(
  client: ClientBase,
  spec: ProvisionSpec,
  tenantId: TenantId,
): Promise<ProvisionRun> {
  await client.query(BEGIN, [spec.key, tenantId, JSON.stringify(spec)])
  const { rows } = await client.query<ProvisionRun>(FIND, [spec.key])
  if (rows[0] === undefined)
    throw publicFault('CONFLICT', `the run of ${spec.key} has just ended; try again`)
  return rows[0]
}

/** Not while a process works at it, which may have used the one before. */
export async function setFirstUserHash(
  client: ClientBase,
  key: string,
  sealed: string,
): Promise<void> {
  await client.query(SET_HASH, [key, sealed])
}

/** Makes `runner` the one that works at the run; null where there is none, or another process is at it. */
export async function takeRun(
  store: RegistryStore,
  key: string,
  runner: string,
): Promise<ProvisionRun | null> {
  const [row] = await store.query(TAKE, [key, runner])
  return row === undefined ? null : (row as unknown as ProvisionRun)
}

/** What a process may do with a run as long as it has it. */
export class RunLease {
  readonly #store: RegistryStore
  readonly #key: string
  readonly #runner: string
  readonly #timer: NodeJS.Timeout

  constructor(store: RegistryStore, key: string, runner: string) {
    this.#store = store
    this.#key = key
    this.#runner = runner
    // A word that fails is made up for by the next, or by the next step, which asks.
    const renew = () => void store.query(RENEW, [key, runner]).catch(() => {})
    this.#timer = setInterval(renew, LEASE_MS / 3)
  }

  /** @throws Fault CONFLICT where another process has the run by now */
  async noteStep(step: string): Promise<void> {
    await this.#own(NOTE_STEP, [step])
  }

  /** Before it is made, or a kill in between would leave it to nobody. @throws Fault CONFLICT */
  async noteBucket(): Promise<void> {
    await this.#own(NOTE_BUCKET, [])
  }

  /** From here on there is no way back to the making of it. @throws Fault CONFLICT */
  async beginUndo(): Promise<void> {
    await this.#own(BEGIN_UNDO, [])
  }

  /** Leaves the run for whoever goes on with it, with why it stopped here. */
  async letGo(problem: string | null, errorCode: ErrorCode | null): Promise<void> {
    clearInterval(this.#timer)
    await this.#store.query(LET_GO, [this.#key, this.#runner, problem, errorCode])
  }

  /**
   * In the transaction that does the last step, which so never comes about beside what another process does.
   *
   * @throws Fault CONFLICT where one has the run by now
   */
  async endRun(client: ClientBase): Promise<void> {
    const { rowCount } = await client.query(END, [this.#key, this.#runner])
    if (rowCount !== 1) throw this.#lost()
  }

  /** The run is over, and its row gone. */
  end(): void {
    clearInterval(this.#timer)
  }

  async #own(text: string, values: readonly unknown[]): Promise<void> {
    const rows = await this.#store.query(text, [this.#key, this.#runner, ...values])
    if (rows.length === 0) throw this.#lost()
  }

  #lost(): Fault {
    return publicFault('CONFLICT', `another process works at ${this.#key} by now`)
  }
}

/**
 * Whatever is still being made has no other status and no other place before it is there.
 *
 * @throws Fault CONFLICT
 */
export async function requireNoRun(client: ClientBase, id: TenantId): Promise<void> {
  if ((await findRunOf(client, id)) === null) return
  throw publicFault('CONFLICT', 'The tenant is still being made: go on with that, or undo it.')
}
