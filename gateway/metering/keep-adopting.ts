import { refusalOf } from '../../registry/usage-refusal.ts'
import { type AdoptOptions, adoptJournals } from './adopt-journals.ts'

/** How often journals of processes that were killed are looked for. */
const ADOPT_MS = 10_000
/** Between two lines about the same trouble. */
const SAY_AGAIN_MS = 60_000

/** One look at a time, the first one now. @returns what ends it */
export function keepAdopting(options: Omit<AdoptOptions, 'quiet'>): () => void {
  const quiet: NonNullable<AdoptOptions['quiet']> = new Map()
  let isLooking = false
  let saidAtMs = Number.NEGATIVE_INFINITY
  const look = async () => {
    if (isLooking) return
    isLooking = true
    try {
      await adoptJournals({ ...options, quiet })
    } catch (error) {
      const { sqlState, why } = refusalOf(error)
      if (performance.now() - saidAtMs < SAY_AGAIN_MS) return
      saidAtMs = performance.now()
      options.log.warn({ err: error, sqlstate: sqlState, why }, 'journals not brought in yet')
    } finally {
      isLooking = false
    }
  }
  const timer = setInterval(() => void look(), ADOPT_MS).unref()
  void look()
  return () => clearInterval(timer)
}
