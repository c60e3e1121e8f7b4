import type { ClientBase } from 'pg'
import { DatabaseError } from 'pg'
import { requireFreeDatabase } from '../database-place.ts'
import type { Keyring } from '../envelope.ts'
import { Fault } from '../lib/errors.ts'
import type { Actor } from './actor.ts'
import { tellAudit } from './change.ts'
import type { AdminDeps } from './deps.ts'
import { type ImportRow, type ReadRow, readImportRow } from './import-rows.ts'
import { tenantItem } from './item.ts'
import { columnsOf, requireSound } from './merge.ts'
import { insertRow } from './row.ts'

export interface ImportOptions {
  /** false: the same work, and then all is taken back. */
  readonly apply: boolean
  readonly allowSharedDatabase: boolean
  /** Opens the secrets of the file. */
  readonly sealedBy: Keyring
}

export interface ImportResult {
  readonly line: number
  readonly outcome: 'created' | 'exists' | 'failed'
  /** The tenant's key, as far as it could be read. */
  readonly key: string
  readonly problem: string | null
}

/** Each place of a database is locked until the end; PostgreSQL has room for some 6,000 locks. */
export const IMPORT_ROWS_MAX = 2000

const FIND = `
  SELECT id, tenant_key::text AS key FROM tenants WHERE id = $1 OR lower(tenant_key::text) = $2`

/** Ends the transaction of a trial. */
class TakenBack extends Error {
  override readonly name = 'TakenBack'
}

/**
 * Takes over a fleet, all of it or nothing: one line that fails takes all back. A trial does the very same work, so
 * that what it says is what the Registry says. Tenants that exist are left as they are.
 *
 * @returns one result a row, in their order
 * @throws Fault VALIDATION_FAILED with too many rows, REGISTRY_UNAVAILABLE
 */
export async function importTenants(
  deps: AdminDeps,
  actor: Actor,
  rows: readonly ImportRow[],
  options: ImportOptions,
): Promise<readonly ImportResult[]> {
  if (rows.length > IMPORT_ROWS_MAX) {
    const text = `more than ${IMPORT_ROWS_MAX} tenants in one file: split it`
    throw new Fault('VALIDATION_FAILED', text)
  }
  const keyring = await deps.keyring()
  const results: ImportResult[] = []
  let takenBack = false
  try {
    await deps.store.transaction(async client => {
      await tellAudit(client, { actor, action: 'tenant.import' })
      for (const row of rows) results.push(await importOne(deps, client, keyring, row, options))
      if (options.apply && results.every(({ outcome }) => outcome !== 'failed')) return
      takenBack = true
      throw new TakenBack('taken back')
    })
  } catch (error) {
    if (!takenBack) throw error
  }
  return results
}

async function importOne(
  deps: AdminDeps,
  client: ClientBase,
  keyring: Keyring,
  row: ImportRow,
  options: ImportOptions,
): Promise<ImportResult> {
  const key = String(row.values.tenant_key ?? '').slice(0, 64)
  const result = (outcome: ImportResult['outcome'], problem: string | null = null) => {
    return { line: row.line, outcome, key, problem }
  }
  await client.query('SAVEPOINT line')
  try {
    const read = readImportRow(row, options.sealedBy)
    const isNew = await place(deps, client, keyring, read, options)
    await client.query('RELEASE SAVEPOINT line')
    return result(isNew ? 'created' : 'exists')
  } catch (error) {
    // Anything else is the Registry's end and not the line's.
    if (!(error instanceof Fault || error instanceof DatabaseError)) throw error
    const { isDatabase, problem } = problemOf(error)
    if (isDatabase && !/^(22|23)/.test(String((error as DatabaseError).code))) throw error
    await client.query('ROLLBACK TO SAVEPOINT line; RELEASE SAVEPOINT line')
    return result('failed', problem)
  }
}

/** @returns false where the tenant exists already */
async function place(
  deps: AdminDeps,
  client: ClientBase,
  keyring: Keyring,
  { id, input, tokensValidAfter }: ReadRow,
  { allowSharedDatabase }: ImportOptions,
): Promise<boolean> {
  const key = input.tenant_key
  const { rows } = await client.query<{ id: string; key: string }>(FIND, [id, key])
  const [known] = rows
  if (known !== undefined) {
    if (known.key.toLowerCase() === key) return false
    throw new Fault('CONFLICT', `tenant ${known.key} has this id`)
  }
  const columns = {
    db_port: 5432,
    mode: 'shared',
    ...columnsOf(keyring, id, input),
    status: input.status,
    ...(tokensValidAfter !== null && { tokens_valid_after: tokensValidAfter }),
  }
  requireSound({}, columns, deps)
  const { db_host: host, db_name: name } = input
  const at = { host, port: Number(columns.db_port), name }
  if (!allowSharedDatabase) await requireFreeDatabase(client, id, at)
  const { problem } = tenantItem(await insertRow(client, id, key, columns))
  if (problem !== null) throw new Fault('VALIDATION_FAILED', problem)
  return true
}

function problemOf(error: Fault | DatabaseError) {
  if (error instanceof Fault) return { isDatabase: false, problem: error.reason }
  // Its message names the rule; the row, which holds secrets, is in its detail and stays there.
  const isTaken = error.code === '23505'
  const problem = isTaken ? `${error.constraint}: another tenant has it already` : error.message
  return { isDatabase: true, problem }
}
