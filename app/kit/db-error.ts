import { type ErrorCode, Fault } from '../../registry/lib/errors.ts'
import { messageForLog } from '../../registry/lib/log-error.ts'

/**
 * What a failure of the tenant's database means. Classes and codes of SQLSTATE, PostgreSQL manual
 * appendix A; the longest entry that matches counts.
 */
const MEANING = {
  '08': 'TENANT_DATABASE_UNAVAILABLE', // connection exception
  '25006': 'TENANT_DATABASE_UNAVAILABLE', // read only: a replica after a failover
  '28': 'TENANT_DATABASE_UNAVAILABLE', // password or pg_hba
  '3D000': 'TENANT_DATABASE_UNAVAILABLE', // no such database
  '53': 'TENANT_DATABASE_UNAVAILABLE', // too many connections, disk full, out of memory
  '55P03': 'TENANT_DATABASE_UNAVAILABLE', // lock_timeout
  '57': 'TENANT_DATABASE_UNAVAILABLE', // shutdown, starting up, statement_timeout
  '58': 'TENANT_DATABASE_UNAVAILABLE', // input or output error of the server
  '40': 'CONFLICT', // serialization failure, deadlock
  '23505': 'CONFLICT',
  '23503': 'CONFLICT',
  '22': 'VALIDATION_FAILED', // a value that does not fit its column
} as const satisfies Record<string, ErrorCode>

/** @param error what node-postgres threw; a Fault passes as it is */
export function databaseFault(error: unknown): Fault {
  if (error instanceof Fault) return error
  const state = sqlState(error)
  const text = messageForLog(error)
  if (state === null) return unavailable(text, error)
  const meaning = Object.entries(MEANING)
    .filter(([prefix]) => state.startsWith(prefix))
    .sort(([a], [b]) => b.length - a.length)[0]
  return new Fault(meaning?.[1] ?? 'INTERNAL', `${state} ${text}`, { cause: error })
}

/** True where the session is still in order after `error`: an SQL error that did not end it. */
export function sessionSurvives(error: unknown): boolean {
  const state = sqlState(error)
  return state !== null && !/^(08|57P)/.test(state)
}

/** The five characters of the server's answer; null for an error of the socket or of the client. */
export function sqlState(error: unknown): string | null {
  const code = error instanceof Error && 'code' in error ? error.code : null
  const isServers = error instanceof Error && 'severity' in error
  return isServers && typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : null
}

function unavailable(text: string, cause: unknown): Fault {
  return new Fault('TENANT_DATABASE_UNAVAILABLE', text, { cause })
}
