import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { type Child, startChild } from './lib/child.ts'
import type { Pinning } from './lib/cpus.ts'
import type { Interval } from './lib/stalls.ts'
import type { Watch } from './load/witness.ts'

const MAIN = fileURLToPath(new URL('./load/witness.ts', import.meta.url))
const SLACK_MS = 10_000
/** chrt(1): real time goes before all that is not; idle gives way to all that is not. */
const POLICIES = { realTime: ['chrt', '-f', '1'], idle: ['chrt', '-i', '0'] } as const

/** The command prefix for a scheduling policy; empty where this user may not set it. */
export function scheduled(policy: keyof typeof POLICIES): readonly string[] {
  const [file, ...args] = POLICIES[policy]
  return spawnSync(file, [...args, 'true'], { stdio: 'ignore' }).status === 0
    ? POLICIES[policy]
    : []
}

/** Processes whose waiting for a core is looked at, by core. */
export interface Watched {
  readonly proxy: readonly number[]
  readonly load: readonly number[]
}

/** One process on each core that sees when the machine did not give that core to those who wanted it. */
export class Witnesses {
  readonly #proxy: Child
  readonly #load: Child
  readonly #isRealTime: boolean

  private constructor(proxy: Child, load: Child, isRealTime: boolean) {
    this.#proxy = proxy
    this.#load = load
    this.#isRealTime = isRealTime
  }

  static async start({ proxy, load }: Pick<Pinning, 'proxy' | 'load'>): Promise<Witnesses> {
    const first = scheduled('realTime')
    const startOn = (pin: readonly string[]) =>
      startChild([process.execPath, MAIN], { prefix: [...first, ...pin], hasIpc: true })
    return new Witnesses(await startOn(proxy), await startOn(load), first.length > 0)
  }

  /** @returns the stalls of the coming seconds */
  async watch(seconds: number, { proxy, load }: Watched): Promise<readonly Interval[]> {
    const asked = [this.#ask(this.#proxy, seconds, proxy), this.#ask(this.#load, seconds, load)]
    return (await Promise.all(asked)).flat()
  }

  async stop(): Promise<void> {
    await Promise.all([this.#proxy.stop(), this.#load.stop()])
  }

  async #ask({ process: child }: Child, seconds: number, pids: readonly number[]) {
    const signal = AbortSignal.timeout(SLACK_MS + seconds * 1000)
    const message = once(child, 'message', { signal })
    child.send({ seconds, pids, isRealTime: this.#isRealTime } satisfies Watch)
    const [stalls] = await message
    return stalls as Interval[]
  }
}
