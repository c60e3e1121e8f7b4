/** What this reads of V8's .cpuprofile (Chrome DevTools protocol, Profiler.Profile). */
export interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number
    readonly callFrame: {
      readonly functionName: string
      readonly url: string
      /** From 0. */
      readonly lineNumber: number
    }
  }[]
  readonly samples: readonly number[]
  /** µs since the sample before. */
  readonly timeDeltas: readonly number[]
}

export interface SelfTime {
  readonly name: string
  /** Of the time that was not idle, 0 … 1. */
  readonly share: number
}

/** Where the time went itself, most first; idle time is left out. */
export function selfTimes(profile: CpuProfile): SelfTime[] {
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]))
  const spent = new Map<string, number>()
  let total = 0
  profile.samples.forEach((node, i) => {
    const name = names.get(node) ?? '(unknown)'
    if (name === '(idle)' || name === '(program)') return
    const us = profile.timeDeltas[i] ?? 0
    total += us
    spent.set(name, (spent.get(name) ?? 0) + us)
  })
  return [...spent]
    .map(([name, us]) => ({ name, share: us / total }))
    .sort((a, b) => b.share - a.share)
}

function nameOf(frame: CpuProfile['nodes'][number]['callFrame']): string {
  const name = frame.functionName || '(anonymous)'
  if (frame.url === '') return name
  const file = frame.url.replace(/^file:\/\//, '').replace(/^.*\/node_modules\//, '')
  return `${name} ${file.split('/').slice(-3).join('/')}:${frame.lineNumber + 1}`
}
