import { Fault } from './lib/errors.ts'

/**
 * What is to be done about usage that the Registry did not take. `unknown`: nobody answered, it may be in. `refused`: it is not in, and
 * may be next time. `poison`: it is not in and never will be as it is.
 */
export type RefusalKind = 'unknown' | 'refused' | 'poison'

export interface Refusal {
  readonly kind: RefusalKind
  /** SQLSTATE; `none` where no PostgreSQL has answered. */
  readonly sqlState: string
  /** A label of few values: what an operator has to look at. */
  readonly why: RefusalReason
}

export type RefusalReason =
  | 'unreachable'
  | 'timeout'
  | 'rights'
  | 'schema'
  | 'read-only'
  | 'resources'
  | 'shutdown'
  | 'conflict'
  | 'data'
  | 'other'

/**
 * By SQLSTATE, the longest prefix first (PostgreSQL, appendix A). Poison is what depends on the batch and on nothing else; all
 * the rest can be mended at the Registry, and usage waits for it: the meter goes on counting into the same numbers, so that to wait
 * makes nothing grow.
 */
const BY_STATE: readonly (readonly [string, RefusalReason, RefusalKind])[] = [
  // A row that comes twice in one batch.
  ['21', 'data', 'poison'],
  // A count that overflows, a text that cannot be stored.
  ['22', 'data', 'poison'],
  // A rule that one row breaks; also of a table that somebody gave one more.
  ['23', 'data', 'poison'],
  // A view's rule.
  ['44', 'data', 'poison'],
  // A key that is too long for its index, a value beyond what can be held.
  ['54', 'data', 'poison'],
  // What the server says when it has ended the connection; before COMMIT or after it is not told.
  ['08', 'unreachable', 'unknown'],
  ['57014', 'timeout', 'refused'],
  // Shut down in the middle, or about to start: the first may come after COMMIT.
  ['57P', 'shutdown', 'unknown'],
  // A standby, or a primary that is one no more.
  ['25006', 'read-only', 'refused'],
  // A time-out of the server's own.
  ['25P', 'timeout', 'refused'],
  ['25', 'other', 'refused'],
  // A password that was changed.
  ['28', 'rights', 'refused'],
  ['42501', 'rights', 'refused'],
  // Migrations are behind: a table, column or function is missing, or is another.
  ['42', 'schema', 'refused'],
  ['3D', 'schema', 'refused'],
  ['3F', 'schema', 'refused'],
  // A plan of before a migration.
  ['0A', 'schema', 'refused'],
  // Two that met: the next attempt is another one.
  ['40', 'conflict', 'refused'],
  // COMMIT whose outcome nobody knows.
  ['40003', 'conflict', 'unknown'],
  ['55', 'conflict', 'refused'],
  // Disk, memory, connections.
  ['53', 'resources', 'refused'],
  // The disk under the server. Whether the COMMIT went through is not said.
  ['58', 'resources', 'unknown'],
  ['XX', 'other', 'unknown'],
]

/** @param error what `store.query` threw */
export function refusalOf(error: unknown): Refusal {
  const sqlState = sqlStateOf(error)
  if (sqlState === null) {
    const isLate = error instanceof Fault && /^no answer within/.test(error.reason)
    return { kind: 'unknown', sqlState: 'none', why: isLate ? 'timeout' : 'unreachable' }
  }
  const found = BY_STATE.filter(([prefix]) => sqlState.startsWith(prefix))
    .sort(([a], [b]) => a.length - b.length)
    .at(-1)
  const [, why, kind] = found ?? ['', 'other', 'refused']
  return { kind, sqlState, why }
}

function sqlStateOf(error: unknown): string | null {
  const { cause } = error as { cause?: unknown }
  const code = (cause as { code?: unknown } | undefined)?.code ?? (error as { code?: unknown }).code
  // Node's own (ECONNRESET) are longer, a Fault's are words.
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) && /\d|^XX/.test(code) ? code : null
}
