import { open, readdir, readFile, rename, unlink } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { Fault } from '../../registry/lib/errors.ts'
import type { Log } from '../../registry/lib/log.ts'
import type { RegistryStore } from '../../registry/store.ts'
import { applyUsage } from '../../registry/usage-batch.ts'
import { JOURNAL_SUFFIX, pidSpace } from './journal.ts'
import { type JournalFile, readJournal } from './journal-file.ts'

export interface AdoptOptions {
  readonly dir: string
  /** This process, whose own files are left alone. */
  readonly instance: string
  readonly store: Pick<RegistryStore, 'query'>
  readonly log: Log
}

/** A file is touched every METERING_FLUSH_MS while its process lives; one as old as this was left behind. */
const QUIET_MS = 300_000
/** The same where its process had our own id, on our own host: a container that was started again. */
const QUIET_SAME_PID_MS = 60_000
/** A head is much shorter, whatever its host is called. */
const HEAD_BYTES_MAX = 2048
/** Larger is no journal of ours, see `UsageJournal`. */
const JOURNAL_BYTES_MAX = 256 * 1024 * 1024

/**
 * Brings in what processes that were killed had counted. Each file is the batch of its process and number, so
 * that it counts once though the process had sent it, or several find it at one time.
 *
 * @returns how many files were brought in
 * @throws Fault REGISTRY_UNAVAILABLE: what is left is there for the next time
 */
export async function adoptJournals(options: AdoptOptions): Promise<number> {
  const { dir, instance, log } = options
  const names = (await readdir(dir)).filter(name => name.endsWith(JOURNAL_SUFFIX))
  const left = names.map(readName).filter(file => file !== null && file.instance !== instance)
  // In order: the Registry takes no number that is below the last one.
  const files = left as NonNullable<(typeof left)[number]>[]
  files.sort((a, b) => a.sequence - b.sequence)
  let adopted = 0
  for (const { name, sequence } of files) {
    const found = await readAbandoned(join(dir, name))
    if (found === 'gone' || found === 'alive') continue
    if (found === null || found.head.sequence !== sequence) {
      log.error({ file: name }, 'not a journal, put aside')
      await putAside(join(dir, name))
      continue
    }
    if (await isVoid(dir, found)) {
      await unlink(join(dir, name)).catch(() => {})
      continue
    }
    if (!found.head.isFinal) await removeRest(dir, found)
    if (await bringIn(options, name, found)) adopted++
  }
  return adopted
}

async function bringIn(
  { dir, store, log }: AdoptOptions,
  name: string,
  { head, parts, damaged }: JournalFile,
): Promise<boolean> {
  const { instance, sequence, openedAtMs } = head
  try {
    const outcome = await applyUsage(store, {
      instance,
      sequence,
      sealedAtMs: openedAtMs,
      ...parts,
    })
    log.info({ file: name, outcome, damaged }, 'usage of a process that ended was brought in')
    if (outcome === 'late') await putAside(join(dir, name))
    else await unlink(join(dir, name)).catch(() => {})
    return outcome === 'applied'
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== 'VALIDATION_FAILED') throw error
    log.error({ file: name, reason: error.reason }, 'the Registry refused usage, put aside')
    await putAside(join(dir, name))
    return false
  }
}

async function readAbandoned(path: string): Promise<JournalFile | null | 'gone' | 'alive'> {
  try {
    const { first, mtimeMs, size } = await readStart(path)
    if (size > JOURNAL_BYTES_MAX) return null
    const quietMs = Date.now() - mtimeMs
    // Its head may be on its way.
    if (first === null) return quietMs > QUIET_MS ? null : 'alive'
    if (isAlive(first.head, quietMs)) return 'alive'
    return readJournal(await readFile(path, 'utf8'))
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

/** A process that lives must not be overtaken: what it adds afterwards would be of a number that is in. */
function isAlive({ host, pid, pidSpace: space }: JournalFile['head'], quietMs: number): boolean {
  if (host !== hostname()) return quietMs < QUIET_MS
  if (pid === process.pid) return quietMs < QUIET_SAME_PID_MS
  if (space !== pidSpace()) return quietMs < QUIET_MS
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  // Another one may have got its number meanwhile.
  return quietMs < QUIET_MS
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
