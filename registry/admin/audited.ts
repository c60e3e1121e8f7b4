import { Fault } from '../lib/errors.ts'
import type { Actor } from './actor.ts'
import { type AuditEntry, addAudit } from './audit.ts'
import type { AdminDeps } from './deps.ts'

type Entry = Omit<AuditEntry, 'actor' | 'outcome'>

/**
 * Does what leaves no change in a tenant's row, and tells the audit how it ended: a hold, a user in the tenant's
 * own database, an export. What changes a row tells itself, by the trigger of 0009_admin.sql.
 *
 * @param entry or what makes it from the result; it never holds a secret
 */
export async function audited<T>(
  deps: Pick<AdminDeps, 'store'> & { readonly actor: Actor },
  entry: Entry,
  work: () => Promise<T>,
  detailsOf: (result: T) => Entry['details'] = () => undefined,
): Promise<T> {
  const { store, actor } = deps
  let result: T
  try {
    result = await work()
  } catch (error) {
    const details = { ...entry.details, code: error instanceof Fault ? error.code : 'FAILED' }
    const failed: AuditEntry = { ...entry, actor, outcome: 'failed', details }
    // Why it failed is worth more to whoever waits than that the Registry is gone as well.
    await store.use(client => addAudit(client, failed)).catch(() => {})
    throw error
  }
  const details = { ...entry.details, ...detailsOf(result) }
  await store.use(client => addAudit(client, { ...entry, actor, details }))
  return result
}
