/**
 * What the app tells the gateway about the fault of one tenant, beside the code that the client sees. The
 * gateway strips every `x-tenant-*` field of an answer, so no client ever reads it.
 */
export const TENANT_FAULT_HEADER = 'x-tenant-fault'

interface TenantFaultSpec {
  /**
   * True where the connection details may be older than the tenant's row: whoever minted the context
   * should read the row again. False where newer details would change nothing.
   */
  readonly mayBeStale: boolean
  readonly meaning: string
}

export const TENANT_FAULTS = {
  database_unreachable: { mayBeStale: true, meaning: 'No session: host gone, refused or silent.' },
  database_auth: { mayBeStale: true, meaning: 'The server refused user or password.' },
  database_missing: { mayBeStale: true, meaning: 'The server has no database of that name.' },
  database_full: { mayBeStale: false, meaning: 'The server or the role has no connection left.' },
  database_timeout: { mayBeStale: false, meaning: 'A statement ran into its time-out.' },
  pool_exhausted: { mayBeStale: false, meaning: 'No connection of the replica came free in time.' },
  bucket_unreachable: { mayBeStale: true, meaning: 'The storage did not answer.' },
  bucket_auth: { mayBeStale: true, meaning: 'The storage refused the keys.' },
  bucket_missing: { mayBeStale: true, meaning: 'The storage has no bucket of that name.' },
} as const satisfies Record<string, TenantFaultSpec>

export type TenantFault = keyof typeof TENANT_FAULTS

/** A reason as it came over the wire; null where it is none of ours. */
export function parseTenantFault(text: string): TenantFault | null {
  return Object.hasOwn(TENANT_FAULTS, text) ? (text as TenantFault) : null
}
