import type { Client } from 'pg'
import { MoveRefused } from './place.ts'
import type { Schema } from './schema.ts'

const FACTS = `
  SELECT current_setting('server_version_num')::int / 10000 AS major, getdatabaseencoding() AS encoding,
    has_database_privilege(current_database(), 'CREATE') AS may_create, pg_is_in_recovery() AS is_standby,
    has_schema_privilege('public', 'CREATE') AS may_use_public,
    b.datcollate AS collation, pg_postmaster_start_time()::text AS cluster, b.oid::text AS oid
  FROM pg_database b WHERE b.datname = current_database()`

interface Facts {
  readonly major: number
  readonly encoding: string
  readonly may_create: boolean
  readonly may_use_public: boolean
  readonly is_standby: boolean
  readonly collation: string
  readonly cluster: string
  readonly oid: string
}

/** @returns what an operator should know and is no reason to refuse. @throws MoveRefused */
export async function checkTarget(
  source: Client,
  target: Client,
  schema: Schema,
  ofTarget: Schema,
): Promise<readonly string[]> {
  const [from, to] = [await factsOf(source), await factsOf(target)]
  if (from.cluster === to.cluster && from.oid === to.oid) {
    throw new MoveRefused('the target is the very database that the tenant has')
  }
  if (to.is_standby) throw new MoveRefused('the target is a standby')
  if (to.major < from.major) {
    throw new MoveRefused(`the target is PostgreSQL ${to.major}, older than ${from.major}`)
  }
  if (from.encoding !== to.encoding) {
    throw new MoveRefused(`the target’s encoding is ${to.encoding}, not ${from.encoding}`)
  }
  if (!to.may_create || !to.may_use_public) {
    throw new MoveRefused('the target’s role may not create in its database: make it the owner')
  }
  const there = ofTarget.drops.length + ofTarget.refused.length
  if (there > 0) throw new MoveRefused('the target database is not empty')
  const { rows } = await target.query<{ name: string }>('SELECT name FROM pg_available_extensions')
  const known = new Set(rows.map(({ name }) => name))
  const missing = schema.extensions.filter(name => !known.has(name))
  if (missing.length > 0) {
    throw new MoveRefused(`the target server lacks the extension ${missing.join(', ')}`)
  }
  const notes = schema.leftOut.map(what => `not copied: ${what}`)
  if (from.collation !== to.collation) {
    notes.push(`the target sorts by ${to.collation}, the old one by ${from.collation}`)
  }
  return notes
}

/** Makes the whole schema and takes it back: what cannot be made is found before anybody waits for it. */
export async function rehearse(target: Client, schema: Schema): Promise<void> {
  await target.query('SAVEPOINT rehearsal')
  await make(target, [...schema.before, ...schema.after])
  await target.query('ROLLBACK TO rehearsal')
}

/** @throws MoveRefused naming the statement */
export async function make(target: Client, statements: readonly string[]): Promise<void> {
  for (const statement of statements) {
    try {
      await target.query(statement)
    } catch (error) {
      const head = statement.replace(/\s+/g, ' ').slice(0, 120)
      throw new MoveRefused(`the target refuses “${head}”: ${(error as Error).message}`, {
        cause: error,
      })
    }
  }
}

async function factsOf(client: Client): Promise<Facts> {
  const { rows } = await client.query<Facts>(FACTS)
  return rows[0] as Facts
}
