import { randomUUID } from 'node:crypto'
import type { TenantConnections } from '../connection.ts'
import { openConnections } from '../connection.ts'
import { Fault, publicFault } from '../lib/errors.ts'
import type { TenantId, TenantKey } from '../tenant.ts'
import { parseTenantRow, type TenantRow } from '../tenant-row.ts'
import type { Actor } from './actor.ts'
import type { AdminDeps } from './deps.ts'
import type { DetailsProbeInput, ProbeInput } from './fields.ts'
import {
  columnsOf,
  movesBucket,
  movesDatabase,
  requirePasswordForMove,
  requireSound,
} from './merge.ts'
import { probeBucket } from './probe-bucket.ts'
import { probeDatabase } from './probe-database.ts'
import type { ProbeResult } from './probe-result.ts'
import { type Columns, requireRow } from './row.ts'

/** What a test of a tenant's connections found. */
export interface ConnectionReport {
  readonly ok: boolean
  readonly database: ProbeResult
  /** null: the tenant has no bucket of its own. */
  readonly bucket: ProbeResult | null
}

/**
 * Tests a tenant's database and bucket as the app would use them. With `fields` it tests what a change to
 * them would bring, and saves nothing.
 *
 * @throws Fault NOT_FOUND, VALIDATION_FAILED; what does not work is in the report
 */
export async function testConnection(
  deps: AdminDeps,
  actor: Actor,
  id: TenantId,
  fields: ProbeInput = {},
): Promise<ConnectionReport> {
  const row = await requireRow(deps.store, id)
  requirePasswordForMove(row, fields, actor.scope)
  const columns = columnsOf(await deps.keyring(), id, fields)
  requireSound(row, columns, deps)
  return probe(deps, { ...row, ...columns }, { database: true, bucket: true })
}

/**
 * Tests details of a tenant that is not there yet, and saves nothing.
 *
 * @throws Fault VALIDATION_FAILED; what does not work is in the report
 */
export async function testDetails(
  deps: AdminDeps,
  fields: DetailsProbeInput,
): Promise<ConnectionReport> {
  const id = randomUUID() as TenantId
  const columns: Columns = {
    db_port: 5432,
    ...columnsOf(await deps.keyring(), id, fields),
  }
  const row = draftRow(id, 'draft' as TenantKey)
  requireSound({}, columns, deps)
  return probe(
    deps,
    { ...row, mode: 'shared', status: 'active', ...columns },
    { database: true, bucket: true },
  )
}

/**
 * Tests what `columns` change of a tenant's connections, before they are saved.
 *
 * @throws Fault CONNECTION_TEST_FAILED
 */
export async function requireWorking(
  deps: AdminDeps,
  row: TenantRow,
  columns: Columns,
): Promise<void> {
  const wanted = { database: movesDatabase(columns), bucket: movesBucket(columns) }
  if (!wanted.database && !wanted.bucket) return
  const { database, bucket } = await probe(deps, { ...row, ...columns }, wanted)
  const failed = [database, bucket].find(part => part?.ok === false)
  if (failed == null) return
  const what = failed === bucket ? 'bucket' : 'database'
  const text = `${what}: ${failed.message}`
  throw publicFault('CONNECTION_TEST_FAILED', text)
}

/** A row as it stands before its first columns, for the test of its connections. */
export function draftRow(id: TenantId, key: TenantKey): TenantRow {
  const now = new Date()
  return {
    ...{ id, tenant_key: key, limits: {}, config_version: 0, db_pool_max: null },
    ...{ tokens_valid_after: null, created_at: now, updated_at: now },
  }
}

const NOT_TESTED: ProbeResult = { ok: true, step: null, message: 'not tested', took_ms: 0 }

async function probe(
  deps: AdminDeps,
  row: TenantRow,
  wanted: { readonly database: boolean; readonly bucket: boolean },
): Promise<ConnectionReport> {
  let opened: TenantConnections
  try {
    opened = openConnections(await deps.keyring(), parseTenantRow(row))
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    const database = {
      ok: false,
      step: 'configuration',
      message: error.reason,
      took_ms: 0,
    } as const
    return { ok: false, database, bucket: null }
  }
  const { db, bucket: place } = opened
  const [database, bucket] = await Promise.all([
    wanted.database ? probeDatabase(db, deps) : NOT_TESTED,
    place === null ? null : wanted.bucket ? probeBucket(place, deps) : NOT_TESTED,
  ])
  return { ok: database.ok && bucket?.ok !== false, database, bucket }
}
