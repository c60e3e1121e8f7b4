import type { ShareKind } from '../../registry/admission-shares.ts'
import type { Limits } from '../../registry/limits.ts'

/** A falling rate is believed after this time; a rising one at once. */
const SETTLE_MS = 2000
/** Requests that make a rate: fewer say little of a short time. */
const COUNT_MIN = 5
const LOOK_MS_MIN = 50

/** What the clients of one tenant ask this process for, let in or not. Counted in plain numbers, worked out when it is asked. */
export class Asked {
  requests = 0
  inFlightPeak = 0
  readonly refused: Record<ShareKind, number> = { rate: 0, in_flight: 0, sockets: 0 }
  #perS = 0
  #inFlight = 0
  #sockets = 0
  #lookedAtMs = 0

  /** Brings the figures up to `nowMs` and begins anew. */
  look(sockets: number, nowMs: number): void {
    const sinceMs = nowMs - this.#lookedAtMs
    if (sinceMs < LOOK_MS_MIN) return
    const { requests, refused } = this
    const perS = (requests / sinceMs) * 1000
    const isRise = perS > this.#perS && requests >= COUNT_MIN
    this.#perS = isRise
      ? perS
      : this.#perS + (perS - this.#perS) * (1 - Math.exp(-sinceMs / SETTLE_MS))
    this.#inFlight = Math.max(this.inFlightPeak + refused.in_flight, this.#inFlight / 2)
    this.#sockets = sockets + refused.sockets
    this.#lookedAtMs = nowMs
    this.requests = 0
    this.inFlightPeak = 0
    refused.rate = 0
    refused.in_flight = 0
    refused.sockets = 0
  }

  /** In parts of the limit, 1 at most; 0 where there is none. */
  demand(kind: ShareKind, limits: Limits): number {
    const max = maxOf(kind, limits)
    if (!Number.isFinite(max) || max === 0) return 0
    const asked = { rate: this.#perS, in_flight: this.#inFlight, sockets: this.#sockets }[kind]
    return Math.min(1, asked / max)
  }
}

export function maxOf(kind: ShareKind, limits: Limits): number {
  if (kind === 'rate') return limits.requestsPerS
  return kind === 'sockets' ? limits.socketsMax : limits.inFlightMax
}
