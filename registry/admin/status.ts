import { publicFault } from '../lib/errors.ts'
import { requireNoRun } from '../provision/runs.ts'
import { mayMove, TENANT_STATUSES, type TenantId, type TenantStatus } from '../tenant.ts'
import type { TenantRow } from '../tenant-row.ts'
import type { Actor } from './actor.ts'
import { changeTenant, type Expected } from './change.ts'
import type { AdminDeps } from './deps.ts'
import { type TenantItem, tenantItem } from './item.ts'
import type { Columns } from './row.ts'

/** What leads to each status, as the audit calls it. */
const ACTIONS = {
  provisioning: 'tenant.provision',
  active: 'tenant.activate',
  maintenance: 'tenant.maintenance',
  suspended: 'tenant.suspend',
  archived: 'tenant.archive',
} as const satisfies Record<TenantStatus, string>

/**
 * Moves a tenant to `status`; gateways act on it within a second. Idempotent: a status that is set already
 * is success, and takes the new reason.
 *
 * @throws Fault NOT_FOUND, CONFLICT where its present status does not lead there, PRECONDITION_FAILED
 */
export async function setTenantStatus(
  { store }: Pick<AdminDeps, 'store'>,
  actor: Actor,
  id: TenantId,
  status: TenantStatus,
  reason: string | null,
  expected: Expected = {},
): Promise<TenantItem> {
  const change = { actor, action: ACTIONS[status], reason, expected }
  return tenantItem(
    await changeTenant(store, id, change, async (row, client) => {
      if (row.status === 'provisioning' && status !== 'provisioning') await requireNoRun(client, id)
      return statusColumns(row, status, reason)
    }),
  )
}

/** An archived tenant comes back suspended, so that somebody looks at it before it is served. */
export async function unarchiveTenant(
  { store }: Pick<AdminDeps, 'store'>,
  actor: Actor,
  id: TenantId,
  reason: string | null,
  expected: Expected = {},
): Promise<TenantItem> {
  const change = { actor, action: 'tenant.unarchive', reason, expected }
  const changed = await changeTenant(store, id, change, row => {
    if (row.status !== 'archived') throw publicFault('CONFLICT', 'the tenant is not archived')
    return statusColumns(row, 'suspended', reason)
  })
  return tenantItem(changed)
}

/** @throws Fault CONFLICT */
export function statusColumns(row: TenantRow, to: TenantStatus, reason: string | null): Columns {
  const from = TENANT_STATUSES.find(status => status === row.status)
  // A word that nobody knows leads anywhere, or an older row could never be mended.
  if (from !== undefined && !mayMove(from, to)) {
    throw publicFault('CONFLICT', `a tenant that is ${from} cannot become ${to}`)
  }
  return { status: to, status_reason: reason }
}
