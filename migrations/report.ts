import type { FleetResult, TenantOutcome } from './fleet.ts'
import { barOf } from './progress.ts'
import type { Wave } from './waves.ts'

/** What a run tells while it goes: to a person, to a log, or to a program. */
export interface Report {
  start(total: number, target: string | null): void
  wave(wave: Wave): void
  done(outcome: TenantOutcome): void
  end(result: FleetResult): void
}

export interface Writers {
  /** Lines that are kept. */
  readonly out: (text: string) => void
  /** The bar, which is drawn over; null: no terminal. */
  readonly bar: ((text: string) => void) | null
}

const ERASE_LINE = '\r\x1b[K'

/** `--json`: one object per line. The words are a contract: programs read them. */
export function jsonReport(write: (text: string) => void): Report {
  const tell = (event: string, data: object) => write(`${JSON.stringify({ event, ...data })}\n`)
  return {
    start: (tenants, target) => tell('start', { tenants, target }),
    wave: ({ name, tenants }) => tell('wave', { name, tenants: tenants.length }),
    done: ({ tenant, result, before, after, applied, attempts, durationMs, phases, note }) =>
      tell('tenant', {
        ...{ id: tenant.id, key: tenant.key, result, before, after, applied, attempts },
        ...{ duration_ms: durationMs, note },
        ...(phases !== null && {
          connect_ms: tenth(phases.connectMs),
          lock_ms: tenth(phases.lockMs),
          apply_ms: tenth(phases.applyMs),
          close_ms: tenth(phases.closeMs),
        }),
      }),
    end: ({ ok, failed, skipped, left, stoppedBy }) =>
      tell('end', { ok, failed, skipped, left, stopped_by: stoppedBy }),
  }
}

const tenth = (ms: number) => Math.round(ms * 10) / 10

/** Lines; on a terminal a bar, and lines for what went wrong alone. */
export function textReport({ out, bar }: Writers, now = () => performance.now()): Report {
  let total = 0
  let done = 0
  let failed = 0
  let startedMs = 0
  const draw = () => bar?.(ERASE_LINE + barOf({ total, done, failed, ms: now() - startedMs }))
  const line = (text: string) => {
    bar?.(ERASE_LINE)
    out(`${text}\n`)
  }
  return {
    start(count) {
      total += count
      if (done === 0) startedMs = now()
      draw()
    },
    wave({ name, tenants }) {
      if (name !== 'all') line(`wave ${name}: ${tenants.length} tenant(s)`)
      draw()
    },
    done(outcome) {
      done += 1
      if (outcome.result === 'failed') failed += 1
      if (bar === null || outcome.result === 'failed') line(lineOf(outcome))
      draw()
    },
    end({ ok, failed, skipped, left, stoppedBy }) {
      if (left > 0) line(`stopped by ${stoppedBy}: ${left} tenant(s) not begun`)
      line(`${ok + failed + skipped} tenant(s), ${failed} failed`)
    },
  }
}

function lineOf({ tenant, result, before, after, attempts, durationMs, note }: TenantOutcome) {
  const versions = `${before ?? '-'} -> ${after ?? '-'}`
  const notes = [...(note ? [note] : []), ...(attempts > 1 ? [`${attempts} attempts`] : [])]
  return [result.padEnd(7), tenant.key, versions, `${durationMs} ms`, ...notes].join('  ')
}
