import { open } from 'node:fs/promises'
import { type ImportResult, importTenants } from '../admin/import.ts'
import { readImport } from '../admin/import-rows.ts'
import { Keyring } from '../envelope.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readSecrets } from './input.ts'
import type { Session } from './session.ts'
import type { Streams } from './streams.ts'

export interface ImportFlags {
  readonly apply?: boolean
  readonly oldMasterKey?: boolean
  readonly allowSharedDatabase?: boolean
  readonly json?: boolean
}

const IMPORT_BYTES_MAX = 16 * 1024 * 1024

/** Without --apply it only says what it would do. Exit code 1 where a line fails: then nothing is written. */
export async function importFleet(
  session: Session,
  path: string,
  flags: ImportFlags,
  streams: Streams,
): Promise<ExitCode> {
  const { apply = false, allowSharedDatabase = false } = flags
  const rows = readImport(await readText(path))
  const sealedBy = flags.oldMasterKey
    ? await Keyring.derive(
        await readSecrets(['Master key of the file'], streams.input, streams.error),
      )
    : await session.keyring()
  const options = { apply, allowSharedDatabase, sealedBy }
  const results = await importTenants(session, session.actor, rows, options)
  const counts = { created: 0, exists: 0, failed: 0 }
  for (const { outcome } of results) counts[outcome] += 1
  const isWritten = apply && counts.failed === 0
  if (flags.json) {
    streams.output.write(`${JSON.stringify({ written: isWritten, ...counts, results }, null, 2)}\n`)
  } else {
    for (const result of results) streams.output.write(`${inWords(result, isWritten)}\n`)
    const created = isWritten ? 'created' : 'to create'
    const end = isWritten ? '' : apply ? '; nothing was written' : '; a trial, --apply writes'
    streams.output.write(
      `${counts.created} ${created}, ${counts.exists} exist, ${counts.failed} failed${end}\n`,
    )
  }
  return counts.failed === 0 ? EXIT.ok : EXIT.failure
}

function inWords({ line, outcome, key, problem }: ImportResult, isWritten: boolean): string {
  const word = outcome === 'created' && !isWritten ? 'fits' : outcome
  return `line ${line}: ${word.padEnd(7)} ${key}${problem === null ? '' : `: ${problem}`}`
}

/** A file and no argument: it holds secrets. */
async function readText(path: string): Promise<string> {
  const file = await open(path).catch((error: NodeJS.ErrnoException) => {
    throw new CliFailure(EXIT.usage, `${path} cannot be read (${error.code})`)
  })
  try {
    if ((await file.stat()).size > IMPORT_BYTES_MAX) {
      throw new CliFailure(EXIT.usage, `${path} has more than ${IMPORT_BYTES_MAX} bytes: split it`)
    }
    return await file.readFile('utf8')
  } finally {
    await file.close()
  }
}
