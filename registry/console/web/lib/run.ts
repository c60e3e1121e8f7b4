import { useEffect, useState } from 'preact/hooks'
import type { FailureItem, RunItem } from '../../../admin/migration-runs.ts'
import { ApiError, call } from './api.ts'
import { readEvents } from './events.ts'

export interface Followed {
  readonly run: RunItem | null
  /** Those that were told while this page is open, and those before; the latest first. */
  readonly failures: readonly FailureItem[]
  /** Of the last try; null: it is followed, or at its end. */
  readonly error: ApiError | null
}

/** Shown of them; the list of a run has all. */
export const FAILURES_SHOWN_MAX = 200
const PAUSE_MS = 1000
const PAUSE_MAX_MS = 30_000
const UNDER_WAY: readonly RunItem['state'][] = ['starting', 'running', 'cancelling']

export function isUnderWay({ state }: Pick<RunItem, 'state'>): boolean {
  return UNDER_WAY.includes(state)
}

/**
 * A run with its progress, as it is told. After a stream ends early, and after the page was hidden, it goes on where
 * it was.
 *
 * @param again another value reads it anew
 */
export function useRun(id: string, again: number): Followed {
  const [state, setState] = useState<Followed & { readonly id: string }>({ ...NOTHING, id })
  useEffect(() => {
    // The stream begins anew, and tells all failures once more.
    setState(now => ({ ...NOTHING, run: now.id === id ? now.run : null, id }))
    return follow(id, change => setState(now => ({ ...now, ...change(now), id })))
  }, [id, again])
  return state.id === id ? state : NOTHING
}

const NOTHING: Followed = { run: null, failures: [], error: null }

/** @returns ends it */
function follow(id: string, set: (change: (now: Followed) => Partial<Followed>) => void) {
  const gone = new AbortController()
  let hidden = new AbortController()
  let timer: ReturnType<typeof setTimeout> | undefined
  let lastId = ''
  let isOver = false
  let isReading = false
  let failed = 0
  const read = async () => {
    if (isReading || isOver || gone.signal.aborted || document.visibilityState === 'hidden') return
    isReading = true
    hidden = new AbortController()
    const signal = AbortSignal.any([gone.signal, hidden.signal])
    try {
      lastId = await readEvents(`/migrations/runs/${id}/events`, lastId, signal, event => {
        lastId = event.id
        failed = 0
        if (event.name === 'failure') {
          const failure = JSON.parse(event.data) as FailureItem
          set(({ failures }) => ({ failures: [failure, ...failures].slice(0, FAILURES_SHOWN_MAX) }))
          return
        }
        isOver = event.name === 'end'
        const run = JSON.parse(event.data) as RunItem
        set(() => ({ run, error: null }))
      })
    } catch (error) {
      if (!signal.aborted) {
        failed += 1
        const shown =
          error instanceof ApiError ? error : new ApiError('It broke off.', 0, 'UNKNOWN')
        // What is not there will not be.
        if (shown.status === 404 || shown.status === 400) isOver = true
        set(() => ({ error: shown }))
        // Another one may have a place among the streams: what is known is shown meanwhile.
        if (!isOver) await readOnce(id, set, signal)
      }
    } finally {
      isReading = false
      const pauseMs = Math.min(PAUSE_MS * 2 ** Math.min(failed, 5), PAUSE_MAX_MS)
      if (!gone.signal.aborted && !isOver) timer = setTimeout(read, pauseMs)
    }
  }
  const onVisible = () => {
    if (document.visibilityState === 'hidden') return hidden.abort()
    clearTimeout(timer)
    void read()
  }
  document.addEventListener('visibilitychange', onVisible)
  void read()
  return () => {
    gone.abort()
    clearTimeout(timer)
    document.removeEventListener('visibilitychange', onVisible)
  }
}

async function readOnce(
  id: string,
  set: (change: (now: Followed) => Partial<Followed>) => void,
  signal: AbortSignal,
): Promise<void> {
  try {
    const { result } = await call<RunItem>(`/migrations/runs/${id}`, { signal, isPoll: true })
    set(() => ({ run: result }))
  } catch {
    // The error of the stream stands there.
  }
}
