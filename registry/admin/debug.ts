import type { TenantId } from '../tenant.ts'
import type { Actor } from './actor.ts'
import { changeTenant, type Expected } from './change.ts'
import type { AdminDeps } from './deps.ts'
import { type TenantItem, tenantItem } from './item.ts'

/** Who forgets to end it has not filled a log store by then. */
export const DEBUG_MINUTES_MAX = 60

/** By the Registry's clock: gateways may be wrong by seconds. */
const UNTIL = `SELECT (clock_timestamp() + $1 * interval '1 minute')::text AS until`

/**
 * Has every gateway log each request of a tenant with timings and reasons, and keep its traces, for so long. A second
 * call sets the end anew.
 *
 * @throws Fault NOT_FOUND, PRECONDITION_FAILED
 */
export async function startDebug(
  { store }: Pick<AdminDeps, 'store'>,
  actor: Actor,
  id: TenantId,
  { minutes, reason }: { readonly minutes: number; readonly reason: string },
  expected: Expected = {},
): Promise<TenantItem> {
  const change = { actor, action: 'tenant.debug', reason, expected }
  const changed = await changeTenant(store, id, change, async (_, client) => {
    const { rows } = await client.query<{ until: string }>(UNTIL, [minutes])
    return { debug_until: rows[0]?.until }
  })
  return tenantItem(changed)
}

/** Ends it before its time; where nothing is under way nothing changes. */
export async function endDebug(
  { store }: Pick<AdminDeps, 'store'>,
  actor: Actor,
  id: TenantId,
  expected: Expected = {},
): Promise<TenantItem> {
  const change = { actor, action: 'tenant.debug_end', expected }
  const changed = await changeTenant(store, id, change, row =>
    row.debug_until === null ? {} : { debug_until: null },
  )
  return tenantItem(changed)
}
