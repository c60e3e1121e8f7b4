import {
  parseTenantFault,
  TENANT_FAULT_HEADER,
  type TenantFault,
} from '../../registry/lib/tenant-fault.ts'

/**
 * Why a 5xx is the tenant's own trouble and not the replica's, as the app says; null where it does not.
 * Like every field of that prefix it never reaches the client.
 */
export function tenantFaultOf(raw: readonly string[]): TenantFault | null {
  for (let i = 0; i < raw.length; i += 2) {
    if ((raw[i] as string).toLowerCase() === TENANT_FAULT_HEADER) {
      return parseTenantFault(raw[i + 1] as string)
    }
  }
  return null
}
