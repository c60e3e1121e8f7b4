import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readMigrations } from './files.ts'

export interface NewFileOptions {
  readonly directory: string
  /** Words of any spelling; they become `a_b_c`. */
  readonly name: string
  readonly withDown: boolean
  readonly withoutTransaction: boolean
}

const VERSION_MAX = 9999

/** Makes the next migration of `directory`, ready to be filled in. Returns the paths of what was made. */
export async function makeMigration(options: NewFileOptions): Promise<readonly string[]> {
  const { directory, withDown, withoutTransaction } = options
  const name = options.name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '_')
    .replace(/^_+|_+$/g, '')
  if (name === '') throw new Error('the name must have a letter or a digit')
  const last = (await readMigrations(directory)).at(-1)?.version ?? '0000'
  const next = Number(last) + 1
  if (next > VERSION_MAX) throw new Error(`there is no number above ${VERSION_MAX}`)
  const base = `${String(next).padStart(4, '0')}_${name}`
  const files = [[`${base}.sql`, withoutTransaction ? UNTRANSACTED : TRANSACTED]] as [
    string,
    string,
  ][]
  if (withDown) files.push([`${base}.down.sql`, `-- Takes back ${base}.sql.\n`])
  for (const [file, text] of files) await writeFile(join(directory, file), text, { flag: 'wx' })
  return files.map(([file]) => join(directory, file))
}

const TRANSACTED = `-- What it is for.
-- The release before runs on this schema too: add, and remove what nobody reads in a later release.
`

const UNTRANSACTED = `-- no transaction
-- Each statement ends by a semicolon at the end of a line, and must be safe to run again.
-- CREATE INDEX CONCURRENTLY IF NOT EXISTS name ON table (column);
`
