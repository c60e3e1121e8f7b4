import { useMemo } from 'preact/hooks'
import type { Pulse } from '../../../live/pulse.ts'
import { call, queryString } from './api.ts'
import { usePolled } from './poll.ts'

export type PulseItem = Pulse['items'][number]

/** The last minutes of one tenant, ready to be drawn, and what is so now. */
export interface Traffic {
  readonly perS: readonly number[]
  /** Shares of the requests that our side failed. */
  readonly errors: readonly (number | null)[]
  readonly p99Ms: readonly (number | null)[]
  readonly now: {
    readonly perS: number
    readonly errorShare: number
    readonly p99Ms: number | null
    readonly requests: number
  }
}

const NOW_S = 60
const PULSE_MS = 5000
const PULSE_STEP_S = '15'

/**
 * Of the tenants of a list, every few seconds.
 *
 * @param ids by commas; empty: nothing is asked
 */
export function useTraffic(ids: string): {
  readonly traffic: ReadonlyMap<string, Traffic>
  /** The gateways could not be asked: what is shown is old. */
  readonly isLost: boolean
} {
  const { data, error } = usePolled(ids === '' ? null : ids, PULSE_MS, async signal => {
    const path = `/pulse${queryString({ ids, step: PULSE_STEP_S })}`
    const { result } = await call<Pulse>(path, { signal, isPoll: true })
    return result
  })
  const traffic = useMemo(
    () => new Map(data?.items.map(item => [item.tenant_id, trafficOf(data, item)]) ?? []),
    [data],
  )
  return { traffic, isLost: error !== null }
}

/** The step that is still being counted is left out: it would show as a drop. */
export function trafficOf(pulse: Pulse, item: PulseItem): Traffic {
  const { step_s: stepS } = pulse
  const requests = item.requests.slice(0, -1)
  const errors = item.server_errors.slice(0, -1)
  const p99Ms = item.p99_ms.slice(0, -1)
  const last = Math.max(1, Math.round(NOW_S / stepS))
  const sum = (counts: readonly number[]) => counts.slice(-last).reduce((a, b) => a + b, 0)
  const total = sum(requests)
  return {
    perS: requests.map(n => n / stepS),
    errors: requests.map((n, i) => (n === 0 ? null : (errors[i] ?? 0) / n)),
    p99Ms,
    now: {
      perS: total / (last * stepS),
      errorShare: total === 0 ? 0 : sum(errors) / total,
      p99Ms: maxOf(p99Ms.slice(-last)),
      requests: total,
    },
  }
}

function maxOf(values: readonly (number | null)[]): number | null {
  const given = values.filter(value => value !== null)
  return given.length === 0 ? null : Math.max(...given)
}
