import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { EnvelopeError, type Keyring, SECRET_COLUMNS, type SecretColumn } from '../envelope.ts'
import { Fault } from '../lib/errors.ts'
import { parseTenantId, type TenantId } from '../tenant.ts'
import { readCsv } from './csv.ts'
import { type CreateInput, createInput, readFields, wrongField } from './fields.ts'

/** One tenant of a fleet that is to be taken over, with the names of the columns of `tenants`. */
export interface ImportRow {
  /** Of the file, from 1; of a JSON array the place. */
  readonly line: number
  readonly values: Readonly<Record<string, unknown>>
}

export interface ReadRow {
  readonly id: TenantId
  /** Secrets in the clear. */
  readonly input: CreateInput
  /** "Sign everyone out" of before stays in force. */
  readonly tokensValidAfter: string | null
}

/** What the Registry gives a row by itself. */
const IGNORED = [
  ...['created_at', 'updated_at', 'config_version', 'changed_xid', 'schema_version'],
  ...['archived_at', 'status_reason', 'debug_until'],
]
const NUMBERS = ['db_port', 'db_pool_max']
const moment = z.iso.datetime({ offset: true }).nullable()

/**
 * The rows of a file: CSV with a head line, a JSON array, or JSON lines.
 *
 * @throws Fault VALIDATION_FAILED where the file as a whole cannot be read; no value is quoted
 */
export function readImport(text: string): readonly ImportRow[] {
  const first = text.trimStart()[0]
  if (first === '[') return objects(parse(text, null), 1)
  if (first === '{') {
    return text.split('\n').flatMap((line, i) => {
      return line.trim() === '' ? [] : objects([parse(line, i + 1)], i + 1)
    })
  }
  const [head, ...records] = readCsv(text)
  const names = head?.cells.map(name => name.trim()) ?? []
  if (!names.includes('tenant_key')) throw wrong('line 1: no column tenant_key')
  if (new Set(names).size < names.length) throw wrong('line 1: a column is there twice')
  return records.map(({ line, cells }) => {
    if (cells.length !== names.length) {
      throw wrong(`line ${line}: ${cells.length} fields where the head has ${names.length}`)
    }
    return { line, values: Object.fromEntries(names.map((name, i) => [name, cells[i]])) }
  })
}

/**
 * One row as the service takes a new tenant. A secret may be in the clear (`db_password`) or sealed
 * (`db_password_encrypted`), in the older tool's format or in ours.
 *
 * @param keyring opens what is sealed
 * @throws Fault VALIDATION_FAILED naming the field
 */
export function readImportRow({ values }: ImportRow, keyring: Keyring): ReadRow {
  const given = Object.fromEntries(
    Object.entries(values).filter(([name, value]) => {
      return value !== null && value !== undefined && value !== '' && !IGNORED.includes(name)
    }),
  )
  const { id: givenId, tokens_valid_after: after, ...fields } = given
  const id = givenId === undefined ? randomUUID() : parseTenantId(givenId)
  if (id === null) throw wrongField('id', 'must be a UUID')
  for (const name of NUMBERS) {
    if (typeof fields[name] === 'string') fields[name] = Number(fields[name])
  }
  if (typeof fields.limits === 'string') fields.limits = readLimits(fields.limits)
  for (const column of SECRET_COLUMNS) {
    const sealed = fields[column]
    if (sealed === undefined) continue
    delete fields[column]
    const name = column.replace('_encrypted', '')
    if (fields[name] !== undefined) throw wrongField(name, `comes with ${column}: one of the two`)
    fields[name] = open(keyring, id, column, sealed)
  }
  const input = readFields(createInput, { ...fields, verify: false })
  const read = moment.safeParse(after ?? null)
  if (!read.success) throw wrongField('tokens_valid_after', 'must be a time with its zone')
  return { id: id as TenantId, input, tokensValidAfter: read.data }
}

function open(keyring: Keyring, owner: string, column: SecretColumn, sealed: unknown): string {
  try {
    return keyring.decrypt(String(sealed), { owner, column })
  } catch (error) {
    const why = error instanceof EnvelopeError ? error.message : 'it does not open'
    throw wrongField(column, why)
  }
}

function readLimits(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw wrongField('limits', 'must be JSON')
  }
}

function objects(value: unknown, line: number): readonly ImportRow[] {
  const list = Array.isArray(value) ? value : []
  return list.map((values, i) => {
    if (values === null || typeof values !== 'object' || Array.isArray(values)) {
      throw wrong(`entry ${line + i}: not an object`)
    }
    return { line: line + i, values }
  })
}

/** The parser's message quotes the text, which holds secrets. */
function parse(text: string, line: number | null): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw wrong(line === null ? 'the file is not JSON' : `line ${line}: not JSON`)
  }
}

function wrong(text: string): Fault {
  return new Fault('VALIDATION_FAILED', text)
}
