import { readFileSync } from 'node:fs'

const SAMPLE_MS = 25

/** Watches how much a process grows, its worker processes included. */
export interface MemoryWatch {
  /** Bytes of the largest resident set so far above that of the start. */
  readonly growthBytes: number
  stop(): void
}

export function watchMemory(pid: number): MemoryWatch {
  const before = residentBytes(pid)
  let peak = before
  const timer = setInterval(() => {
    peak = Math.max(peak, residentBytes(pid))
  }, SAMPLE_MS)
  return {
    get growthBytes() {
      return peak - before
    },
    stop() {
      clearInterval(timer)
    },
  }
}

/** Bytes that a process and its workers have read so far, from sockets and all else (proc(5), rchar). */
export function bytesRead(pid: number): number {
  return sumOf(pid, 'io', /^rchar: (\d+)/m)
}

/** VmRSS of proc(5): kept up to date by the kernel within a few pages per thread. */
function residentBytes(pid: number): number {
  return sumOf(pid, 'status', /^VmRSS:\s+(\d+) kB/m) * 1024
}

function sumOf(root: number, file: string, pattern: RegExp): number {
  const numbers = familyOf(root).map(pid => pattern.exec(read(`/proc/${pid}/${file}`))?.[1])
  return numbers.reduce((sum, number) => sum + Number(number ?? 0), 0)
}

function familyOf(pid: number): number[] {
  const children = read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean)
  return [pid, ...children.flatMap(child => familyOf(Number(child)))]
}

/** Empty where the process is gone. */
function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
