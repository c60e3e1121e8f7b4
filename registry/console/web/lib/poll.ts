import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import { ApiError } from './api.ts'

export interface Polled<T> {
  /** The last answer; null: none yet for this key. */
  readonly data: T | null
  /** Of the last try; null: it went well. */
  readonly error: ApiError | null
  readonly isLoading: boolean
  /** Asks at once. */
  readonly reload: () => void
}

/** Asks further apart while answers fail, up to so many milliseconds. */
const PAUSE_MAX_MS = 60_000

/**
 * What `load` answers, asked again every `everyMs` milliseconds after its last answer; not while the page is
 * hidden, and less often while it fails. One question at a time.
 *
 * @param key what is asked for: another one begins anew; null: nothing is asked
 * @param everyMs null: asked once
 */
export function usePolled<T>(
  key: string | null,
  everyMs: number | null,
  load: (signal: AbortSignal, isPoll: boolean) => Promise<T>,
): Polled<T> {
  const [state, setState] = useState<{
    key: string | null
    data: T | null
    error: ApiError | null
    isLoading: boolean
  }>({ key, data: null, error: null, isLoading: key !== null })
  const latest = useRef(load)
  latest.current = load
  const again = useRef<() => void>(() => {})

  useEffect(() => {
    if (key === null) return
    const gone = new AbortController()
    let timer: ReturnType<typeof setTimeout> | undefined
    let isAsking = false
    let failures = 0
    let isFirst = true
    const ask = async (isPoll: boolean) => {
      if (isAsking || gone.signal.aborted) return
      isAsking = true
      clearTimeout(timer)
      if (!isPoll) setState(now => ({ ...now, isLoading: true }))
      try {
        const data = await latest.current(gone.signal, isPoll)
        failures = 0
        if (!gone.signal.aborted) setState({ key, data, error: null, isLoading: false })
      } catch (error) {
        failures += 1
        if (gone.signal.aborted) return
        const shown = error instanceof ApiError ? error : asApiError(error)
        setState(now => ({
          ...{ key, error: shown, isLoading: false },
          data: now.key === key ? now.data : null,
        }))
      } finally {
        isAsking = false
        isFirst = false
        schedule()
      }
    }
    const schedule = () => {
      if (everyMs === null || gone.signal.aborted || document.visibilityState === 'hidden') return
      const pauseMs = Math.min(everyMs * 2 ** Math.min(failures, 6), PAUSE_MAX_MS)
      // Not all pages of all operators in step.
      const waitMs = Math.max(everyMs, pauseMs) * (0.9 + Math.random() * 0.2)
      timer = setTimeout(() => ask(true), waitMs)
    }
    const onVisible = () => {
      clearTimeout(timer)
      if (document.visibilityState === 'visible' && !isFirst && everyMs !== null) ask(true)
    }
    again.current = () => void ask(false)
    document.addEventListener('visibilitychange', onVisible)
    ask(false)
    return () => {
      gone.abort()
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', onVisible)
    }
  }, [key, everyMs])

  const reload = useCallback(() => again.current(), [])
  // An answer to another question is not shown as one to this.
  const data = state.key === key ? state.data : null
  return {
    data,
    error: state.error,
    isLoading: state.isLoading || (key !== null && state.key !== key),
    reload,
  }
}

function asApiError(error: unknown): ApiError {
  return new ApiError(error instanceof Error ? error.message : 'It failed.', 0, 'UNKNOWN')
}
