import type { Keyring } from '../envelope.ts'
import type { AddressPolicy } from '../lib/address.ts'
import type { Log } from '../lib/log.ts'
import type { RunLauncher } from '../migrate/launcher.ts'
import type { Provisioner } from '../provision/provisioner.ts'
import type { RegistryStore } from '../store.ts'
import type { MigrationStreams } from './migration-streams.ts'

/** What the service works with, in the gateway as in the command line. */
export interface AdminDeps {
  readonly store: RegistryStore
  /** @throws KeyCheckError where the master key is not this Registry's */
  keyring(): Promise<Keyring>
  /** PEM of the CA of the tenant databases. */
  readonly tenantCa: string | undefined
  /** Where tenants' databases and buckets may be; null outside production: anywhere. */
  readonly addressPolicy: AddressPolicy | null
  /** The platform's own issuer, which no tenant can have. */
  readonly platformIssuer: string | null
  /** Keys of identity providers come over TLS alone. */
  readonly isProduction: boolean
  /** Days from a tenant's archiving until it may be deleted. */
  readonly archiveGraceDays: number
  /** Makes tenants while nobody waits; absent in the command line, which waits by itself. */
  readonly provisioner?: Provisioner
  readonly log: Log
  /** Of the fleet's migrations; absent where none are begun, as in the command line. */
  readonly migrations?: { readonly launcher: RunLauncher; readonly streams: MigrationStreams }
}
