import type { ClientBase } from 'pg'
import { Fault, publicFault } from '../lib/errors.ts'
import type { RegistryStore } from '../store.ts'
import type { TenantId } from '../tenant.ts'
import type { TenantRow } from '../tenant-row.ts'
import type { Actor } from './actor.ts'
import { type Columns, readRow, updateRow, versionOf } from './row.ts'

/** Which version of the tenant the caller has seen; empty: it takes the tenant as it is. */
export interface Expected {
  /** The tags of If-Match as they came, for what has no number of a version. null: none was given. */
  readonly tags?: readonly string[] | null
  /** If-None-Match: *: 412 where there is one already. */
  readonly isNew?: boolean
  /** The versions of If-Match: 412 where the tenant has another. null: none was given. */
  readonly ifMatch?: readonly number[] | null
  /** The version that the change was worked out on: 409 where the tenant has another. */
  readonly basedOn?: number | undefined
}

export interface Change {
  readonly actor: Actor
  /** What the audit calls it: tenant.update, tenant.suspend, … */
  readonly action: string
  readonly reason?: string | null
  readonly expected?: Expected
}

/** What to set, from the row as it is. */
export type Work = (row: TenantRow, client: ClientBase) => Columns | Promise<Columns>

/** Somebody else changes the same tenant at the same moment: how often the change is worked out anew. */
const ATTEMPTS_MAX = 5

/**
 * Changes one tenant in one transaction, the audit's row included.
 *
 * @param work what to set, from the row as it is; nothing: no change. It runs anew where the row moved
 * @throws Fault NOT_FOUND, PRECONDITION_FAILED, CONFLICT
 */
export async function changeTenant(
  store: RegistryStore,
  id: TenantId,
  change: Change,
  work: Work,
): Promise<TenantRow> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    const changed = await store.transaction(client => changeOnce(client, id, change, work))
    if (changed !== null) return changed
  }
  throw stale()
}

/** The same within a transaction of the caller's; null where the row moved meanwhile. */
export async function changeOnce(
  client: ClientBase,
  id: TenantId,
  change: Change,
  work: Work,
): Promise<TenantRow | null> {
  await tellAudit(client, change)
  const row = await readRow(client, id)
  requireExpected(row, change.expected)
  const columns = await work(row, client)
  if (Object.keys(columns).length === 0) return row
  return updateRow(client, id, versionOf(row), columns)
}

/** @throws Fault PRECONDITION_FAILED, CONFLICT */
export function requireExpected(row: TenantRow, expected: Expected = {}): void {
  const { ifMatch = null, basedOn } = expected
  const version = versionOf(row)
  if (ifMatch !== null && !ifMatch.includes(version)) {
    throw new Fault('PRECONDITION_FAILED', `the tenant is at version ${version}`)
  }
  if (basedOn !== undefined && basedOn !== version) throw stale()
}

/** For the audit's trigger, until the end of the transaction. */
export async function tellAudit(client: ClientBase, change: Change): Promise<void> {
  const { actor, action, reason } = change
  await client.query(
    `SELECT set_config('doorman.actor', $1, true), set_config('doorman.action', $2, true),
       set_config('doorman.request_id', $3, true), set_config('doorman.reason', $4, true)`,
    [actor.name, action, actor.requestId ?? '', reason ?? ''],
  )
}

export function stale(): Fault {
  const text = 'The tenant was changed by someone else meanwhile; read it again.'
  return publicFault('CONFLICT', text)
}
