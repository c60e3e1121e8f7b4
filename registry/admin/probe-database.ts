import type { DbConnection } from '../connection.ts'
import { closePg, connectPg, type PgLimits, type PgTarget, sslOptions } from '../lib/pg.ts'
import type { AdminDeps } from './deps.ts'
import { networkProblem, type ProbeResult, type ProbeStep } from './probe-result.ts'

const CONNECT_TIMEOUT_MS = 5000
const STATEMENT_TIMEOUT_MS = 5000

/** One round trip that also tells whether the app could write. */
const LOOK =
  "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS read_only"

/** What a server says in refusal: SQLSTATE, PostgreSQL manual appendix A. */
const REFUSALS: Readonly<Record<string, readonly [ProbeStep, string]>> = {
  '28P01': ['credentials', 'the database refuses this user and password'],
  '28000': ['credentials', 'the database refuses this user from here'],
  '3D000': ['database', 'there is no such database'],
  '42501': ['database', 'this user may not use the database'],
  '53300': ['connect', 'the database has no connection left'],
  '57P03': ['connect', 'the database is starting or stopping'],
}

/** Connects to a tenant's database as the app does, and looks whether it takes writes. */
export async function probeDatabase(db: DbConnection, deps: AdminDeps): Promise<ProbeResult> {
  const startedAt = performance.now()
  const result = (ok: boolean, step: ProbeStep | null, message: string): ProbeResult => {
    return { ok, step, message, took_ms: Math.round(performance.now() - startedAt) }
  }
  try {
    const client = await connectPg(tenantTarget(db, deps), tenantLimits(deps))
    try {
      const { rows } = await client.query<{ read_only: boolean }>(LOOK)
      if (rows[0]?.read_only) return result(false, 'query', 'the database takes no writes')
      return result(true, null, 'works')
    } finally {
      await closePg(client)
    }
  } catch (error) {
    return result(false, ...databaseProblem(error))
  }
}

export function tenantTarget(
  db: DbConnection,
  { tenantCa }: Pick<AdminDeps, 'tenantCa'>,
): PgTarget {
  return {
    host: db.host,
    port: db.port,
    database: db.name,
    user: db.user,
    password: db.password,
    ssl: sslOptions(db.ssl, tenantCa),
  }
}

export function tenantLimits({ addressPolicy }: Pick<AdminDeps, 'addressPolicy'>): PgLimits {
  return {
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    addressPolicy,
    applicationName: 'doorman-admin',
  }
}

/** Step and words for what node-postgres threw. */
export function databaseProblem(error: unknown): [ProbeStep, string] {
  const { code = '', message = '' } = error as { code?: string; message?: string }
  const known = REFUSALS[code] ?? networkProblem(error)
  if (known !== null) return [...known]
  if (/does not support SSL/.test(message)) return ['tls', 'the server does not speak TLS']
  if (/no connection to PostgreSQL within/.test(message)) {
    return ['connect', `no connection within ${CONNECT_TIMEOUT_MS} ms`]
  }
  if (/^[0-9A-Z]{5}$/.test(code)) return ['query', `the database answers with error ${code}`]
  return ['connect', 'the server does not behave like a PostgreSQL']
}
