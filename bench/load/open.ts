import type { Prepared } from './closed.ts'
import { Connection } from './connection.ts'
import type { Job } from './job.ts'
import type { Requests } from './requests.ts'
import { Tally } from './tally.ts'

/** How long the pacing loop sleeps between looks at its sockets, in ms: the bound of its own lateness. */
const NAP_MS = 0.1
/** More requests waiting for a connection than arrive in this many seconds: the proxy cannot keep up. */
const BACKLOG_S = 2
const LAST_ANSWERS_DEADLINE_MS = 5_000

/**
 * Requests start at fixed instants, whatever became of those before (open loop). Latency counts from
 * the instant at which a request should have started, so that a stall is seen by every request that it
 * delayed and not by one alone (no coordinated omission).
 */
export async function prepareOpen(job: Job, requests: Requests): Promise<Prepared> {
  const tally = new Tally(job.keepsSamples)
  const idle: Connection[] = []
  /** Intended starts of requests that found no connection free. */
  const waiting: number[] = []
  let onWay = 0
  let isRunning = false

  const openOne = () =>
    new Promise<void>((resolve, reject) => {
      let isOpen = false
      const connection: Connection = new Connection(
        job.port,
        '',
        {
          onAnswer(answered, status) {
            onWay--
            if (status === 200) tally.ok(answered.startedAt)
            else tally.error(`status ${status}`)
            const intended = waiting.shift()
            if (intended === undefined) idle.push(answered)
            else send(answered, intended)
          },
          onEnd(ended, message) {
            if (!isOpen) return reject(new Error(message ?? 'closed at once'))
            const position = idle.indexOf(ended)
            if (position >= 0) idle.splice(position, 1)
            else onWay--
            if (message !== null) tally.error(message)
            if (isRunning) openOne().catch((error: Error) => tally.error(error.message))
          },
        },
        () => {
          isOpen = true
          idle.push(connection)
          resolve()
        },
      )
    })

  const send = (connection: Connection, intended: number) => {
    onWay++
    connection.send(requests.next(), intended)
  }

  await Promise.all(Array.from({ length: job.connections }, openOne))
  return {
    async run() {
      isRunning = true
      tally.start()
      const gapMs = 1000 / job.ratePerS
      const startedAt = performance.now()
      const total = Math.floor(job.seconds * job.ratePerS)
      for (let sent = 0; sent < total; ) {
        const now = performance.now()
        for (; sent < total && startedAt + sent * gapMs <= now; sent++) {
          const intended = startedAt + sent * gapMs
          const connection = idle.pop()
          if (connection !== undefined) send(connection, intended)
          else if (job.drops) tally.drop()
          else waiting.push(intended)
        }
        if (waiting.length > job.ratePerS * BACKLOG_S) {
          tally.error('overloaded: the backlog grew past its bound')
          break
        }
        await nap()
      }
      const deadline = performance.now() + LAST_ANSWERS_DEADLINE_MS
      while ((onWay > 0 || waiting.length > 0) && performance.now() < deadline) await nap()
      for (let left = onWay + waiting.length; left > 0; left--) tally.error('no answer in time')
      isRunning = false
      for (const connection of idle) connection.close()
      return tally.result()
    },
  }
}

const sleeper = new Int32Array(new SharedArrayBuffer(4))

/**
 * A tenth of a millisecond, then one turn of the event loop. Timers are too coarse (1 ms), and spinning
 * would take the core from the upstream that shares it.
 */
function nap(): Promise<void> {
  Atomics.wait(sleeper, 0, 0, NAP_MS)
  return new Promise(resolve => setImmediate(resolve))
}
