import { randomUUID } from 'node:crypto'
import {
  closeSync,
  fdatasync,
  fstatSync,
  futimesSync,
  mkdirSync,
  openSync,
  readlinkSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Log } from '../../registry/lib/log.ts'
import type { UsageBatch, UsageParts } from '../../registry/usage-batch.ts'
import { type JournalHead, journalText } from './journal-file.ts'
import { dateOf, type TenantUsage } from './tenant-usage.ts'

export interface JournalOptions {
  /** METERING_JOURNAL_DIR: may be shared by workers, and by gateways. */
  readonly dir: string
  readonly instance: string
  readonly log: Log
  /** A file that has grown beyond it is written anew, as the sums of what it holds. */
  readonly fileBytesMax?: number
}

export const JOURNAL_SUFFIX = '.usage'
const JOURNAL_BYTES_MAX = 8 * 1024 * 1024
const BUFFER_BYTES = 64 * 1024
/** A user id has 255 characters at most, which JSON may write as six each. */
const LINE_BYTES_MAX = 2048
/** After a write that failed (a full disk), until the next attempt. */
const PAUSE_MS = 5000

/**
 * What this process has counted and what is not in the Registry, in files: one for each batch, from its first
 * count until the Registry has it. A line is in the kernel's hands before the client can see the answer that it
 * counts, so that a process that is killed loses nothing; a machine that loses its power may lose what was
 * counted since the last seal, for only then the disk is waited for (in the background).
 *
 * Where the disk refuses a write the answer goes out all the same: it is counted in memory, as without a journal, and the
 * file is written anew from there as soon as the disk takes it, see `isTorn`.
 */
export class UsageJournal {
  readonly #options: JournalOptions
  readonly #buffer = Buffer.allocUnsafe(BUFFER_BYTES)
  #length = 0
  #fd: number | null = null
  #fileBytes = 0
  readonly #bytesMax: number
  #compactAtBytes: number
  #sequence = 1
  /** Of the file: numbers of tenants are good in one alone. */
  #epoch = 0
  #numbers = 0
  #failures = 0
  #retryAtMs = 0
  /** The file lacks lines that were counted. */
  #lacksLines = false
  /** A batch whose file is not as it is to be. */
  #unsaved: UsageBatch | null = null

  /** @throws Error where the folder cannot be made */
  constructor(options: JournalOptions) {
    this.#options = options
    this.#bytesMax = options.fileBytesMax ?? JOURNAL_BYTES_MAX
    this.#compactAtBytes = this.#bytesMax
    mkdirSync(options.dir, { recursive: true, mode: 0o700 })
  }

  /** Writes that the disk refused. */
  get failures(): number {
    return this.#failures
  }

  /** True once the file is to be written anew, see `compact`. */
  get isToCompact(): boolean {
    if (this.isTorn) return performance.now() >= this.#retryAtMs
    return this.#fileBytes > this.#compactAtBytes
  }

  /** True where a killed process would lose something: a write has failed, see `compact`. */
  get isTorn(): boolean {
    return this.#lacksLines || this.#unsaved !== null
  }

  add(usage: TenantUsage, column: number, amount: number): void {
    this.#line(`+ ${this.#numberOf(usage)} ${column}=${amount}`)
  }

  addUser(usage: TenantUsage, id: string, mark: number): void {
    this.#line(`u ${this.#numberOf(usage)} ${mark} ${JSON.stringify(id)}`)
  }

  addMark(usage: TenantUsage, mark: number): void {
    this.#line(`s ${this.#numberOf(usage)} ${mark}`)
  }

  addCounter(usage: TenantUsage, name: string, value: number): void {
    this.#line(`c ${this.#numberOf(usage)} ${name} ${value}`)
  }

  /** Hands what was added to the kernel. */
  write(): void {
    if (this.#length === 0) return
    const length = this.#length
    this.#length = 0
    if (this.#fd === null) return
    try {
      put(this.#fd, this.#buffer, length)
      this.#fileBytes += length
    } catch (error) {
      this.#fail(error)
    }
  }

  /**
   * All that was added is in `batch`, but for `rest`, which was not taken: what is added from now on is of the
   * next file.
   */
  seal(batch: UsageBatch, rest: UsageParts | null): void {
    this.write()
    this.#leaveFile()
    this.#sequence = batch.sequence + 1
    // Its file is the batch already.
    if (rest === null && !this.isTorn) return
    this.#unsaved = batch
    this.#lacksLines = false
    try {
      // In this order: while the first file holds the rest too, the second says that it is void.
      if (rest !== null) this.#open(rest, batch.sequence)
      this.#saveSealed()
    } catch (error) {
      this.#fail(error)
    }
  }

  /** Writes the file anew, as what it amounts to; and that of the last batch, where that could not be written. */
  compact(all: UsageParts): void {
    this.write()
    this.#leaveFile()
    try {
      const restOf = this.#unsaved?.sequence ?? null
      const text = journalText({ ...this.#head(this.#sequence), restOf }, all)
      this.#replace(this.#sequence, text)
      this.#fd = openSync(this.#fileOf(this.#sequence), 'a', 0o600)
      this.#fileBytes = text.length
      this.#compactAtBytes = Math.max(this.#bytesMax, 2 * text.length)
      this.#saveSealed()
      this.#lacksLines = false
    } catch (error) {
      this.#fail(error)
    }
  }

  /** The Registry has the batch. */
  drop(sequence: number): void {
    if (this.#unsaved?.sequence === sequence) this.#unsaved = null
    try {
      unlinkSync(this.#fileOf(sequence))
    } catch {
      // Nothing was written of it, or who took this process for dead has brought it in.
    }
  }

  /** What is in no batch is void, see `Meter.written`. */
  dropCurrent(): void {
    this.#length = 0
    this.#leaveFile()
    this.#lacksLines = false
    this.drop(this.#sequence)
  }

  /** Says that the process lives, see `adoptJournals`. */
  touch(): void {
    try {
      const now = new Date()
      if (this.#fd !== null) futimesSync(this.#fd, now, now)
    } catch (error) {
      this.#fail(error)
    }
  }

  close(): void {
    this.write()
    this.#leaveFile()
  }

  #numberOf(usage: TenantUsage): number {
    if (this.#fd === null) this.#begin()
    if (usage.journalEpoch !== this.#epoch) {
      usage.journalEpoch = this.#epoch
      usage.journalNumber = this.#numbers++
      this.#line(`t ${usage.journalNumber} ${usage.tenantId} ${dateOf(usage.day)}`)
    }
    return usage.journalNumber
  }

  #line(payload: string): void {
    if (this.#fd === null) return
    if (BUFFER_BYTES - this.#length < LINE_BYTES_MAX) this.write()
    const start = this.#length + 9
    const length = this.#buffer.write(payload, start, 'utf8')
    const sum = crc32(this.#buffer.subarray(start, start + length))
    this.#buffer.write(`${sum.toString(16).padStart(8, '0')} `, this.#length, 'latin1')
    this.#buffer[start + length] = 0x0a
    this.#length = start + length + 1
  }

  #begin(): void {
    if (performance.now() < this.#retryAtMs) return
    try {
      this.#open(null, null)
    } catch (error) {
      this.#fail(error)
    }
  }

  /** @throws Error */
  #open(parts: UsageParts | null, restOf: number | null): void {
    const head = { ...this.#head(this.#sequence), restOf }
    const fd = openSync(this.#fileOf(this.#sequence), 'a', 0o600)
    this.#fd = fd
    this.#epoch++
    this.#fileBytes = fstatSync(fd).size
    this.#compactAtBytes = this.#bytesMax
    // One that a failed write has left goes on, behind whatever that write did.
    const isNew = this.#fileBytes === 0
    const empty = { days: [], users: [], sketches: [], counters: [] }
    const bytes = Buffer.from(isNew ? journalText(head, parts ?? empty) : '\n')
    put(fd, bytes)
    this.#fileBytes += bytes.length
  }

  /** @throws Error */
  #saveSealed(): void {
    const batch = this.#unsaved
    if (batch === null) return
    const head = { ...this.#head(batch.sequence), isFinal: true }
    this.#replace(batch.sequence, journalText(head, batch))
    this.#unsaved = null
  }

  /** @throws Error; the file is as it was or as it is to be, whatever happens */
  #replace(sequence: number, text: string): void {
    const beside = join(this.#options.dir, `.${randomUUID()}`)
    const fd = openSync(beside, 'wx', 0o600)
    try {
      put(fd, Buffer.from(text))
      renameSync(beside, this.#fileOf(sequence))
    } catch (error) {
      rmSync(beside, { force: true })
      throw error
    } finally {
      closeSync(fd)
    }
  }

  #leaveFile(): void {
    const fd = this.#fd
    this.#fd = null
    this.#epoch++
    if (fd !== null) fdatasync(fd, () => closeSync(fd))
  }

  #fail(error: unknown): void {
    if (this.#failures++ === 0 || performance.now() > this.#retryAtMs) {
      this.#options.log.error({ err: error }, 'the usage journal cannot be written')
    }
    this.#retryAtMs = performance.now() + PAUSE_MS
    this.#lacksLines = true
    if (this.#fd === null) return
    try {
      closeSync(this.#fd)
    } catch {
      // Nothing is left to be done with it.
    }
    this.#fd = null
    this.#epoch++
  }

  #head(sequence: number): JournalHead {
    const { instance } = this.#options
    return {
      version: 1,
      instance,
      sequence,
      host: hostname(),
      pid: process.pid,
      pidSpace: pidSpace(),
      openedAtMs: Date.now(),
      restOf: null,
      isFinal: false,
    }
  }

  #fileOf(sequence: number): string {
    return join(this.#options.dir, `${this.#options.instance}.${sequence}${JOURNAL_SUFFIX}`)
  }
}

/** @throws Error */
function put(fd: number, bytes: Buffer, length = bytes.length): void {
  for (let at = 0; at < length; ) at += writeSync(fd, bytes, at, length - at)
}

/**
 * The PID namespace of this process, where there are such: containers on one host name (`network_mode: host`) do not see each
 * other's processes, and one that is not seen may live.
 */
export function pidSpace(): string | null {
  try {
    return readlinkSync('/proc/self/ns/pid')
  } catch {
    return null
  }
}
