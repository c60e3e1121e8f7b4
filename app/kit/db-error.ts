import { type ErrorCode, Fault } from '../../registry/lib/errors.ts'
import { messageForLog } from '../../registry/lib/log-error.ts'
import type { TenantFault } from '../../registry/lib/tenant-fault.ts'

type Meaning = readonly [ErrorCode, TenantFault?]

const UNAVAILABLE = 'TENANT_DATABASE_UNAVAILABLE'

/**
 * What a failure of the tenant's database means, and what the gateway is told of it. Classes and codes of
 * SQLSTATE, PostgreSQL manual appendix A; the longest entry that matches counts.
 */
const MEANING: Readonly<Record<string, Meaning>> = {
  '08': [UNAVAILABLE, 'database_unreachable'], // connection exception
  '25006': [UNAVAILABLE, 'database_unreachable'], // read only: a replica after a failover
  '25P03': [UNAVAILABLE], // idle_in_transaction_session_timeout: the handler was slow, not the server
  '28': [UNAVAILABLE, 'database_auth'], // password or pg_hba
  '3D000': [UNAVAILABLE, 'database_missing'], // no such database
  '53': [UNAVAILABLE], // disk full, out of memory
  '53300': [UNAVAILABLE, 'database_full'], // too many connections
  '55P03': [UNAVAILABLE], // lock_timeout
  '57': [UNAVAILABLE, 'database_unreachable'], // shutdown, starting up
  '57014': [UNAVAILABLE, 'database_timeout'], // statement_timeout
  '58': [UNAVAILABLE], // input or output error of the server
  '40': ['CONFLICT'], // serialization failure, deadlock
  '23505': ['CONFLICT'],
  '23503': ['CONFLICT'],
  '22': ['VALIDATION_FAILED'], // a value that does not fit its column
}

/** @param error what node-postgres threw; a Fault passes as it is */
export function databaseFault(error: unknown): Fault {
  if (error instanceof Fault) return error
  const state = sqlState(error)
  const text = messageForLog(error)
  if (state === null) {
    return new Fault(UNAVAILABLE, text, { cause: error, tenantFault: 'database_unreachable' })
  }
  const [code, tenantFault] = MEANING[state] ??
    MEANING[state.slice(0, 2)] ?? ['INTERNAL' as const, undefined]
  return new Fault(code, `${state} ${text}`, { cause: error, tenantFault })
}

/** True where the session is still in order after `error`: an SQL error that did not end it. */
export function sessionSurvives(error: unknown): boolean {
  const state = sqlState(error)
  return state !== null && !/^(08|57P|25P03)/.test(state)
}

/** The five characters of the server's answer; null for an error of the socket or of the client. */
export function sqlState(error: unknown): string | null {
  const code = error instanceof Error && 'code' in error ? error.code : null
  const isServers = error instanceof Error && 'severity' in error
  return isServers && typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : null
}
