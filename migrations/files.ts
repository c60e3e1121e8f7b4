import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

const FILE_NAME = /^(\d{4})_([a-z0-9_]+)(\.down)?\.sql$/
/** Lines of the comment that a file begins with may direct the runner. */
const HEADER = /^(?:--[^\n]*(?:\n|$))+/
const NO_TRANSACTION = /^--\s*no transaction\b/im
/** Also what only looks like one of the two settings. */
const TIMEOUT = /^--\s*((?:lock|statement)_\w+|\w+_time\w*)\s*[:=]\s*(\S+)\s*$/gim
const UNITS_MS = { ms: 1, s: 1000, min: 60_000 } as const

/** What an operator can act on; the text names the file. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError'
  /** Version that the database had reached when it failed; undefined: not known. */
  reached: string | null | undefined = undefined
}

export interface Script {
  readonly name: string
  readonly sql: string
  readonly isTransactional: boolean
  /** From the header; null: the runner's own. */
  readonly lockTimeoutMs: number | null
  readonly statementTimeoutMs: number | null
}

export interface MigrationFile extends Script {
  readonly version: string
  readonly checksum: string
  /** `NNNN_name.down.sql`, which takes it back. */
  readonly down: Script | null
}

/** The migrations of `directory` in order. Other files are left alone, a misnamed .sql is an error. */
export async function readMigrations(directory: string): Promise<readonly MigrationFile[]> {
  const names = (await readdir(directory)).filter(name => name.endsWith('.sql')).sort()
  const scripts = new Map<string, Script>()
  for (const name of names) {
    if (!FILE_NAME.test(name)) throw new MigrationError(`${name}: not named NNNN_name.sql`)
    // A checkout on another system may have changed the line ends; the migration is the same.
    const sql = (await readFile(join(directory, name), 'utf8')).replaceAll('\r\n', '\n')
    scripts.set(name, { name, sql, ...readHeader(name, sql) })
  }
  const files: MigrationFile[] = []
  for (const script of scripts.values()) {
    const [, version = '', , isDown] = FILE_NAME.exec(script.name) ?? []
    if (isDown !== undefined) {
      const up = script.name.replace('.down.sql', '.sql')
      if (!scripts.has(up)) throw new MigrationError(`${script.name}: there is no ${up}`)
      continue
    }
    if (files.at(-1)?.version === version) {
      throw new MigrationError(`${script.name}: version ${version} is there twice`)
    }
    const checksum = createHash('sha256').update(script.sql).digest('hex')
    const down = scripts.get(script.name.replace(/\.sql$/, '.down.sql')) ?? null
    files.push({ ...script, version, checksum, down })
  }
  return files
}

/** Those up to `to`. @throws MigrationError where there is no such version */
export function upTo<F extends MigrationFile>(
  files: readonly F[],
  to: string | null,
): readonly F[] {
  if (to === null) return files
  if (!files.some(({ version }) => version === to)) {
    throw new MigrationError(`there is no migration ${to}`)
  }
  return files.filter(({ version }) => version <= to)
}

function readHeader(name: string, sql: string): Omit<Script, 'name' | 'sql'> {
  const header = HEADER.exec(sql)?.[0] ?? ''
  const timeouts: Record<string, number> = {}
  for (const [, setting = '', value = ''] of header.matchAll(TIMEOUT)) {
    // A misspelt one must not leave the standard in force unnoticed.
    if (setting !== 'lock_timeout' && setting !== 'statement_timeout') {
      throw new MigrationError(`${name}: no setting is called ${setting}`)
    }
    timeouts[setting] = readDuration(name, value)
  }
  return {
    isTransactional: !NO_TRANSACTION.test(header),
    lockTimeoutMs: timeouts.lock_timeout ?? null,
    statementTimeoutMs: timeouts.statement_timeout ?? null,
  }
}

/** Without a limit a migration could hold a table for good, so 0 is none. */
function readDuration(name: string, text: string): number {
  const [, number = '', unit = ''] = /^(\d{1,6})(ms|s|min)$/.exec(text) ?? []
  const ms = Number(number) * UNITS_MS[unit as keyof typeof UNITS_MS]
  if (!(ms > 0)) throw new MigrationError(`${name}: ${text} is no time such as 500ms, 5s or 30min`)
  return ms
}
