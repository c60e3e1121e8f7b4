/**
 * The field by which an app says that a 5xx is the tenant's own trouble and not the replica's: its
 * database or bucket is down, full, or refuses the credentials of the context. Like every field of
 * that prefix it never reaches the client.
 */
const TENANT_FAULT_FIELD = 'x-tenant-fault'

/** Reasons behind which the connection details may be out of date. */
const OF_DETAILS = new Set([
  'database_unreachable',
  'database_auth',
  'bucket_unreachable',
  'bucket_auth',
])

/** The reason that the app gives, or null. */
export function tenantFaultOf(raw: readonly string[]): string | null {
  for (let i = 0; i < raw.length; i += 2) {
    if ((raw[i] as string).toLowerCase() === TENANT_FAULT_FIELD) return raw[i + 1] as string
  }
  return null
}

export function isOfDetails(reason: string): boolean {
  return OF_DETAILS.has(reason)
}
