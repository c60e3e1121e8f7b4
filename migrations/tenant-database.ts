import { openConnections } from '../registry/connection.ts'
import type { Keyring } from '../registry/envelope.ts'
import type { AddressPolicy } from '../registry/lib/address.ts'
import { Fault } from '../registry/lib/errors.ts'
import { messageForLog } from '../registry/lib/log-error.ts'
import { sslOptions } from '../registry/lib/pg.ts'
import type { Tenant } from '../registry/tenant.ts'
import { MigrationError } from './files.ts'
import type { SessionOptions } from './session.ts'

/** What opens the tenants' databases. */
export interface DatabaseAccess {
  readonly keyring: Keyring
  /** PEM of the CA of the tenant databases. */
  readonly ca?: string
  /** Where tenants' databases may be; absent or null: anywhere. */
  readonly addressPolicy?: AddressPolicy | null
}

const REASON_CHARS_MAX = 500

/** How to reach the database of `tenant`, with the tenant's own role. @throws Fault where a secret does not open */
export function sessionOf(
  { keyring, ca, addressPolicy = null }: DatabaseAccess,
  tenant: Tenant,
): SessionOptions {
  const { db } = openConnections(keyring, tenant)
  const { host, port, user, password } = db
  const target = { host, port, database: db.name, user, password, ssl: sslOptions(db.ssl, ca) }
  return { target, addressPolicy }
}

/** Why it failed, without a value of any row, for a line of output and for the Registry. */
export function reasonOf(error: unknown): string {
  // What Node throws where each address of a name refused has no text of its own.
  const own = error instanceof AggregateError && error.message === '' ? error.errors[0] : error
  const text = own instanceof Fault ? own.reason : messageForLog(own)
  const line = text.replace(/\s+/g, ' ').trim()
  return line === '' ? 'failed without a reason' : line.slice(0, REASON_CHARS_MAX)
}

const CAUSES_MAX = 5

/** SQLSTATE or errno of what failed, the code of a fault, or a word of the runner's own, to be sorted and searched by. */
export function codeOf(error: unknown): string {
  for (let cause = error, depth = 0; cause instanceof Error && depth < CAUSES_MAX; depth++) {
    const { code } = cause as { code?: unknown }
    if (typeof code === 'string' && /^[A-Z0-9_]{2,40}$/.test(code)) return code
    if (/^no connection to PostgreSQL within/.test(cause.message)) return 'CONNECT_TIMEOUT'
    cause = cause instanceof AggregateError ? cause.errors[0] : cause.cause
  }
  return error instanceof MigrationError ? 'MIGRATION_REFUSED' : 'UNKNOWN'
}
