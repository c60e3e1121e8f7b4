import type { Log } from '../../registry/lib/log.ts'
import type { Plan } from '../../registry/plans.ts'

export interface PlanBookOptions {
  readonly read: () => Promise<readonly Plan[]>
  /** The plans are others than before. */
  readonly onChange: () => void
  readonly log: Log
  readonly pollMs?: number
}

/**
 * All plans, in memory. Read anew at each notice of a change, and every few seconds for notices that were lost; while the
 * Registry is down, the plans that were read last hold.
 */
export class PlanBook {
  readonly #options: PlanBookOptions
  #plans: ReadonlyMap<string, Plan> = new Map()
  #text = ''
  #timer: NodeJS.Timeout | null = null
  #reading: Promise<void> | null = null
  #isAskedAgain = false
  #isFailing = false

  constructor(options: PlanBookOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#plans.size
  }

  get(code: string): Plan | undefined {
    return this.#plans.get(code)
  }

  /** Before the first tenant is served. @throws Fault REGISTRY_UNAVAILABLE */
  async load(): Promise<void> {
    // From now on, so that no notice that comes during the read is lost.
    this.#timer ??= setInterval(() => this.refresh(), this.#options.pollMs ?? 5000).unref()
    await this.#reading
    await this.#begin()
  }

  /** Reads all anew, soon: what changed before this call is in it. */
  refresh(): void {
    if (this.#timer === null) return
    if (this.#reading !== null) {
      // The read under way may have begun before the change.
      this.#isAskedAgain = true
      return
    }
    this.#begin().then(
      () => {
        this.#isFailing = false
      },
      error => {
        if (!this.#isFailing) this.#options.log.warn({ err: error }, 'plans not read')
        this.#isFailing = true
      },
    )
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  /** One read at a time. @throws Fault REGISTRY_UNAVAILABLE */
  #begin(): Promise<void> {
    const reading = this.#read()
    this.#reading = reading
      .catch(() => {})
      .finally(() => {
        this.#reading = null
        if (!this.#isAskedAgain) return
        this.#isAskedAgain = false
        this.refresh()
      })
    return reading
  }

  async #read(): Promise<void> {
    const plans = await this.#options.read()
    const text = JSON.stringify(plans)
    if (text === this.#text) return
    this.#text = text
    this.#plans = new Map(plans.map(plan => [plan.code, plan]))
    this.#options.onChange()
  }
}
