import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { importTenants } from '../admin/import.ts'
import type { ImportResult } from '../admin/import-batch.ts'
import { readImport } from '../admin/import-file.ts'
import { Keyring } from '../envelope.ts'
import { CliFailure, EXIT, type ExitCode } from './failure.ts'
import { readSecrets } from './input.ts'
import type { Session } from './session.ts'
import type { Streams } from './streams.ts'

export interface ImportFlags {
  readonly apply?: boolean
  readonly allOrNone?: boolean
  readonly oldMasterKey?: boolean
  readonly allowSharedDatabase?: boolean
  readonly json?: boolean
}

type Counts = Record<ImportResult['outcome'], number>

/** How often it is said on standard error how far it is. */
const PROGRESS_LINES = 5000

/** Without --apply it only says what it would do. Exit code 1 where a line fails. */
export async function importFleet(
  session: Session,
  path: string,
  flags: ImportFlags,
  streams: Streams,
): Promise<ExitCode> {
  const { apply = false, allOrNone = false, allowSharedDatabase = false } = flags
  const lines = readImport(textOf(path))
  const sealedBy = flags.oldMasterKey
    ? await Keyring.derive(
        await readSecrets(['Master key of the file'], streams.input, streams.error),
      )
    : await session.keyring()
  const writes = apply ? (allOrNone ? 'all' : 'lines') : 'none'
  const options = { writes, allowSharedDatabase, sealedBy } as const
  const counts: Counts = { created: 0, unchanged: 0, differs: 0, failed: 0 }
  // All or none: what was created by then was not, where a line fails.
  const isWritten = () => writes === 'lines' || (writes === 'all' && counts.failed === 0)
  let told = PROGRESS_LINES
  let isAtEnd = false
  try {
    for await (const results of importTenants(session, session.actor, lines, options)) {
      for (const { outcome } of results) counts[outcome] += 1
      const say = (result: ImportResult) =>
        flags.json ? JSON.stringify(result) : inWords(result, isWritten())
      await write(streams.output, results.map(result => `${say(result)}\n`).join(''))
      const last = results.at(-1)?.line ?? 0
      if (last < told) continue
      told = last + PROGRESS_LINES
      streams.error.write(`doorman: until line ${last}: ${summary(counts, isWritten())}\n`)
    }
    isAtEnd = true
  } finally {
    // Also where it ends before the file does: what is written by then stays.
    if (isAtEnd || Object.values(counts).some(count => count > 0)) {
      const end = writes === 'none' ? '; a trial, --apply writes' : isWritten() ? '' : NOTHING
      streams.output.write(
        flags.json
          ? `${JSON.stringify({ written: isWritten(), ...counts })}\n`
          : `${summary(counts, isWritten())}${end}\n`,
      )
    }
  }
  return counts.failed === 0 ? EXIT.ok : EXIT.failure
}

const NOTHING = '; nothing was written'

function summary({ created, unchanged, differs, failed }: Counts, isWritten: boolean): string {
  const new_ = `${created} ${isWritten ? 'created' : 'to create'}`
  return `${new_}, ${unchanged} unchanged, ${differs} differ, ${failed} failed`
}

function inWords({ line, outcome, key, problem }: ImportResult, isWritten: boolean): string {
  const word = outcome === 'created' && !isWritten ? 'fits' : outcome
  return `line ${line}: ${word.padEnd(9)} ${key}${problem === null ? '' : `: ${problem}`}`
}

/** Waits for who reads it: a hundred thousand lines are not to gather in memory. */
async function write(output: NodeJS.WritableStream, text: string): Promise<void> {
  if (!output.write(text)) await once(output, 'drain')
}

/** A file and no argument: it holds secrets. @throws CliFailure usage */
async function* textOf(path: string): AsyncGenerator<string, void, undefined> {
  try {
    const file = await open(path)
    yield* file.createReadStream({ encoding: 'utf8' }) as AsyncIterable<string>
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new CliFailure(EXIT.usage, `${path} cannot be read (${code})`)
  }
}
