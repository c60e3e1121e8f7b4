import { REQUEST_SKEW_MS } from '../../registry/context.ts'
import { Fault } from '../../registry/lib/errors.ts'
import type { TenantId } from '../../registry/tenant.ts'

/**
 * The request ids that were seen and whose headers are still young enough to be accepted. A header
 * may be REQUEST_SKEW_MS early as well as late, so an id is kept until its own `iat` plus the skew,
 * not until a time counted from its arrival.
 */
export interface ReplayGuard {
  readonly size: number
  /**
   * @throws Fault CONTEXT_INVALID where the id was seen before
   * @throws Fault INTERNAL where the guard is full: it fails closed, because an id that is forgotten
   *   early is a request that can be replayed
   */
  admit(tenant: TenantId, requestId: string, issuedAtMs: number, nowMs: number): void
}

/** A longer id is refused, so that the guard's memory is bounded by its number of entries. */
const REQUEST_ID_CHARS_MAX = 128

/**
 * @param idsMax about 120 bytes each (`npm run bench -- binding`); 500,000 hold 8,000 requests per second
 *   for the whole window
 */
export function makeReplayGuard(idsMax: number): ReplayGuard {
  const seen = new Set<string>()
  /** Ids by the second of their `iat`; a second is dropped as a whole. */
  const bySecond = new Map<number, string[]>()
  let sweptSecond = 0

  function sweep(nowMs: number) {
    const oldest = Math.floor((nowMs - REQUEST_SKEW_MS) / 1000)
    if (oldest <= sweptSecond) return
    sweptSecond = oldest
    for (const [second, ids] of bySecond) {
      if (second >= oldest) continue
      for (const id of ids) seen.delete(id)
      bySecond.delete(second)
    }
  }

  return {
    get size() {
      return seen.size
    },
    admit(tenant, requestId, issuedAtMs, nowMs) {
      if (requestId.length === 0 || requestId.length > REQUEST_ID_CHARS_MAX) {
        throw new Fault('CONTEXT_INVALID', 'request id is empty or too long')
      }
      sweep(nowMs)
      const id = flatCopy(tenant, requestId)
      if (seen.has(id)) throw new Fault('CONTEXT_INVALID', 'request id seen before')
      if (seen.size >= idsMax) throw new Fault('INTERNAL', 'replay guard is full: REPLAY_IDS_MAX')
      seen.add(id)
      const second = Math.floor(issuedAtMs / 1000)
      const ids = bySecond.get(second)
      if (ids === undefined) bySecond.set(second, [id])
      else ids.push(id)
    },
  }
}

const scratch = Buffer.alloc(64 + REQUEST_ID_CHARS_MAX)

/**
 * Both texts in a string of its own. `tenant + requestId` would be a pair of references, and the id a
 * part of its header: V8 would keep the whole header, up to 4 KiB, for as long as the id.
 */
function flatCopy(tenant: TenantId, requestId: string): string {
  // A UUID, and octets that came in a header: neither has a character beyond Latin-1.
  const tenantBytes = scratch.write(tenant, 'latin1')
  const end = tenantBytes + scratch.write(requestId, tenantBytes, 'latin1')
  return scratch.toString('latin1', 0, end)
}
