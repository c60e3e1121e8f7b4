import type { ClientBase } from 'pg'
import { openConnections } from '../connection.ts'
import { type Fault, publicFault } from '../lib/errors.ts'
import { closePg, connectPg } from '../lib/pg.ts'
import type { RegistryStore } from '../store.ts'
import type { TenantId } from '../tenant.ts'
import { parseTenantRow, type TenantRow } from '../tenant-row.ts'
import type { Actor } from './actor.ts'
import { changeTenant } from './change.ts'
import type { AdminDeps } from './deps.ts'
import { databaseProblem, tenantLimits, tenantTarget } from './probe-database.ts'
import { requireRow } from './row.ts'

/** A rotation takes seconds; one that is older was cut short. */
const UNDER_WAY_S = 60
/** Settled in one sweep. */
const DUE_MAX = 10

const BEGIN = `
  INSERT INTO tenant_rotations (tenant_id, db_password_encrypted, actor) VALUES ($1, $2, $3)
  ON CONFLICT DO NOTHING`
const FIND = `
  SELECT db_password_encrypted, actor, started_at < now() - interval '${UNDER_WAY_S} s' AS is_cut_short
  FROM tenant_rotations WHERE tenant_id = $1`
const END = 'DELETE FROM tenant_rotations WHERE tenant_id = $1 AND db_password_encrypted = $2'
const DUE = `
  SELECT tenant_id FROM tenant_rotations WHERE started_at < now() - interval '${UNDER_WAY_S} s'
  ORDER BY started_at LIMIT ${DUE_MAX}`

/** @throws Fault CONFLICT where another rotation of the tenant is under way */
export async function beginRotation(
  store: RegistryStore,
  id: TenantId,
  sealed: string,
  actor: Actor,
): Promise<void> {
  const { rowCount } = await store.use(client => client.query(BEGIN, [id, sealed, actor.name]))
  if (rowCount !== 1) throw underWay()
}

/** In the transaction that saves the password. @throws Fault CONFLICT where it was settled meanwhile */
export async function endRotation(client: ClientBase, id: TenantId, sealed: string): Promise<void> {
  const { rowCount } = await client.query(END, [id, sealed])
  if (rowCount !== 1) throw underWay()
}

/** @throws Fault CONFLICT where one is under way; one that was cut short is settled */
export async function requireNoRotation(deps: AdminDeps, id: TenantId): Promise<void> {
  const found = await findRotation(deps.store, id)
  if (found === null) return
  if (!found.isCutShort) throw underWay()
  await settleRotation(deps, id)
}

/** Settles what was cut short by a crash, of whichever process. Failures are left for the next sweep. */
export async function settleRotations(deps: AdminDeps): Promise<void> {
  const { rows } = await deps.store.use(client => client.query<{ tenant_id: TenantId }>(DUE))
  for (const { tenant_id: tenantId } of rows) {
    try {
      const settled = await settleRotation(deps, tenantId)
      deps.log.warn({ tenantId, password: settled }, 'a rotation was cut short, settled now')
    } catch (error) {
      deps.log.error(
        { tenantId, err: error },
        'a rotation was cut short, and cannot be settled yet',
      )
    }
  }
}

/**
 * Finds out which password opens the database, the one on record or the tenant's own, and saves it.
 *
 * @returns which it was; none: there was nothing to settle
 * @throws Fault CONNECTION_TEST_FAILED where neither could be shown to work; both are kept then
 */
export async function settleRotation(
  deps: AdminDeps,
  id: TenantId,
): Promise<'new' | 'old' | 'none'> {
  const { store } = deps
  const found = await findRotation(store, id)
  if (found === null) return 'none'
  const { sealed, actor } = found
  const row = await requireRow(store, id)
  if (row.db_password_encrypted === sealed) {
    await store.use(client => client.query(END, [id, sealed]))
    return 'new'
  }
  const isNew = await opens(deps, { ...row, db_password_encrypted: sealed })
  if (!isNew && !(await opens(deps, row))) {
    const text = 'database: neither the old nor the new password works'
    throw publicFault('CONNECTION_TEST_FAILED', text)
  }
  const change = {
    actor: { name: actor, scope: 'operate', requestId: null },
    action: 'tenant.rotate_credentials',
    reason: 'settled after it was cut short',
  } as const
  if (isNew) {
    await changeTenant(store, id, change, async (_row, client) => {
      await client.query(END, [id, sealed])
      return { db_password_encrypted: sealed }
    })
    return 'new'
  }
  await store.use(client => client.query(END, [id, sealed]))
  return 'old'
}

/** @throws Fault CONNECTION_TEST_FAILED where the answer says nothing of the password */
export async function opens(deps: AdminDeps, row: TenantRow): Promise<boolean> {
  const { db } = openConnections(await deps.keyring(), parseTenantRow(row))
  try {
    await closePg(await connectPg(tenantTarget(db, deps), tenantLimits(deps)))
    return true
  } catch (error) {
    if ((error as { code?: string }).code === '28P01') return false
    const [, problem] = databaseProblem(error)
    const text = `database: ${problem}`
    throw publicFault('CONNECTION_TEST_FAILED', text)
  }
}

interface FoundRotation {
  readonly sealed: string
  readonly actor: string
  readonly isCutShort: boolean
}

async function findRotation(store: RegistryStore, id: TenantId): Promise<FoundRotation | null> {
  const { rows } = await store.use(client => client.query<Record<string, unknown>>(FIND, [id]))
  const [row] = rows
  if (row === undefined) return null
  return {
    sealed: String(row.db_password_encrypted),
    actor: String(row.actor),
    isCutShort: row.is_cut_short === true,
  }
}

function underWay(): Fault {
  const text = 'A rotation of this tenant is under way.'
  return publicFault('CONFLICT', text)
}
