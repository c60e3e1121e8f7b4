import { open, readdir, readFile, rename, stat, unlink } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, join } from 'node:path'
import { Fault } from '../../registry/lib/errors.ts'
import type { Log } from '../../registry/lib/log.ts'
import type { RegistryStore } from '../../registry/store.ts'
import { refusalOf } from '../../registry/usage-refusal.ts'
import { bringIn } from './bring-in.ts'
import { JOURNAL_SUFFIX, pidSpace } from './journal.ts'
import { type JournalFile, readJournal, readLongJournal } from './journal-file.ts'

export interface AdoptOptions {
  readonly dir: string
  /** This process, whose own files are left alone. */
  readonly instance: string
  readonly store: Pick<RegistryStore, 'query'>
  readonly log: Log
  /**
   * Files that seemed quiet at earlier looks. Where it is given a file is brought in only once it has not been touched for a while by the
   * monotonic clock too: by the wall clock alone all are quiet as soon as that jumps.
   */
  readonly quiet?: Map<string, { readonly mtimeMs: number; readonly sinceMs: number }>
}

/** A file is touched every METERING_FLUSH_MS while its process lives; one as old as this was left behind. */
const QUIET_MS = 300_000
/** The same where its process had our own id, on our own host: a container that was started again. */
const QUIET_SAME_PID_MS = 60_000
/** To write a file anew takes a moment. */
const STALE_MS = 3_600_000
/** A process that lives touches its file within METERING_FLUSH_MS, a minute at most. */
const QUIET_SEEN_MS = 90_000
/** A head is much shorter, whatever its host is called. */
const HEAD_BYTES_MAX = 2048
/** Larger is no journal of ours, see `UsageJournal`. */
const JOURNAL_BYTES_MAX = 256 * 1024 * 1024

/**
 * Brings in what processes that were killed had counted. Each file is the batch of its process and number, so
 * that it counts once though the process had sent it, or several find it at one time. It comes in in parts, each by a statement
 * that ends in time however large the file is; killed in between, whoever looks next goes on where this one was.
 *
 * @returns how many files were brought in
 * @throws Fault REGISTRY_UNAVAILABLE: what is left is there for the next time
 */
export async function adoptJournals(options: AdoptOptions): Promise<number> {
  const { dir, instance, quiet } = options
  const all = await readdir(dir)
  for (const path of quiet?.keys() ?? []) if (!all.includes(basename(path))) quiet?.delete(path)
  await removeStale(dir, all)
  const names = all.filter(name => name.endsWith(JOURNAL_SUFFIX))
  const left = names.map(readName).filter(file => file !== null && file.instance !== instance)
  // In order: the Registry takes no number that is below the last one.
  const files = left as NonNullable<(typeof left)[number]>[]
  files.sort((a, b) => a.sequence - b.sequence)
  let adopted = 0
  /** Processes of which a file has to wait, and so all after it. */
  const waiting = new Map<string, unknown>()
  for (const file of files) {
    if (waiting.has(file.instance)) continue
    try {
      if (await adoptOne(options, file.name, file.sequence)) adopted++
    } catch (error) {
      // One that cannot be read, or cannot come in now, holds up those of its own process and no others.
      if (error instanceof Fault && refusalOf(error).why === 'unreachable') throw error
      waiting.set(file.instance, error)
    }
  }
  for (const error of waiting.values()) throw error
  return adopted
}

/** @returns true: it was brought in, here and now */
async function adoptOne(options: AdoptOptions, name: string, sequence: number): Promise<boolean> {
  const { dir, log, quiet } = options
  const path = join(dir, name)
  const found = await readAbandoned(path, quiet)
  if (found === 'gone' || found === 'alive') return false
  if (found === null || found.head.sequence !== sequence) {
    log.error({ file: name }, 'not a journal, put aside')
    await putAside(path)
    return false
  }
  if (await isVoid(dir, found)) {
    await unlink(path).catch(() => {})
    return false
  }
  if (!found.head.isFinal) await removeRest(dir, found)
  const outcome = await bringIn(options, name, found)
  if (outcome === 'aside') await putAside(path)
  else await unlink(path).catch(() => {})
  return outcome === 'applied'
}

/** What a process left that was killed while it wrote a file anew. */
async function removeStale(dir: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    if (!/^\.[0-9a-f-]{36}$/.test(name)) continue
    const about = await stat(join(dir, name)).catch(() => null)
    if (about === null || Date.now() - about.mtimeMs < STALE_MS) continue
    await unlink(join(dir, name)).catch(() => {})
  }
}

async function readAbandoned(
  path: string,
  quiet: AdoptOptions['quiet'],
): Promise<JournalFile | null | 'gone' | 'alive'> {
  try {
    const { first, mtimeMs, size } = await readStart(path)
    if (size > JOURNAL_BYTES_MAX) return null
    const quietMs = Date.now() - mtimeMs
    // Its head may be on its way.
    if (first === null) return quietMs > QUIET_MS ? null : 'alive'
    const state = stateOf(first.head, quietMs)
    if (state === 'alive') return 'alive'
    if (state === 'quiet' && !hasStayed(path, mtimeMs, quiet)) return 'alive'
    return await readLongJournal(await readFile(path, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'gone'
    throw error
  }
}

/** Of processes that live, and most do, nothing but the head is read: the rest may be megabytes, every 10 s. */
async function readStart(path: string) {
  const file = await open(path)
  try {
    const { mtimeMs, size } = await file.stat()
    const { buffer, bytesRead } = await file.read(
      Buffer.alloc(HEAD_BYTES_MAX),
      0,
      HEAD_BYTES_MAX,
      0,
    )
    return { first: readJournal(buffer.toString('utf8', 0, bytesRead)), mtimeMs, size }
  } finally {
    await file.close()
  }
}

/**
 * A process that lives must not be overtaken: what it adds afterwards would be of a number that is in. `gone` is certain, `quiet` is
 * what its file looks like.
 */
function stateOf(
  { host, pid, pidSpace: space }: JournalFile['head'],
  quietMs: number,
): 'alive' | 'quiet' | 'gone' {
  const judge = (enoughMs: number) => (quietMs < enoughMs ? 'alive' : 'quiet')
  if (host !== hostname()) return judge(QUIET_MS)
  if (pid === process.pid) return judge(QUIET_SAME_PID_MS)
  if (space !== pidSpace()) return judge(QUIET_MS)
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return 'gone'
  }
  // Another one may have got its number meanwhile.
  return judge(QUIET_MS)
}

/** True where nobody has touched it since an earlier look that is long enough ago. */
function hasStayed(path: string, mtimeMs: number, quiet: AdoptOptions['quiet']): boolean {
  if (quiet === undefined) return true
  const seen = quiet.get(path)
  const nowMs = performance.now()
  if (seen?.mtimeMs === mtimeMs) return nowMs - seen.sinceMs >= QUIET_SEEN_MS
  quiet.set(path, { mtimeMs, sinceMs: nowMs })
  return false
}

/** True where the file before holds all that this one began with, and was never sent. */
async function isVoid(dir: string, { head }: JournalFile): Promise<boolean> {
  if (head.restOf === null) return false
  try {
    const before = await readFile(join(dir, nameOf(head.instance, head.restOf)), 'utf8')
    return readJournal(before)?.head.isFinal === false
  } catch {
    return false
  }
}

/** Before `file` is brought in and goes: afterwards nothing would show that its rest is void. */
async function removeRest(dir: string, { head }: JournalFile): Promise<void> {
  const path = join(dir, nameOf(head.instance, head.sequence + 1))
  try {
    const next = readJournal(await readFile(path, 'utf8'))
    if (next?.head.restOf === head.sequence) await unlink(path)
  } catch {
    // There is none.
  }
}

function nameOf(instance: string, sequence: number): string {
  return `${instance}.${sequence}${JOURNAL_SUFFIX}`
}

function readName(name: string) {
  const [, instance, sequence] = /^([0-9a-f-]{36})\.(\d{1,15})\.usage$/.exec(name) ?? []
  if (instance === undefined) return null
  return { name, instance, sequence: Number(sequence) }
}

async function putAside(path: string): Promise<void> {
  await rename(path, `${path}.refused`).catch(() => {})
}
