import { Fault, publicFault } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { ProvisionDeps } from './provision.ts'

/** Runs under way at one time in one process: each may hold a database's server busy, and a child process. */
const RUNS_MAX = 4
/** A run that takes longer is stopped at its next step: a migration alone may take ten minutes. */
const RUN_MS = 900_000

/**
 * Work on runs that no request waits for: bounded, each with a deadline, stopped with the process. What
 * it leaves undone stands in the Registry.
 */
export class Provisioner {
  /** Of the runs that it starts. */
  readonly migrate: ProvisionDeps['migrate']
  readonly #log: Log
  readonly #runsMax: number
  readonly #underWay = new Set<Promise<void>>()
  readonly #stop = new AbortController()
  #reserved = 0

  constructor(migrate: ProvisionDeps['migrate'], log: Log, runsMax = RUNS_MAX) {
    this.migrate = migrate
    this.#log = log
    this.#runsMax = runsMax
  }

  /**
   * Starts what `prepare` hands over, and resolves when that is under way. `prepare` runs in the time of the
   * request, and what it throws is the request's.
   *
   * @throws Fault OVERLOADED where too many are under way
   */
  async start(
    key: string,
    prepare: () => Promise<((signal: AbortSignal) => Promise<unknown>) | null>,
  ): Promise<void> {
    if (this.#stop.signal.aborted) throw new Fault('SHUTTING_DOWN', 'no more runs are begun')
    if (this.#reserved >= this.#runsMax) {
      const text = `${this.#runsMax} tenants are being made at this moment: try again later`
      throw publicFault('OVERLOADED', text, { retryAfterS: 5 })
    }
    this.#reserved += 1
    const work = await prepare().catch(error => {
      this.#reserved -= 1
      throw error
    })
    if (work === null) {
      this.#reserved -= 1
      return
    }
    const running = this.#run(key, work)
    this.#underWay.add(running)
    void running.then(() => {
      this.#underWay.delete(running)
      this.#reserved -= 1
    })
  }

  /** Stops what is under way between two of its steps. The caller does not wait for ever. */
  async close(): Promise<void> {
    this.#stop.abort()
    await Promise.all(this.#underWay)
  }

  async #run(key: string, work: (signal: AbortSignal) => Promise<unknown>): Promise<void> {
    const startedAt = performance.now()
    const took = () => ({ tenant_key: key, ms: Math.round(performance.now() - startedAt) })
    try {
      await work(AbortSignal.any([this.#stop.signal, AbortSignal.timeout(RUN_MS)]))
      this.#log.info(took(), 'provisioning done')
    } catch (error) {
      const { code, reason } =
        error instanceof Fault ? error : { code: 'INTERNAL', reason: 'not a fault' }
      this.#log.warn({ ...took(), code, reason }, 'provisioning failed')
    }
  }
}
