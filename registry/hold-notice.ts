import { parseTenantId, type TenantId } from './tenant.ts'

/** That the requests of a tenant are to be held, or no longer. */
export interface HoldNotice {
  readonly tenantId: TenantId
  readonly holdId: string
  /** Moves with each change of a tenant's hold: of two notices the one with more is right. */
  readonly seq: number
  /** Milliseconds until the hold ends by itself, when this was told; 0: it is over. */
  readonly restMs: number
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** The payload of a notice, or null where it is not one of ours. */
export function parseHoldNotice(payload: string | undefined): HoldNotice | null {
  try {
    return readHoldNotice(JSON.parse(payload ?? ''))
  } catch {
    return null
  }
}

/** The same of rows that the catch-up has read. */
export function readHoldNotices(rows: unknown): HoldNotice[] {
  return (Array.isArray(rows) ? rows : []).flatMap(row => readHoldNotice(row) ?? [])
}

function readHoldNotice(value: unknown): HoldNotice | null {
  const { tenant, hold, seq, rest_ms } = (value ?? {}) as Record<string, unknown>
  const tenantId = parseTenantId(tenant)
  if (tenantId === null || typeof hold !== 'string' || !UUID.test(hold)) return null
  if (!Number.isSafeInteger(seq)) return null
  if (typeof rest_ms !== 'number' || !Number.isFinite(rest_ms) || rest_ms < 0) return null
  return { tenantId, holdId: hold, seq: seq as number, restMs: rest_ms }
}
