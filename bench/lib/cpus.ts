import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** Command prefixes that pin a process to its core; empty where that cannot be done. */
export interface Pinning {
  readonly proxy: readonly string[]
  readonly load: readonly string[]
  readonly upstream: readonly string[]
  /** For the report. */
  readonly text: string
}

/**
 * The proxy gets a core of its own, the load generator and the upstream the next two (or share the
 * second of two), so that the proxy is what saturates. Without taskset, or with one core, nothing is
 * pinned: CPU per request still holds, requests per second and latencies less so.
 */
export function planPinning(): Pinning {
  const cpus = allowedCpus()
  const hasTaskset = spawnSync('taskset', ['--version'], { stdio: 'ignore' }).status === 0
  const [proxy, load, upstream = load] = cpus
  if (!hasTaskset || proxy === undefined || load === undefined || upstream === undefined) {
    return { proxy: [], load: [], upstream: [], text: 'not pinned (no taskset, or one core only)' }
  }
  const pin = (cpu: number) => ['taskset', '-c', String(cpu)]
  return {
    proxy: pin(proxy),
    load: pin(load),
    upstream: pin(upstream),
    text: `proxy on CPU ${proxy}, load generator on CPU ${load}, upstream on CPU ${upstream}`,
  }
}

function allowedCpus(): number[] {
  try {
    const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
    return list === undefined ? [] : parseCpuList(list)
  } catch {
    return [] // no /proc: not Linux
  }
}

/** `0-2,5` as numbers, the kernel's list format. */
export function parseCpuList(list: string): number[] {
  return list.split(',').flatMap(part => {
    const [first, last = first] = part.split('-').map(Number)
    if (first === undefined || last === undefined || !Number.isInteger(first + last)) return []
    return Array.from({ length: last - first + 1 }, (_, i) => first + i)
  })
}
