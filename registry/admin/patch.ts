import { requireFreeDatabase } from '../database-place.ts'
import { requireNoRun } from '../provision/runs.ts'
import type { TenantId } from '../tenant.ts'
import type { TenantRow } from '../tenant-row.ts'
import type { Actor } from './actor.ts'
import { changeTenant, requireExpected } from './change.ts'
import type { AdminDeps } from './deps.ts'
import { type PatchInput, wrongField } from './fields.ts'
import { type TenantItem, tenantItem } from './item.ts'
import { columnsOf, movesDatabase, requirePasswordForMove, requireSound } from './merge.ts'
import { requireWorking } from './probe.ts'
import { type Columns, requireRow, versionOf } from './row.ts'
import { statusColumns } from './status.ts'

/**
 * Changes what is given of a tenant and leaves the rest. New connection details are tested before they are
 * saved, unless `verify` is false; apps take them from the next context on, and drain the old pool.
 *
 * @param ifMatch versions that the caller takes; null: any
 * @throws Fault NOT_FOUND, VALIDATION_FAILED, CONFLICT, PRECONDITION_FAILED, CONNECTION_TEST_FAILED
 */
export async function patchTenant(
  deps: AdminDeps,
  actor: Actor,
  id: TenantId,
  input: PatchInput,
  ifMatch: readonly number[] | null = null,
): Promise<TenantItem> {
  const seen = await requireRow(deps.store, id)
  requireExpected(seen, { ifMatch, basedOn: input.config_version })
  requirePasswordForMove(seen, input, actor.scope)
  const columns: Columns = {
    ...columnsOf(await deps.keyring(), id, input),
    ...statusOf(seen, input),
    ...sessionsOf(seen, input),
  }
  requireSound(seen, columns, deps)
  if (input.verify) await requireWorking(deps, seen, columns)
  // The test took its time: what it found is of this version and of no other.
  const expected = { ifMatch, basedOn: versionOf(seen) }
  const change = { actor, action: 'tenant.update', reason: input.status_reason ?? null, expected }
  const changed = await changeTenant(deps.store, id, change, async (row, client) => {
    if (row.status === 'provisioning' && (columns.status !== undefined || movesDatabase(columns))) {
      await requireNoRun(client, id)
    }
    const place = movedPlace(row, columns)
    if (place !== null && !input.allow_shared_database) {
      await requireFreeDatabase(client, id, place)
    }
    return columns
  })
  return tenantItem(changed)
}

function statusOf(row: TenantRow, { status, status_reason }: PatchInput): Columns {
  if (status !== undefined) return statusColumns(row, status, status_reason ?? null)
  return status_reason === undefined ? {} : { status_reason }
}

/** "Sign everyone out" never goes back: a token that was refused must not come to life. */
function sessionsOf(row: TenantRow, { tokens_valid_after: after }: PatchInput): Columns {
  if (after === undefined) return {}
  const present = row.tokens_valid_after
  if (present instanceof Date && Date.parse(after) < present.getTime()) {
    throw wrongField('tokens_valid_after', 'must not go back')
  }
  return { tokens_valid_after: after }
}

/** Where the database will be, where `columns` say something of it and all of it is known. */
function movedPlace(row: TenantRow, columns: Columns) {
  const names = ['db_host', 'db_port', 'db_name']
  if (!names.some(name => columns[name] !== undefined)) return null
  const { db_host: host, db_port: port, db_name: name } = { ...row, ...columns } as TenantRow
  if (typeof host !== 'string' || typeof name !== 'string') return null
  return { host, port: Number(port ?? 5432), name }
}
