import { readdirSync, readFileSync } from 'node:fs'

/** CPU time and memory of a process and all its descendants, threads included (proc_pid_stat(5)). */
export interface Usage {
  /** User and system time together, in µs, in steps of one clock tick (10 ms). */
  readonly cpuUs: number
  /** Resident memory in bytes; pages that two of the processes share count twice. */
  readonly rssBytes: number
}

/** Linux reports utime and stime in USER_HZ, which is 100 on every platform that Node runs on. */
const TICK_US = 10_000
const PAGE_BYTES = 4096

export function usageOfTree(rootPid: number): Usage {
  const processes = readAll()
  let cpuUs = 0
  let rssBytes = 0
  const queue = [rootPid]
  for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
    const found = processes.get(pid)
    if (found === undefined) continue
    cpuUs += found.ticks * TICK_US
    rssBytes += found.pages * PAGE_BYTES
    for (const [child, { parent }] of processes) if (parent === pid) queue.push(child)
  }
  return { cpuUs, rssBytes }
}

interface ProcessStat {
  readonly parent: number
  readonly ticks: number
  readonly pages: number
}

function readAll(): Map<number, ProcessStat> {
  const processes = new Map<number, ProcessStat>()
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry)
    if (!Number.isInteger(pid)) continue
    try {
      processes.set(pid, parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1')))
    } catch {
      // It ended between the listing and the reading.
    }
  }
  return processes
}

/** The name in parentheses may hold blanks and parentheses itself: fields are counted from the last one. */
export function parseStat(text: string): ProcessStat {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const field = (number: number) => Number(fields[number - 3])
  return {
    parent: field(4),
    // utime, stime, and those of children that ended and were waited for.
    ticks: field(14) + field(15) + field(16) + field(17),
    pages: field(24),
  }
}
