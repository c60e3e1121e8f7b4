import { type HoldNotice, readHoldNotices } from './hold-notice.ts'
import { readRevocation } from './revocation-rows.ts'
import type { RegistryStore } from './store.ts'
import { parseTenantId, type TenantId } from './tenant.ts'
import type { TenantRow } from './tenant-row.ts'
import type { Revocation } from './token-id.ts'

export type ChangeOp = 'insert' | 'update' | 'delete'

/** That a tenant changed, as the trigger or the catch-up tells it. */
export interface TenantChange {
  readonly id: TenantId
  /** Its key now, as it stands in the row (not necessarily one that may log in). */
  readonly key: string
  readonly version: number
  readonly op: ChangeOp
}

/** Opaque: where the next catch-up begins. */
export type ChangeCursor = string & { readonly __brand: 'ChangeCursor' }

export interface ChangeSet {
  readonly cursor: ChangeCursor
  readonly changes: readonly TenantChange[]
  /** True where `changes` is not all that happened: everything must be read anew. */
  readonly isGap: boolean
  readonly revocations: readonly Revocation[]
  /** The same for `revocations`. */
  readonly isRevocationGap: boolean
  /** All holds of the last minutes, changed or not: they are few. */
  readonly holds: readonly HoldNotice[]
}

/** More changes than this in one catch-up are a gap: reading everything anew is cheaper. */
const CHANGES_MAX = 1000
/** The same of revoked tokens, which are small and may come in masses. */
const REVOCATIONS_MAX = 10_000

/**
 * Holds that a gateway may not have heard of, or whose end it may have missed. The table is as small as the
 * operators' work of the last hour, so that no cursor is needed: a notice that is old news does nothing.
 */
const RECENT_HOLDS = `
    (SELECT coalesce(json_agg(h), '[]') FROM (
      SELECT tenant_id AS tenant, hold_id AS hold, seq, CASE WHEN released_at IS NULL
        THEN greatest(0, ceil(extract(epoch FROM expires_at - clock_timestamp()) * 1000))
        ELSE 0 END AS rest_ms
      FROM tenant_holds WHERE expires_at > now() - interval '5 minutes'
    ) AS h) AS holds`

/**
 * The watch's second net, every 5 s. Index tenants_changed_xid, tenant_tombstones_changed_xid,
 * revoked_tokens_changed_xid.
 *
 * Gap-free and without repeats: the cursor is the snapshot of the last read, and what that snapshot did
 * not see is exactly what is new, in whatever order versions were drawn and transactions committed. The
 * upper bound is for rows restored from another cluster, whose ids may be of this one's future.
 */
const CHANGED_SINCE = `
  SELECT pg_current_snapshot()::text AS cursor,
    pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax($1::pg_snapshot) AS is_back_in_time,
    (SELECT coalesce(json_agg(c), '[]') FROM (
      SELECT id, key, config_version::text AS version, op FROM (
        SELECT id, tenant_key::text AS key, config_version, changed_xid, 'update' AS op FROM tenants
          WHERE changed_xid >= pg_snapshot_xmin($1::pg_snapshot)
        UNION ALL
        SELECT id, tenant_key, config_version, changed_xid, 'delete' FROM tenant_tombstones
          WHERE changed_xid >= pg_snapshot_xmin($1::pg_snapshot)
      ) AS changed
      WHERE changed_xid < pg_snapshot_xmax(pg_current_snapshot())
        AND NOT pg_visible_in_snapshot(changed_xid, $1::pg_snapshot)
      ORDER BY config_version LIMIT $2
    ) AS c) AS changes,
    (SELECT coalesce(json_agg(r), '[]') FROM (
      SELECT tenant_id, token_id, ceil(extract(epoch FROM expires_at)) AS expires_at_s
      FROM revoked_tokens
      WHERE changed_xid >= pg_snapshot_xmin($1::pg_snapshot)
        AND changed_xid < pg_snapshot_xmax(pg_current_snapshot())
        AND NOT pg_visible_in_snapshot(changed_xid, $1::pg_snapshot)
      LIMIT $3
    ) AS r) AS revocations,${RECENT_HOLDS}`

/** Where the watch begins. */
const CURRENT_SNAPSHOT = `
  SELECT pg_current_snapshot()::text AS cursor,${RECENT_HOLDS}`

/** What changed since `cursor`; with null, where to begin, which is a gap by definition. */
export async function changedSince(
  store: Pick<RegistryStore, 'query'>,
  cursor: ChangeCursor | null,
): Promise<ChangeSet> {
  if (cursor === null) {
    const [row] = await store.query(CURRENT_SNAPSHOT, [])
    const from = String(row?.cursor) as ChangeCursor
    const holds = readHoldNotices(row?.holds)
    return {
      cursor: from,
      changes: [],
      isGap: true,
      revocations: [],
      isRevocationGap: true,
      holds,
    }
  }
  const limits = [CHANGES_MAX + 1, REVOCATIONS_MAX + 1]
  const [row] = await store.query(CHANGED_SINCE, [cursor, ...limits])
  const rows = row?.changes as readonly Record<string, string>[]
  const changes = rows.flatMap(({ id, key, version, op }) => {
    const parsed = parseTenantId(id)
    return parsed === null
      ? []
      : [{ id: parsed, key: String(key), version: Number(version), op: op as ChangeOp }]
  })
  const revoked = ((row?.revocations ?? []) as readonly TenantRow[]).map(readRevocation)
  const isBackInTime = row?.is_back_in_time === true
  return {
    cursor: String(row?.cursor) as ChangeCursor,
    changes: changes.slice(0, CHANGES_MAX),
    isGap: isBackInTime || changes.length > CHANGES_MAX,
    revocations: revoked.slice(0, REVOCATIONS_MAX),
    isRevocationGap: isBackInTime || revoked.length > REVOCATIONS_MAX,
    holds: readHoldNotices(row?.holds),
  }
}
