import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import { EnvelopeError, type Keyring, SECRET_COLUMNS, type SecretColumn } from '../envelope.ts'
import { parseTenantId, type TenantId } from '../tenant.ts'
import { type CreateInput, createInput, readFields, wrongField } from './fields.ts'
import type { ImportRow } from './import-file.ts'

export interface ReadRow {
  readonly id: TenantId
  /** Of the input what the file says; the rest has its default. The id too, where it is there. */
  readonly given: readonly string[]
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
  const names = [...Object.keys(fields), ...(givenId === undefined ? [] : ['id'])]
  return { id: id as TenantId, given: names, input, tokensValidAfter: read.data }
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
