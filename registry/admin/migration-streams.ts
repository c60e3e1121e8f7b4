import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { Fault } from '../lib/errors.ts'
import { listFailures } from '../migrate/failures.ts'
import { findRun, type MigrationRun } from '../migrate/runs.ts'
import type { RegistryStore } from '../store.ts'
import { failureItem, requireRun, runItem } from './migration-runs.ts'

/** Each asks the Registry once a second, on a pool of three. */
const RUN_STREAMS_MAX = 16
const POLL_MS = 1000
/** So that nothing between the two takes the connection for idle. */
const SILENCE_MS = 10_000
/** Then the client comes again with its last id: a key that was revoked meanwhile is seen there. */
const STREAM_MS_MAX = 300_000
/** A client that reads nothing holds its place no longer than this beyond. */
const STALLED_MS_MAX = 30_000
const RETRY_MS = 2000
const FAILURES_AT_ONCE = 100

/** Times in milliseconds. */
export interface StreamPace {
  readonly pollMs: number
  readonly silenceMs: number
  readonly streamMsMax: number
}

const PACE: StreamPace = {
  pollMs: POLL_MS,
  silenceMs: SILENCE_MS,
  streamMsMax: STREAM_MS_MAX,
}

const IS_UNDER_WAY: readonly MigrationRun['state'][] = ['starting', 'running', 'cancelling']

/** How far a client has seen a run: its revision, and its failures by their order. An event's id tells both. */
interface Cursor {
  readonly revision: bigint
  readonly failure: bigint
  readonly isEnd: boolean
}

/**
 * Progress of runs as event streams (`progress`, `failure`, and `end`, with which a stream ends). All comes from the
 * Registry: any gateway serves any run, and goes on behind the last id that a client has seen at another.
 */
export class MigrationStreams {
  readonly #open = new Set<AbortController>()
  readonly #pace: StreamPace
  #isClosed = false

  constructor(pace: StreamPace = PACE) {
    this.#pace = pace
  }

  /**
   * @param lastId of Last-Event-ID; what is none of ours counts as none
   * @param gone aborted when the client has left, or the answer has ended
   * @returns null where the client has seen the end already
   * @throws Fault NOT_FOUND, OVERLOADED, SHUTTING_DOWN
   */
  async open(
    store: RegistryStore,
    id: string,
    lastId: string | null,
    gone: AbortSignal,
  ): Promise<Readable | null> {
    if (this.#isClosed) throw new Fault('SHUTTING_DOWN', 'no stream of a gateway that stops')
    if (this.#open.size >= RUN_STREAMS_MAX) throw new Fault('OVERLOADED', 'too many event streams')
    const stop = new AbortController()
    this.#open.add(stop)
    let stream: Readable | null = null
    const timers = [
      setTimeout(() => stop.abort(), this.#pace.streamMsMax).unref(),
      setTimeout(() => stream?.destroy(), this.#pace.streamMsMax + STALLED_MS_MAX).unref(),
    ]
    const leave = () => {
      for (const timer of timers) clearTimeout(timer)
      stop.abort()
      this.#open.delete(stop)
      gone.removeEventListener('abort', leave)
    }
    gone.addEventListener('abort', leave)
    try {
      const run = await requireRun({ store }, id)
      const cursor = readCursor(lastId)
      if (gone.aborted || (!isUnderWay(run) && cursor.isEnd)) {
        leave()
        return null
      }
      stream = Readable.from(eventsOf(store, run, cursor, this.#pace, stop.signal), {
        objectMode: false,
      })
      return stream
    } catch (error) {
      leave()
      throw error
    }
  }

  /** Ends all of them; their clients come again, to another gateway. */
  close(): void {
    this.#isClosed = true
    for (const stop of this.#open) stop.abort()
  }
}

async function* eventsOf(
  store: RegistryStore,
  first: MigrationRun,
  from: Cursor,
  { pollMs, silenceMs }: StreamPace,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let { revision, failure } = from
  let run = first
  let saidMs = performance.now()
  yield `retry: ${RETRY_MS}\n\n`
  while (!signal.aborted) {
    try {
      // Before the progress: who has seen a revision has seen the failures that it counts.
      const failures = await listFailures(store, run.id, String(failure), FAILURES_AT_ONCE)
      for (const one of failures) {
        failure = BigInt(one.seq)
        saidMs = performance.now()
        yield eventOf('failure', { revision, failure, isEnd: false }, failureItem(one))
      }
      if (failures.length === FAILURES_AT_ONCE) continue
      // An end by silence moves no revision, and is told all the same.
      const isEnd = !isUnderWay(run)
      if (isEnd || BigInt(run.revision) > revision) {
        revision = BigInt(run.revision)
        saidMs = performance.now()
        yield eventOf(isEnd ? 'end' : 'progress', { revision, failure, isEnd }, runItem(run))
        if (isEnd) return
      }
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      // The Registry does not answer at the moment.
    }
    if (performance.now() - saidMs >= silenceMs) {
      saidMs = performance.now()
      yield ': still here\n\n'
    }
    await delay(pollMs, undefined, { signal, ref: false }).catch(() => {})
    const found = signal.aborted ? run : await findRun(store, run.id).catch(() => run)
    // It was pruned, which happens to none that is under way.
    if (found === null) return
    run = found
  }
}

function isUnderWay({ state }: MigrationRun): boolean {
  return IS_UNDER_WAY.includes(state)
}

function readCursor(lastId: string | null): Cursor {
  const [, revision, failure, end] = /^(\d{1,18})-(\d{1,18})(-end)?$/.exec(lastId ?? '') ?? []
  if (revision === undefined || failure === undefined) {
    return { revision: -1n, failure: 0n, isEnd: false }
  }
  return { revision: BigInt(revision), failure: BigInt(failure), isEnd: end !== undefined }
}

/** One event; JSON has no line break of its own. */
function eventOf(event: string, { revision, failure, isEnd }: Cursor, data: object): string {
  // Of a stream that begins: nothing is seen yet.
  const seen = revision < 0n ? 0n : revision
  const id = `${seen}-${failure}${isEnd ? '-end' : ''}`
  return `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
