import { requireFreeDatabase } from '../database-place.ts'
import { Fault } from '../lib/errors.ts'
import type { Actor } from './actor.ts'
import { tellAudit } from './change.ts'
import type { AdminDeps } from './deps.ts'
import type { CreateInput } from './fields.ts'
import { isMadeBefore, newTenantId } from './idempotency.ts'
import { type TenantItem, tenantItem } from './item.ts'
import { getTenant } from './list.ts'
import { columnsOf, requireSound } from './merge.ts'
import { draftRow, requireWorking } from './probe.ts'
import { type Columns, insertRow } from './row.ts'

/**
 * Registers a tenant whose database exists. Gateways serve it as soon as this resolves: the notice of its
 * row makes them forget that it was unknown.
 *
 * @param idempotencyKey a repeated request with it is answered with the tenant that the first has made
 * @throws Fault VALIDATION_FAILED, CONNECTION_TEST_FAILED, CONFLICT where the key, the bucket or the
 *   database is taken
 */
export async function createTenant(
  deps: AdminDeps,
  actor: Actor,
  input: CreateInput,
  idempotencyKey: string | null = null,
): Promise<TenantItem> {
  const id = newTenantId(actor, idempotencyKey)
  if (idempotencyKey !== null && (await isMadeBefore(deps.store, id, input.tenant_key))) {
    return getTenant(deps, id)
  }
  const { tenant_key: key, status, verify, allow_shared_database: isShared } = input
  const columns: Columns = {
    db_port: 5432,
    mode: 'shared',
    ...columnsOf(await deps.keyring(), id, input),
    status,
  }
  requireSound({}, columns, deps)
  if (verify) await requireWorking(deps, draftRow(id, key), columns)
  const created = await deps.store.transaction(async client => {
    await tellAudit(client, { actor, action: 'tenant.create' })
    if (!isShared) {
      const { db_host: host, db_name: name } = input
      await requireFreeDatabase(client, id, { host, port: Number(columns.db_port), name })
    }
    return insertRow(client, id, key, columns)
  })
  const item = tenantItem(created)
  if (item.problem === null) return item
  // Nothing that passed the checks above leads here, but what was just made must not be half a tenant.
  throw new Fault('INTERNAL', `tenant ${id} was created and cannot be served: ${item.problem}`)
}
