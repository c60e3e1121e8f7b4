import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import type { RegistryStore } from '../registry/store.ts'
import type { FleetResult, TenantOutcome } from './fleet.ts'
import type { Wave } from './waves.ts'

/** Between two heartbeats; the row counts as dead after some that are missing (HEARTBEAT_STALE_S). */
const BEAT_MS = 1000
/** Attempts to write how it ended. */
const LAST_ATTEMPTS = 10

/** $6: 1 where anything that is shown moved. No row: it was given up as dead, or is gone. */
const BEAT = `
  UPDATE migration_runs SET heartbeat_at = now(), wave = $2, ok = $3, failed = $4, skipped = $5,
    revision = revision + $6
  WHERE id = $1 AND state = 'running' RETURNING cancelled_by`
const SELECT = `
  UPDATE migration_runs SET heartbeat_at = now(), selection = $2, target = $3, revision = revision + 1
  WHERE id = $1 AND state = 'running'`
const END = `
  UPDATE migration_runs SET state = $2, problem = $3, wave = $4, ok = $5, failed = $6, skipped = $7,
    heartbeat_at = now(), ended_at = now(), revision = revision + 1
  WHERE id = $1 AND state = 'running'`

/** How a run ended, in the Registry's words. */
export interface RunEnd {
  readonly state: 'done' | 'stopped' | 'cancelled' | 'interrupted'
  readonly problem: string | null
}

/**
 * A run as the Registry shows it while it goes. Its row is also how it is told to stop: by who cancels it, and by who took
 * it for dead and began another. The run goes on where the Registry does not answer.
 */
export class RunRecord {
  readonly id: string
  readonly #store: RegistryStore
  readonly #stop = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly #counts = { ok: 0, failed: 0, skipped: 0 }
  #wave: string | null = null
  #isCancelled = false
  #isGivenUp = false
  /** Counts and wave that the row has. */
  #written = ''
  #beating: Promise<void> | null = null

  /** Of a row that this process has claimed. */
  constructor(store: RegistryStore, id: string) {
    this.#store = store
    this.id = id
    this.#timer = setInterval(() => {
      this.#beating ??= this.#beat()
        // The next one will tell.
        .catch(() => {})
        .finally(() => {
          this.#beating = null
        })
    }, BEAT_MS)
  }

  /** Aborted when it was cancelled or given up. */
  get signal(): AbortSignal {
    return this.#stop.signal
  }

  /** @throws Error where the Registry does not take it */
  async selected(tenants: readonly { readonly id: string }[], target: string | null) {
    await this.#store.query(SELECT, [this.id, tenants.map(({ id }) => id), target])
  }

  wave({ name }: Wave): void {
    this.#wave = name
  }

  done({ result }: TenantOutcome): void {
    this.#counts[result] += 1
  }

  /** Writes how it ended; a row that was given up stays so. @throws Error where the Registry does not take it */
  async end(end: RunEnd): Promise<void> {
    clearInterval(this.#timer)
    await this.#beating
    const { ok, failed, skipped } = this.#counts
    const values = [this.id, end.state, end.problem, this.#wave, ok, failed, skipped]
    for (let failures = 0; ; ) {
      try {
        await this.#store.query(END, values)
        return
      } catch (error) {
        if (++failures >= LAST_ATTEMPTS) throw error
        await delay(BEAT_MS)
      }
    }
  }

  /** The words for how a run of the fleet ended. */
  endOf({ left, stoppedBy }: FleetResult): RunEnd {
    if (left === 0) return { state: 'done', problem: null }
    if (stoppedBy === 'failures') return { state: 'stopped', problem: 'too many failed' }
    if (this.#isCancelled) return { state: 'cancelled', problem: null }
    return { state: 'interrupted', problem: 'its runner was told to stop' }
  }

  async #beat(): Promise<void> {
    const { ok, failed, skipped } = this.#counts
    const shown = JSON.stringify([this.#wave, ok, failed, skipped])
    const step = shown === this.#written ? 0 : 1
    const values = [this.id, this.#wave, ok, failed, skipped, step]
    const [row] = await this.#store.query(BEAT, values)
    this.#written = shown
    this.#isGivenUp = row === undefined
    this.#isCancelled = row !== undefined && row.cancelled_by !== null
    if (this.#isGivenUp || this.#isCancelled) this.#stop.abort()
  }
}

/** For the row, so that an operator finds the process. */
export function runnerName(): string {
  return `${hostname()} ${process.pid}`
}
