import type { Keyring } from '../envelope.ts'
import { Fault } from '../lib/errors.ts'
import type { Actor } from './actor.ts'
import type { AdminDeps } from './deps.ts'
import { type BatchOptions, type ImportResult, importBatch, type Taken } from './import-batch.ts'
import type { FileLine } from './import-file.ts'

export interface ImportOptions extends Pick<BatchOptions, 'writes' | 'allowSharedDatabase'> {
  /** Opens the secrets of the file. */
  readonly sealedBy: Keyring
}

/** Lines in one transaction: its locks are few, and what waits for one of its databases does so for a second. */
const BATCH_LINES = 500
/** With `all`: each place of a database is locked until the end, and PostgreSQL has room for some 6,000 locks. */
export const IMPORT_ATOMIC_MAX = 2000
/** Keys, ids and places of the lines before are kept in memory: 300 bytes or so a line. */
export const IMPORT_LINES_MAX = 200_000

/**
 * Takes over a fleet, some hundred lines at a time: a line that fails is told of and left out, and the others are
 * written. So a run that was cut short is run again: what is there already and is as the file says is skipped. A trial
 * does the very same work, so that what it says is what the Registry says, but for what lies between two batches in the
 * Registry alone (prefixes of one bucket). Tenants that exist are left as they are.
 *
 * @returns the results of each batch once it is written, one a line, in their order
 * @throws Fault VALIDATION_FAILED where the file cannot be read on, or has too many lines; REGISTRY_UNAVAILABLE. Batches
 * before that are written, and told of
 */
export async function* importTenants(
  deps: AdminDeps,
  actor: Actor,
  lines: AsyncIterable<FileLine>,
  options: ImportOptions,
): AsyncGenerator<readonly ImportResult[], void, undefined> {
  const keyring = await deps.keyring()
  const taken: Taken = new Map()
  const isAtomic = options.writes === 'all'
  const linesMax = isAtomic ? IMPORT_ATOMIC_MAX : IMPORT_LINES_MAX
  const reader = lines[Symbol.asyncIterator]()
  try {
    for (let count = 0; ; ) {
      const read = await readBatch(reader, isAtomic ? linesMax + 1 : BATCH_LINES)
      count += read.lines.length
      const problem = count > linesMax ? tooMany(linesMax) : read.problem
      if (isAtomic && problem !== null) throw problem
      if (count <= linesMax && read.lines.length > 0) {
        yield await importBatch(deps, read.lines, taken, { ...options, actor, keyring })
      }
      if (problem !== null) throw problem
      if (read.isEnd) return
    }
  } finally {
    await reader.return?.()
  }
}

/** What was read before a problem counts. */
async function readBatch(reader: AsyncIterator<FileLine>, max: number) {
  const lines: FileLine[] = []
  try {
    while (lines.length < max) {
      const next = await reader.next()
      if (next.done) return { lines, isEnd: true, problem: null }
      lines.push(next.value)
    }
    return { lines, isEnd: false, problem: null }
  } catch (problem) {
    return { lines, isEnd: true, problem }
  }
}

function tooMany(linesMax: number): Fault {
  return new Fault('VALIDATION_FAILED', `more than ${linesMax} lines: split the file`)
}
