import type { FleetAnswer, PulseAnswer } from '../../registry/live/answers.ts'
import {
  type Figures,
  noFigures,
  packFigures,
  SLOT_MS,
  SLOTS,
} from '../../registry/live/figures.ts'
import type { Tenant, TenantId, TenantKey } from '../../registry/tenant.ts'
import type { Exchange } from '../exchange.ts'
import { Ring, slotOf } from './ring.ts'
import { Rings } from './rings.ts'

/** Tenants counted at a time, those in use rather than others: 23 MB of rings at most (`RING_BYTES`), for traffic alone. */
export const PULSE_TENANTS_MAX = 4_096
/** "Now" in rates: 11 whole slots and the one that runs. */
const RATE_SLOTS = 12

/** A tenant and its requests of the last minute. */
export interface Busy {
  readonly id: TenantId
  readonly key: TenantKey
  readonly requests: number
}

/** The traffic of this process in the last minutes, by tenant and in all. */
export class Pulse {
  readonly #rings: Rings
  readonly #all = new Ring()
  /** Where the requests of a tenant are counted besides, that is counted again after a while. */
  readonly #cellOf: (id: TenantId) => Ring['cell']

  constructor(tenantsMax = PULSE_TENANTS_MAX, cellOf: (id: TenantId) => Ring['cell'] = () => null) {
    this.#rings = new Rings(tenantsMax)
    this.#cellOf = cellOf
  }

  /** Tenants that are counted. */
  get size(): number {
    return this.#rings.size
  }

  /**
   * One request has ended: at the end of every exchange, so it makes nothing but some tenants' first ring.
   *
   * @returns the tenant's ring; null: it is not known
   */
  note(exchange: Exchange, nowMs: number): Ring | null {
    const { tenant, status, startedAt, upstreamHeadAt, bytesIn, bytesOut } = exchange
    const slot = slotOf(nowMs)
    // Until the head: an event stream lasts as long as its reader likes, and says nothing by it.
    const tookMs =
      upstreamHeadAt > 0
        ? upstreamHeadAt - startedAt
        : status === 0
          ? -1
          : performance.now() - startedAt
    this.#all.note(slot, status, tookMs, bytesIn, bytesOut)
    if (tenant === null) return null
    const ring = this.#rings.get(tenant.id) ?? this.#add(tenant)
    ring.note(slot, status, tookMs, bytesIn, bytesOut)
    return ring
  }

  /** Has the tenant's requests counted in `cell` too. */
  assign(id: TenantId, cell: Ring['cell']): void {
    const ring = this.#rings.get(id)
    if (ring !== undefined) ring.cell = cell
  }

  /** The series of `tenants`, those without traffic left out. @param step slots in one */
  series(tenants: readonly TenantId[], step: number, nowMs: number): PulseAnswer {
    const last = slotOf(nowMs)
    return {
      tenants: tenants.flatMap(id => {
        const ring = this.#rings.get(id)
        const steps = ring === undefined ? [] : stepsOf(ring, step, last)
        return steps.length === 0 ? [] : [{ id, steps }]
      }),
    }
  }

  /** All of the last minute, and how much of it that is. */
  total(nowMs: number): { figures: Figures; coversS: number } {
    const last = slotOf(nowMs)
    const coversS = ((RATE_SLOTS - 1) * SLOT_MS + (nowMs - last * SLOT_MS)) / 1000
    return { figures: this.#all.figures(last - RATE_SLOTS + 1, last) ?? noFigures(), coversS }
  }

  /** The tenants with most requests in that minute. */
  top(count: number, nowMs: number): FleetAnswer['top'] {
    const last = slotOf(nowMs)
    const first = last - RATE_SLOTS + 1
    return this.#busiest(count, nowMs).map(({ id, ring }) => ({
      id,
      figures: packFigures(ring.figures(first, last) ?? []),
    }))
  }

  /** The same, by name and number alone. */
  busiest(count: number, nowMs: number): Busy[] {
    return this.#busiest(count, nowMs).map(({ id, ring, requests }) => ({
      id,
      key: ring.key,
      requests,
    }))
  }

  #busiest(count: number, nowMs: number) {
    const last = slotOf(nowMs)
    const busy: { id: TenantId; ring: Ring; requests: number }[] = []
    for (const ring of this.#rings.values()) {
      const requests = ring.requests(last - RATE_SLOTS + 1, last)
      if (requests > 0) busy.push({ id: ring.id, ring, requests })
    }
    return busy.sort((a, b) => b.requests - a.requests).slice(0, count)
  }

  #add(tenant: Tenant): Ring {
    const ring = this.#rings.add(tenant)
    ring.cell = this.#cellOf(tenant.id)
    return ring
  }
}

function stepsOf(ring: Ring, step: number, last: number): [number, number[]][] {
  const lastStep = Math.floor(last / step)
  const steps: [number, number[]][] = []
  for (let at = lastStep - SLOTS / step + 1; at <= lastStep; at++) {
    const figures = ring.figures(at * step, Math.min(at * step + step - 1, last))
    if (figures !== null) steps.push([at, packFigures(figures)])
  }
  return steps
}
