import type { Replica } from './replica.ts'

/** How far above its fair share a replica may be loaded before a tenant's next one is preferred. */
export const LOAD_FACTOR = 1.25

export interface FleetLoad {
  /** Requests in flight on all replicas. */
  readonly inFlight: number
  /** Sum of the weights. */
  readonly weight: number
}

/**
 * Requests that a replica may have in flight before the load bound is met: consistent hashing with
 * bounded loads (Mirrokni, Thorup and Zadimoghaddam 2016).
 */
export function loadBound(replica: Replica, fleet: FleetLoad): number {
  return Math.ceil((LOAD_FACTOR * (fleet.inFlight + 1) * replica.weight) / fleet.weight)
}

/**
 * Of a tenant's replicas, best first: the first below its bound, else the least loaded for its weight.
 * `isShut` passes over those that this tenant should not use now, as long as there is another; the
 * same for `failed`, which was tried before.
 */
export function chooseAmong(
  home: readonly Replica[],
  fleet: FleetLoad,
  failed: Replica | null,
  isShut: (replica: Replica) => boolean,
): Replica | null {
  let least: Replica | null = null
  let last: Replica | null = null
  for (const replica of home) {
    if (replica === failed) continue
    if (isShut(replica)) {
      last ??= replica
      continue
    }
    if (replica.inFlight < loadBound(replica, fleet)) return replica
    if (least === null || loadOf(replica) < loadOf(least)) least = replica
  }
  return least ?? last ?? home[0] ?? null
}

/** For WebSockets, which stay: the one with the fewest of them for its weight. */
export function chooseForSocket(
  home: readonly Replica[],
  failed: Replica | null,
  isShut: (replica: Replica) => boolean,
): Replica | null {
  let best: Replica | null = null
  let last: Replica | null = null
  for (const replica of home) {
    if (replica === failed) continue
    if (isShut(replica)) last ??= replica
    else if (best === null || socketsOf(replica) < socketsOf(best)) best = replica
  }
  return best ?? last ?? home[0] ?? null
}

/** True where every one of them is over its bound, and not by a few requests only. */
export function isOverloaded(home: readonly Replica[], fleet: FleetLoad, inFlightMin: number) {
  for (const replica of home) {
    if (replica.inFlight < inFlightMin || replica.inFlight < loadBound(replica, fleet)) return false
  }
  return home.length > 0
}

function loadOf({ inFlight, weight }: Replica): number {
  return inFlight / weight
}

function socketsOf({ sockets, weight }: Replica): number {
  return sockets / weight
}
