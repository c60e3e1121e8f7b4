import type { Tenant } from '../../registry/tenant.ts'

export const SPREAD_MAX = 64

/**
 * Connections to its database that a tenant may hold in the whole fleet (`tenants.db_pool_max`), or
 * null: each replica's own DB_POOL_MAX.
 */
export function connectionBudget(tenant: Tenant): number | null {
  return tenant.db.poolMax
}

/**
 * Replicas that serve the tenant: `limits.spread` of the tenant, else TENANT_SPREAD; never more than
 * its connection budget, for each of them holds one at least.
 */
export function spreadOf(tenant: Tenant, standard: number): number {
  const own = tenant.limits.spread
  const wanted = typeof own === 'number' && Number.isInteger(own) && own >= 1 ? own : standard
  return Math.min(wanted, SPREAD_MAX, connectionBudget(tenant) ?? SPREAD_MAX)
}

/**
 * `pool_max` of the tenant's context: its budget divided by its replicas, so that connections are
 * tenants × k × pool and not tenants × replicas × pool. Null where it has no budget of its own.
 */
export function poolMaxPerReplica(tenant: Tenant, standard: number): number | null {
  const budget = connectionBudget(tenant)
  // A dedicated tenant's own deployment may have replicas that nobody here can count.
  if (budget === null || (tenant.mode === 'dedicated' && tenant.appUrl !== null)) return budget
  return Math.max(1, Math.floor(budget / spreadOf(tenant, standard)))
}
