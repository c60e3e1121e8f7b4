import type { ClientBase } from 'pg'
import type { TenantId } from '../tenant.ts'
import type { Actor } from './actor.ts'
import type { AdminDeps } from './deps.ts'
import { wrongField } from './fields.ts'

/** Who did what. `before` and `after` hold what changed; a secret is [secret] on both sides. */
export interface AuditItem {
  readonly id: string
  readonly at: string
  readonly actor: string
  readonly action: string
  /** done or failed. */
  readonly outcome: string
  readonly tenant_id: string | null
  readonly tenant_key: string | null
  readonly request_id: string | null
  readonly reason: string | null
  readonly before: unknown
  readonly after: unknown
}

export interface AuditQuery {
  readonly tenantId?: TenantId | undefined
  readonly actor?: string | undefined
  readonly action?: string | undefined
  readonly limit: number
  /** Of the page before. */
  readonly cursor?: string | undefined
}

export interface AuditPage {
  readonly items: readonly AuditItem[]
  readonly limit: number
  readonly next_cursor: string | null
}

/** Newest first: by the column, for the id that is shown is a text. Index admin_audit_tenant, or the primary key. */
const LIST = `
  SELECT id::text, at, actor, action, outcome, tenant_id, tenant_key, request_id, reason, before, after
  FROM admin_audit
  WHERE ($1::uuid IS NULL OR tenant_id = $1) AND ($2::text IS NULL OR actor = $2)
    AND ($3::text IS NULL OR action = $3) AND ($4::bigint IS NULL OR id < $4)
  ORDER BY admin_audit.id DESC LIMIT $5`

const ADD = `
  INSERT INTO admin_audit
    (actor, action, outcome, tenant_id, tenant_key, request_id, reason, before, after)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`

/** @throws Fault VALIDATION_FAILED on a strange cursor */
export async function listAudit(
  { store }: Pick<AdminDeps, 'store'>,
  { tenantId, actor, action, limit, cursor }: AuditQuery,
): Promise<AuditPage> {
  if (cursor !== undefined && !/^\d{1,18}$/.test(cursor)) {
    throw wrongField('cursor', 'must be next_cursor of a page')
  }
  const values = [tenantId ?? null, actor ?? null, action ?? null, cursor ?? null, limit + 1]
  const rows = await store.use(
    async client => (await client.query<AuditItem & { at: Date }>(LIST, values)).rows,
  )
  const items = rows.slice(0, limit).map(row => ({ ...row, at: row.at.toISOString() }))
  return { items, limit, next_cursor: rows.length > limit ? (items.at(-1)?.id ?? null) : null }
}

export interface AuditEntry {
  readonly actor: Actor
  readonly action: string
  readonly outcome?: 'done' | 'failed'
  readonly tenantId?: string
  readonly tenantKey?: string
  readonly reason?: string | null
  /** What was there; neither this nor `details` has a secret. */
  readonly before?: Readonly<Record<string, unknown>>
  readonly details?: Readonly<Record<string, unknown>>
}

/** Tells the audit what leaves no change in a tenant's row; those tell themselves (0009_admin.sql). */
export async function addAudit(client: ClientBase, entry: AuditEntry): Promise<void> {
  const { actor, action, outcome = 'done', tenantId, tenantKey, reason, before, details } = entry
  await client.query(ADD, [
    ...[actor.name, action, outcome, tenantId ?? null, tenantKey ?? null, actor.requestId],
    ...[reason ?? null, before ?? null, details ?? null],
  ])
}
