import type { ClientBase } from 'pg'
import { Fault, publicFault } from '../lib/errors.ts'
import type { TenantId } from '../tenant.ts'
import type { TenantRow } from '../tenant-row.ts'
import { type Actor, covers } from './actor.ts'
import { type Expected, requireExpected, tellAudit } from './change.ts'
import type { AdminDeps } from './deps.ts'
import { wrongField } from './fields.ts'
import { readRow, versionOf } from './row.ts'

const DAY_MS = 86_400_000

const DELETE = 'DELETE FROM tenants WHERE id = $1 AND config_version = $2'
const DELETE_ROTATION = 'DELETE FROM tenant_rotations WHERE tenant_id = $1'

export interface Removal {
  /** The tenant's key, typed once more. */
  readonly confirm: string
  /** Before the grace period is over; scope own. */
  readonly force: boolean
  readonly reason: string | null
  /** What goes with the row: where it throws, the row stays. */
  readonly beforeCommit?: (client: ClientBase) => Promise<void>
}

/**
 * Deletes a tenant from the Registry: one that is archived, and has been for the grace period. Its database
 * and bucket stay as they are, and so do its usage and its audit.
 *
 * @throws Fault NOT_FOUND, CONFLICT, VALIDATION_FAILED, ADMIN_SCOPE_TOO_NARROW, PRECONDITION_FAILED
 */
export async function removeTenant(
  { store, archiveGraceDays }: Pick<AdminDeps, 'store' | 'archiveGraceDays'>,
  actor: Actor,
  id: TenantId,
  { confirm, force, reason, beforeCommit }: Removal,
  expected: Expected = {},
): Promise<{ readonly id: string; readonly tenant_key: string }> {
  if (force && !covers(actor.scope, 'own')) {
    throw new Fault('ADMIN_SCOPE_TOO_NARROW', 'force needs scope own')
  }
  return store.transaction(async client => {
    await tellAudit(client, { actor, action: 'tenant.delete', reason })
    const row = await readRow(client, id)
    requireExpected(row, expected)
    const key = String(row.tenant_key)
    if (confirm !== key) throw wrongField('confirm', 'must be the key of the tenant')
    requireRemovable(row, archiveGraceDays, force)
    const { rowCount } = await client.query(DELETE, [id, versionOf(row)])
    if (rowCount !== 1)
      throw publicFault('CONFLICT', 'The tenant was changed meanwhile; read it again.')
    await client.query(DELETE_ROTATION, [id])
    await beforeCommit?.(client)
    return { id: String(row.id), tenant_key: key }
  })
}

/** @throws Fault CONFLICT where it is not archived, or not for long enough */
export function requireRemovable(row: TenantRow, graceDays: number, force: boolean): void {
  if (row.status !== 'archived')
    throw publicFault('CONFLICT', 'Only an archived tenant can be deleted.')
  const since = row.archived_at instanceof Date ? row.archived_at.getTime() : Date.now()
  const earliest = new Date(since + graceDays * DAY_MS)
  if (!force && earliest.getTime() > Date.now()) {
    throw publicFault('CONFLICT', `The tenant can be deleted from ${earliest.toISOString()} on.`)
  }
}
