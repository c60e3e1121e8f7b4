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

export interface Debugged {
  readonly id: string
  readonly tenant_key: string
  readonly debug_until: string
  /** Who began it, and why; null where the audit has been pruned, or the column was written by hand. */
  readonly actor: string | null
  readonly reason: string | null
}

/** Those that are looked at now, the one whose time ends first before the others. */
const LIST = `
  SELECT t.id, t.tenant_key, t.debug_until, a.actor, a.reason
  FROM tenants t LEFT JOIN LATERAL (
    SELECT actor, reason FROM admin_audit
    WHERE tenant_id = t.id AND action = 'tenant.debug' ORDER BY id DESC LIMIT 1
  ) a ON true
  WHERE t.debug_until > clock_timestamp()
  ORDER BY t.debug_until, t.tenant_key LIMIT $1`
const LIST_MAX = 1000

/** Every tenant that is looked at closely at this moment, 1,000 at most. */
export async function listDebugged({ store }: Pick<AdminDeps, 'store'>): Promise<Debugged[]> {
  const rows = await store.use(
    async client => (await client.query<Debugged & { debug_until: Date }>(LIST, [LIST_MAX])).rows,
  )
  return rows.map(row => ({ ...row, debug_until: row.debug_until.toISOString() }))
}
