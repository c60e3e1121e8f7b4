import { setTimeout as delay } from 'node:timers/promises'
import type { MigrationNote } from '../registry/migration-note.ts'

/** What the Registry takes of a run. */
export interface RecorderOptions {
  readonly noteMigrations: (notes: readonly MigrationNote[]) => Promise<void>
  readonly setSchemaVersions: (versions: ReadonlyMap<string, string | null>) => Promise<void>
}

/** One statement for what came meanwhile: a fleet of thousands costs the Registry some statements a second. */
const FLUSH_MS = 500
const NOTES_MAX = 500
/**
 * Each version that moves is a notice to every gateway. A watch's catch-up reads 5 s at once and takes more than
 * 1,000 changes for a gap (registry/tenant-changes.ts), after which everything is read anew: half of that is never exceeded.
 */
const VERSIONS_MAX = 50
/** Attempts to write what is left at the end, FLUSH_MS apart. */
const LAST_ATTEMPTS = 10

/**
 * Writes into the Registry how the tenants fare, in batches. Nothing waits for it: the databases' own records are
 * the truth, and what a killed runner did not tell the next run does.
 */
export class Recorder {
  readonly #options: RecorderOptions
  /** The latest note of each tenant; bounded by the tenants of the run. */
  readonly #notes = new Map<string, MigrationNote>()
  readonly #versions = new Map<string, string | null>()
  readonly #timer: NodeJS.Timeout
  /** One at a time, however slow the Registry is. */
  #writing: Promise<void> | null = null
  #lastError: unknown = null

  constructor(options: RecorderOptions) {
    this.#options = options
    this.#timer = setInterval(() => {
      this.#writing ??= this.#flush().finally(() => {
        this.#writing = null
      })
    }, FLUSH_MS)
  }

  note(note: MigrationNote): void {
    this.#notes.set(note.id, note)
  }

  /** That a tenant's database is at `version`. */
  version(id: string, version: string | null): void {
    this.#versions.set(id, version)
  }

  /** Writes what is left. @throws Error where the Registry does not take it */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#writing
    for (let failures = 0; this.#notes.size + this.#versions.size > 0; ) {
      this.#lastError = null
      await this.#flush()
      if (this.#lastError !== null && ++failures >= LAST_ATTEMPTS) throw this.#lastError
      if (this.#notes.size + this.#versions.size > 0) await delay(FLUSH_MS)
    }
  }

  async #flush(): Promise<void> {
    await this.#take(this.#notes, NOTES_MAX, notes =>
      this.#options.noteMigrations([...notes.values()]),
    )
    await this.#take(this.#versions, VERSIONS_MAX, versions =>
      this.#options.setSchemaVersions(versions),
    )
  }

  /** Writes some of `from` by `write`; what could not be written stays, unless there is news of it. */
  async #take<V>(
    from: Map<string, V>,
    max: number,
    write: (some: ReadonlyMap<string, V>) => Promise<void>,
  ): Promise<void> {
    const some = new Map([...from].slice(0, max))
    if (some.size === 0) return
    for (const id of some.keys()) from.delete(id)
    try {
      await write(some)
    } catch (error) {
      this.#lastError = error
      for (const [id, value] of some) if (!from.has(id)) from.set(id, value)
    }
  }
}
