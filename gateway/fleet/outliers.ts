import { isHealthy, type Replica } from './replica.ts'

/** Failures in a row, of more than one tenant, until a replica is ejected. */
const FAILURES_MAX = 5
const EJECTION_MS = 5_000
const EJECTION_MS_MAX = 300_000
/** A replica that behaved for so long after an ejection starts anew. */
const FORGIVEN_AFTER_MS = 300_000
/**
 * Never so that more of the fleet than this is out, for whatever reason: what all replicas suffer from is
 * not theirs, and two tenants whose requests fail must not take the rest of a fleet that is half there.
 */
const EJECTED_SHARE_MAX = 0.5

/** An answer that speaks for the replica: whatever the tenant's own trouble, the process works. */
export function noteSuccess({ outlier }: Replica): void {
  if (outlier.failures === 0) return
  outlier.failures = 0
  outlier.firstTenant = null
  outlier.isOfSeveralTenants = false
}

/**
 * A reset, a time-out, an invalid answer or a 5xx that no tenant's own resources explain. True where
 * it ejects the replica. Failures of one tenant alone never do: its requests may be what makes every
 * replica fail (HARDENING C.19).
 */
export function noteFailure(
  replica: Replica,
  tenant: string,
  fleet: readonly Replica[],
  nowMs: number,
): boolean {
  const { outlier } = replica
  outlier.failures++
  if (outlier.firstTenant === null) outlier.firstTenant = tenant
  else if (outlier.firstTenant !== tenant) outlier.isOfSeveralTenants = true
  if (outlier.failures < FAILURES_MAX || !outlier.isOfSeveralTenants) return false
  if (outlier.ejectedUntilMs > nowMs || !mayEject(replica, fleet, nowMs)) return false
  if (nowMs - outlier.returnedAtMs > FORGIVEN_AFTER_MS) outlier.ejections = 0
  const lastsMs = Math.min(EJECTION_MS * 2 ** outlier.ejections, EJECTION_MS_MAX)
  outlier.ejections++
  outlier.ejectedUntilMs = nowMs + lastsMs
  outlier.returnedAtMs = outlier.ejectedUntilMs
  outlier.failures = 0
  outlier.firstTenant = null
  outlier.isOfSeveralTenants = false
  return true
}

function mayEject(replica: Replica, fleet: readonly Replica[], nowMs: number): boolean {
  const out = fleet.filter(one => one !== replica && !isHealthy(one, nowMs)).length
  return out + 1 <= fleet.length * EJECTED_SHARE_MAX
}
