import { publicFault } from '../lib/errors.ts'
import type { Actor } from './actor.ts'
import { addAudit } from './audit.ts'
import type { AdminDeps } from './deps.ts'

/** Nobody takes away the trace of the last days, not even an owner by this. */
export const PRUNE_DAYS_MIN = 30
/** Rows in one transaction: a second or so, for which nobody waits. */
const BATCH_ROWS = 10_000
const DAY_MS = 86_400_000

const COUNT = `
  SELECT count(*)::int AS rows FROM admin_audit WHERE at < $1 AND action <> 'audit.prune'`
/** Let through by admin_audit_append_only() for as long as this transaction lasts. */
const ALLOW = "SELECT set_config('doorman.audit_prune', 'on', true)"
/** In the order of the primary key, which is that of time. */
const PRUNE = `
  WITH gone AS (
    DELETE FROM admin_audit WHERE id IN (
      SELECT id FROM admin_audit WHERE at < $1 AND action <> 'audit.prune' ORDER BY id LIMIT $2)
    RETURNING id, at
  )
  SELECT count(*)::int AS rows, min(id)::text AS "firstId", max(id)::text AS "lastId",
    min(at) AS "firstAt", max(at) AS "lastAt" FROM gone`

/** How many rows a pruning would take away. @throws Fault VALIDATION_FAILED */
export async function countPrunable(
  { store }: Pick<AdminDeps, 'store'>,
  before: Date,
): Promise<number> {
  requireOld(before)
  const [row] = await store.query(COUNT, [before])
  return Number(row?.rows)
}

/**
 * Takes away what the audit holds of before a time; the audit is kept for ever otherwise. Each batch leaves a row of
 * itself in its own transaction, and those rows are never taken away.
 *
 * @returns how many rows went
 * @throws Fault VALIDATION_FAILED where that time is in the last 30 days
 */
export async function pruneAudit(
  { store }: Pick<AdminDeps, 'store'>,
  actor: Actor,
  before: Date,
  onProgress: (rows: number) => void = () => {},
  batchRows = BATCH_ROWS,
): Promise<number> {
  requireOld(before)
  for (let total = 0; ; ) {
    const rows = await store.transaction(async client => {
      await client.query(ALLOW)
      const pruned = await client.query<{ rows: number }>(PRUNE, [before, batchRows])
      const [gone] = pruned.rows
      if (gone === undefined || gone.rows === 0) return 0
      const details = { before: before.toISOString(), ...gone }
      await addAudit(client, { actor, action: 'audit.prune', details })
      return gone.rows
    })
    total += rows
    if (rows < batchRows) return total
    onProgress(total)
  }
}

function requireOld(before: Date): void {
  if (before.getTime() <= Date.now() - PRUNE_DAYS_MIN * DAY_MS) return
  const text = `before: must be at least ${PRUNE_DAYS_MIN} days ago`
  throw publicFault('VALIDATION_FAILED', text)
}
