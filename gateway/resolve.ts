import { Fault } from '../registry/lib/errors.ts'
import { isSameIssuer, type Tenant, type TenantKey, type TenantRef } from '../registry/tenant.ts'
import type { Exchange } from './exchange.ts'
import { requireSchema } from './schema-gate.ts'
import type { TenantSource } from './tenant-source.ts'

/** True where the tenant was at hand. False: `resolve` has to wait for the Registry. */
export function resolveNow(
  exchange: Exchange,
  tenants: TenantSource,
  schemaMin: string | null,
): boolean {
  const tenant = tenants.peek(exchange.tenantRef as TenantRef)
  if (tenant === undefined) return false
  exchange.tenant = requireSchema(admitTenant(exchange, tenant), schemaMin)
  return true
}

/** @param decoyKey the tenant at which a login of none is carried out; null: it is refused here */
export async function resolve(
  exchange: Exchange,
  tenants: TenantSource,
  decoyKey: TenantKey | null,
  schemaMin: string | null,
): Promise<void> {
  const tenant = await tenants.get(exchange.tenantRef as TenantRef)
  try {
    exchange.tenant = requireSchema(admitTenant(exchange, tenant), schemaMin)
  } catch (error) {
    const isNone = error instanceof Fault && error.code === 'INVALID_CREDENTIALS'
    if (!isNone || decoyKey === null) throw error
    const decoy = admitTenant(exchange, await tenants.get({ by: 'key', key: decoyKey }))
    exchange.tenant = requireSchema(decoy, schemaMin)
    exchange.errorReason = `${error.reason}, carried out at the decoy`
  }
}

/**
 * The tenant, if it may be served now. At login an unknown or suspended tenant gets the very answer of
 * a wrong password, so that nobody learns which tenants exist (HARDENING B.11).
 */
export function admitTenant(exchange: Exchange, tenant: Tenant | null): Tenant {
  const isLogin = exchange.route?.credential === 'login'
  if (tenant === null || tenant.status === 'archived') {
    if (isLogin) throw new Fault('INVALID_CREDENTIALS', 'unknown tenant')
    throw new Fault('TENANT_UNKNOWN', 'unknown tenant')
  }
  if (tenant.status === 'suspended') {
    if (isLogin) throw new Fault('INVALID_CREDENTIALS', 'suspended tenant')
    throw new Fault('TENANT_SUSPENDED', 'suspended tenant')
  }
  if (tenant.status !== 'active') {
    // Maintenance is told to all: its users must not take it for a wrong password.
    if (isLogin && tenant.status === 'provisioning') {
      throw new Fault('INVALID_CREDENTIALS', tenant.status)
    }
    throw new Fault('TENANT_UNAVAILABLE', tenant.status)
  }
  const { tokenIssuedAtS, tokenIssuer } = exchange
  // Where the row changed since the token was verified by it (HARDENING B.9).
  if (tokenIssuer !== null && !isSameIssuer(tenant.tokenIssuer, tokenIssuer)) {
    throw new Fault('TOKEN_INVALID', 'the tenant’s issuer was changed')
  }
  if (
    tenant.tokensValidAfterMs !== null &&
    tokenIssuedAtS !== null &&
    tokenIssuedAtS * 1000 < tenant.tokensValidAfterMs
  ) {
    throw new Fault('TOKEN_INVALID', 'issued before tokens_valid_after')
  }
  return tenant
}
