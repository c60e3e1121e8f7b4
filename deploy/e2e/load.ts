/** What a load has seen so far. */
export interface Load {
  readonly done: number
  readonly failures: readonly string[]
  readonly slowestMs: number
  /** Forgets what was seen; what is in flight still counts. */
  reset(): void
  /** Ends it and waits for what is in flight. */
  stop(): Promise<void>
}

/** Runs `work` again and again in `lanes` lanes. A lane that fails goes on after a short rest. */
export function startLoad(lanes: number, work: () => Promise<string | null>): Load {
  let isStopped = false
  let done = 0
  let slowestMs = 0
  let failures: string[] = []
  const lane = async () => {
    while (!isStopped) {
      const startedAt = performance.now()
      const failure = await work().catch(error => String(error))
      done += 1
      slowestMs = Math.max(slowestMs, performance.now() - startedAt)
      if (failure === null) continue
      failures.push(failure)
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
  const running = Promise.all(Array.from({ length: lanes }, lane))
  return {
    get done() {
      return done
    },
    get failures() {
      return failures
    },
    get slowestMs() {
      return slowestMs
    },
    reset() {
      done = 0
      slowestMs = 0
      failures = []
    },
    async stop() {
      isStopped = true
      await running
    },
  }
}
