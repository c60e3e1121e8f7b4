import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { type Child, startChild } from './lib/child.ts'
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

/** A process on one core that sees when the machine did not give that core to those who wanted it. */
export class Witness {
  readonly #child: Child
  readonly #pids: readonly number[]
  readonly isRealTime: boolean

  private constructor(child: Child, pids: readonly number[], isRealTime: boolean) {
    this.#child = child
    this.#pids = pids
    this.isRealTime = isRealTime
  }

  /** @param pids whose waiting for a core is looked at */
  static async start(pin: readonly string[], pids: readonly number[]): Promise<Witness> {
    const first = scheduled('realTime')
    const prefix = [...first, ...pin]
    const child = await startChild([process.execPath, MAIN], { prefix, hasIpc: true })
    return new Witness(child, pids, first.length > 0)
  }

  /** @returns the stalls of the coming seconds */
  async watch(seconds: number): Promise<readonly Interval[]> {
    const { process: child } = this.#child
    const signal = AbortSignal.timeout(SLACK_MS + seconds * 1000)
    const message = once(child, 'message', { signal })
    child.send({ seconds, pids: this.#pids, isRealTime: this.isRealTime } satisfies Watch)
    const [stalls] = await message
    return stalls as Interval[]
  }

  stop(): Promise<void> {
    return this.#child.stop()
  }
}
