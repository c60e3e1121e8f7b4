import { setTimeout as delay } from 'node:timers/promises'
import { Fault, publicFault } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import type { RegistryStore } from '../store.ts'
import { type RunnerProcess, startRunner } from './runner-process.ts'
import { giveUpRun } from './runs.ts'

export interface LauncherOptions {
  readonly store: RegistryStore
  /** By `runnerEnv`. */
  readonly env: NodeJS.ProcessEnv
  readonly log: Log
}

/**
 * Starts the runs of the admin API. A run is a process of its own and goes on where this one dies; one that drains asks
 * its runs to stop in order, for a container that ends takes all its processes with it: what is begun is finished,
 * and the run can be gone on with by a retry.
 */
export class RunLauncher {
  readonly #options: LauncherOptions
  readonly #runs = new Set<RunnerProcess>()
  /** Aborted by a drain: nobody waits for a plan then. */
  readonly #stop = new AbortController()
  #isPlanning = false
  #isDraining = false

  constructor(options: LauncherOptions) {
    this.#options = options
  }

  get env(): NodeJS.ProcessEnv {
    return this.#options.env
  }

  /** @throws Fault SHUTTING_DOWN */
  requireOpen(): void {
    if (this.#isDraining)
      throw new Fault('SHUTTING_DOWN', 'no run is begun by a gateway that stops')
  }

  /** Starts the process of a run whose row is there. @throws Fault INTERNAL where there is none to be had */
  async launch(id: string): Promise<void> {
    const { store, env, log } = this.#options
    let run: RunnerProcess
    try {
      run = await startRunner({ args: ['--run-id', id], env, isDetached: true })
    } catch (error) {
      await giveUpRun(store, id, 'its process could not be started')
      throw new Fault('INTERNAL', 'the runner could not be started', { cause: error })
    }
    this.#runs.add(run)
    if (this.#isDraining) run.stop()
    run.ended.then(async ({ code, complaint }) => {
      this.#runs.delete(run)
      const line = { run_id: id, code, complaint: complaint === '' ? undefined : complaint }
      log[code === 0 ? 'info' : 'warn'](line, 'migration run ended')
      // It says by itself how it ended, unless it could not.
      const how = code === null ? 'by a signal' : `with ${code}`
      await giveUpRun(store, id, `its process ended ${how}; the log of its gateway has more`).catch(
        error => log.debug({ err: error, run_id: id }, 'the end of a run was not noted'),
      )
    })
  }

  /** One at a time. @throws Fault OVERLOADED where there is one */
  async plan<T>(make: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#isPlanning) {
      const text = 'another plan is being made'
      throw publicFault('OVERLOADED', text)
    }
    this.#isPlanning = true
    try {
      return await make(this.#stop.signal)
    } finally {
      this.#isPlanning = false
    }
  }

  /** Asks the runs to stop in order. */
  drain(): void {
    this.#isDraining = true
    this.#stop.abort()
    for (const run of this.#runs) run.stop()
  }

  /** Gives them `ms` for it; those that need longer end by themselves. */
  async close(ms: number): Promise<void> {
    this.drain()
    const all = Promise.all([...this.#runs].map(({ ended }) => ended))
    await Promise.race([all, delay(ms, undefined, { ref: false })])
  }
}
