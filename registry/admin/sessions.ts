import type { TenantId } from '../tenant.ts'
import type { Actor } from './actor.ts'
import { changeTenant, type Expected } from './change.ts'
import type { AdminDeps } from './deps.ts'
import { type TenantItem, tenantItem } from './item.ts'

/** By the Registry's clock, as revokeSessions of revocation-rows.ts. */
const NOW = 'SELECT greatest($1::timestamptz, clock_timestamp())::text AS now'

/**
 * "Sign everyone out": tokens issued before now are refused, on every gateway within a second. It never
 * goes back: a time in the future that somebody set stays.
 *
 * @throws Fault NOT_FOUND, PRECONDITION_FAILED
 */
export async function revokeTenantSessions(
  { store }: Pick<AdminDeps, 'store'>,
  actor: Actor,
  id: TenantId,
  reason: string | null,
  expected: Expected = {},
): Promise<TenantItem> {
  const change = { actor, action: 'tenant.revoke_sessions', reason, expected }
  const changed = await changeTenant(store, id, change, async (row, client) => {
    const { rows } = await client.query<{ now: string }>(NOW, [row.tokens_valid_after])
    return { tokens_valid_after: rows[0]?.now }
  })
  return tenantItem(changed)
}
