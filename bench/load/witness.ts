import { readFileSync } from 'node:fs'
import type { Interval } from '../lib/stalls.ts'

/** How often it looks, in ms. */
const NAP_MS = 0.5
/** A process that waited for its core for longer within one look, or a look that came so late, is a stall. */
const STALL_MS = 0.5

/** Parent → witness. */
export interface Watch {
  readonly seconds: number
  readonly pids: readonly number[]
  /** It runs before all others on its core, so that a late look is the machine's and not the load's. */
  readonly isRealTime: boolean
}

/**
 * Sees when a core was not given to those who wanted it: by the time their main threads stood in the run queue
 * (Linux, Documentation/scheduler/sched-stats.rst: the second figure of schedstat), and by being late itself.
 * It is deaf while it watches, for a turn of the event loop would make it late.
 */
process.on('message', ({ seconds, pids, isRealTime }: Watch) => {
  const stalls: Interval[] = []
  const sleeper = new Int32Array(new SharedArrayBuffer(4))
  const endsAt = nowMs() + seconds * 1000
  let waited = pids.map(waitedMs)
  let before = nowMs()
  while (before < endsAt) {
    Atomics.wait(sleeper, 0, 0, NAP_MS)
    const now = nowMs()
    const after = pids.map(waitedMs)
    const longest = Math.max(0, ...after.map((ms, i) => ms - (waited[i] as number)))
    const isLate = isRealTime && now - before > NAP_MS + STALL_MS
    if (isLate) stalls.push({ fromMs: before, toMs: now })
    if (longest > STALL_MS) stalls.push({ fromMs: Math.min(before, now - longest), toMs: now })
    waited = after
    before = now
  }
  process.send?.(stalls)
})
process.on('disconnect', () => process.exit(0))

/** The same clock in all processes. */
function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

/** How long the main thread has stood in the run queue since its start. */
function waitedMs(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6
  } catch {
    return 0 // it has ended, or this is not Linux
  }
}
