import { isDeepStrictEqual } from 'node:util'
import { type ClientBase, DatabaseError } from 'pg'
import { type DatabasePlace, placeName, placeTaken, takeDatabases } from '../database-place.ts'
import type { Keyring } from '../envelope.ts'
import { Fault, publicFault } from '../lib/errors.ts'
import type { TenantRow } from '../tenant-row.ts'
import type { Actor } from './actor.ts'
import { tellAudit } from './change.ts'
import type { AdminDeps } from './deps.ts'
import type { FileLine } from './import-file.ts'
import { type ReadRow, readImportRow } from './import-rows.ts'
import { tenantItem } from './item.ts'
import { columnsOf, PLAIN, requireSound, SECRETS } from './merge.ts'
import { ADMIN_COLUMNS, insertRow } from './row.ts'

export interface ImportResult {
  readonly line: number
  /** `unchanged` and `differs` are there already, and are left as they are. */
  readonly outcome: 'created' | 'unchanged' | 'differs' | 'failed'
  /** The tenant's key, as far as it could be read. */
  readonly key: string
  /** In words, without a value of the line; null: there is none. */
  readonly problem: string | null
}

export interface BatchOptions {
  readonly actor: Actor
  readonly keyring: Keyring
  /** Opens the secrets of the file. */
  readonly sealedBy: Keyring
  readonly allowSharedDatabase: boolean
  /** `lines`: each that fits is written. `all`: all of them or none. `none`: the same work, and all is taken back. */
  readonly writes: 'lines' | 'all' | 'none'
}

/** What lines before have taken, by what it is: a trial takes it back, and so the Registry does not know. */
export type Taken = Map<string, number>

const FIND = `
  SELECT ${ADMIN_COLUMNS} FROM tenants
  WHERE id = ANY ($1::uuid[]) OR lower(tenant_key::text) = ANY ($2::text[])`

interface Line {
  readonly line: number
  readonly key: string
  readonly read: ReadRow | null
  readonly problem: string | null
}

/**
 * Some lines of a file, in one transaction.
 *
 * @param taken by the lines before; those that fit are added
 * @returns one result a line, in their order
 * @throws Fault REGISTRY_UNAVAILABLE: nothing is written
 */
export async function importBatch(
  deps: AdminDeps,
  fileLines: readonly FileLine[],
  taken: Taken,
  options: BatchOptions,
): Promise<readonly ImportResult[]> {
  const lines = fileLines.map(line => readLine(line, options.sealedBy))
  let results: readonly ImportResult[] = []
  let isTakenBack = false
  try {
    await deps.store.transaction(async client => {
      results = await importLines(deps, client, lines, taken, options)
      const isWhole = results.every(({ outcome }) => outcome !== 'failed')
      isTakenBack = options.writes === 'none' || (options.writes === 'all' && !isWhole)
      if (isTakenBack) throw new Error('taken back')
    })
  } catch (error) {
    if (!isTakenBack) throw error
  }
  return results
}

function readLine(line: FileLine, sealedBy: Keyring): Line {
  if ('problem' in line) return { line: line.line, key: '', read: null, problem: line.problem }
  const key = String(line.values.tenant_key ?? '').slice(0, 64)
  try {
    return { line: line.line, key, read: readImportRow(line, sealedBy), problem: null }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return { line: line.line, key, read: null, problem: error.reason }
  }
}

async function importLines(
  deps: AdminDeps,
  client: ClientBase,
  lines: readonly Line[],
  taken: Taken,
  options: BatchOptions,
): Promise<readonly ImportResult[]> {
  const reads = lines.flatMap(({ read }) => read ?? [])
  const known = await findKnown(client, reads)
  const fresh = reads.filter(({ input }) => !known.byKey.has(input.tenant_key))
  const owners = options.allowSharedDatabase
    ? new Map<string, string>()
    : await takeDatabases(client, fresh.map(placeOf))
  await tellAudit(client, { actor: options.actor, action: 'tenant.import' })
  await client.query('SAVEPOINT line')
  const results: ImportResult[] = []
  for (const { line, key, read, problem } of lines) {
    const result = (outcome: ImportResult['outcome'], why: string | null) =>
      results.push({ line, outcome, key, problem: why })
    if (read === null) {
      result('failed', problem)
      continue
    }
    try {
      requireUntaken(taken, read, options)
      const present = known.byKey.get(read.input.tenant_key)
      if (present !== undefined) {
        const differences = differencesOf(options.keyring, present, read)
        if (differences.length === 0) result('unchanged', null)
        else result('differs', `another ${differences.join(', ')}; left as it is`)
      } else {
        const holder = known.byId.get(read.id)
        if (holder !== undefined)
          throw publicFault('CONFLICT', `tenant ${holder.tenant_key} has this id`)
        const owner = owners.get(placeName(placeOf(read)))
        if (owner !== undefined) throw placeTaken(`tenant ${owner}`, placeName(placeOf(read)))
        await insert(deps, client, read, options)
        await client.query('RELEASE SAVEPOINT line; SAVEPOINT line')
        result('created', null)
      }
      for (const what of takenBy(read)) taken.set(what, line)
    } catch (error) {
      // Anything else is the Registry's end and not the line's.
      if (!(error instanceof Fault || error instanceof DatabaseError)) throw error
      if (error instanceof DatabaseError && !/^(22|23)/.test(String(error.code))) throw error
      await client.query('ROLLBACK TO SAVEPOINT line')
      result('failed', problemOf(error))
    }
  }
  return results
}

async function findKnown(client: ClientBase, reads: readonly ReadRow[]) {
  const keys = reads.map(({ input }) => input.tenant_key)
  const { rows } = await client.query<TenantRow>(FIND, [reads.map(({ id }) => id), keys])
  return {
    byId: new Map(rows.map(row => [String(row.id), row])),
    byKey: new Map(rows.map(row => [String(row.tenant_key).toLowerCase(), row])),
  }
}

/** @throws Fault CONFLICT naming the line that has it */
function requireUntaken(taken: Taken, read: ReadRow, options: BatchOptions): void {
  const [byKey, byId, byPlace] = takenBy(read).map(what => taken.get(what))
  if (byKey !== undefined) throw publicFault('CONFLICT', `line ${byKey} has this key`)
  if (byId !== undefined) throw publicFault('CONFLICT', `line ${byId} has this id`)
  if (byPlace !== undefined && !options.allowSharedDatabase) {
    throw placeTaken(`line ${byPlace}`, placeName(placeOf(read)))
  }
}

function takenBy(read: ReadRow): readonly [key: string, id: string, place: string] {
  return [`key ${read.input.tenant_key}`, `id ${read.id}`, `place ${placeName(placeOf(read))}`]
}

function placeOf({ input }: ReadRow): DatabasePlace {
  return { host: input.db_host, port: input.db_port ?? 5432, name: input.db_name }
}

async function insert(
  deps: AdminDeps,
  client: ClientBase,
  { id, input, tokensValidAfter }: ReadRow,
  { keyring }: BatchOptions,
): Promise<void> {
  const columns = {
    db_port: 5432,
    mode: 'shared',
    ...columnsOf(keyring, id, input),
    status: input.status,
    ...(tokensValidAfter !== null && { tokens_valid_after: tokensValidAfter }),
  }
  requireSound({}, columns, deps)
  const { problem } = tenantItem(await insertRow(client, id, input.tenant_key, columns))
  if (problem !== null) throw new Fault('VALIDATION_FAILED', problem)
}

/** Names of the fields that the file gives, and the tenant has otherwise. */
function differencesOf(keyring: Keyring, row: TenantRow, read: ReadRow): readonly string[] {
  const { given, input, id, tokensValidAfter } = read
  const plain = [...PLAIN, 'status' as const].filter(
    name => given.includes(name) && !isSame(input[name], row[name]),
  )
  const secrets = (Object.keys(SECRETS) as (keyof typeof SECRETS)[]).filter(
    name => input[name] !== undefined && !opensTo(keyring, row, SECRETS[name], input[name]),
  )
  const since = row.tokens_valid_after instanceof Date ? row.tokens_valid_after.getTime() : 0
  const isEarlier = tokensValidAfter !== null && since < Date.parse(tokensValidAfter)
  return [
    ...(given.includes('id') && row.id !== id ? ['id'] : []),
    ...plain,
    ...secrets,
    ...(isEarlier ? ['tokens_valid_after'] : []),
  ]
}

/** Of an older Registry a column may be text where the field is a number. */
function isSame(wanted: unknown, present: unknown): boolean {
  if (typeof wanted === 'object' && wanted !== null) return isDeepStrictEqual(wanted, present)
  return String(wanted ?? '') === String(present ?? '')
}

function opensTo(
  keyring: Keyring,
  row: TenantRow,
  column: (typeof SECRETS)[keyof typeof SECRETS],
  wanted: string | null,
): boolean {
  const sealed = row[column]
  if (typeof sealed !== 'string' || sealed === '') return wanted === null
  try {
    return keyring.decrypt(sealed, { owner: String(row.id), column }) === wanted
  } catch {
    return false
  }
}

function problemOf(error: Fault | DatabaseError): string {
  if (error instanceof Fault) return error.reason
  // Its message names the rule; the row, which holds secrets, is in its detail and stays there.
  const isTaken = error.code === '23505'
  return isTaken ? `${error.constraint}: another tenant has it already` : error.message
}
