import { hashText } from './rendezvous.ts'

/** One app replica that requests go to, and what this process knows of it. */
export interface Replica {
  /** Scheme, host and port, such as `http://10.0.0.7:3000`. */
  readonly origin: string
  /** A dedicated tenant's own deployment (`app_url`): the address of such a one is checked. */
  readonly isOwn: boolean
  /** Of the origin: the replica's place in every tenant's ranking. */
  readonly hash: number
  /** Its share of the tenants beside the others, from membership (SRV weight, `#weight=`). */
  fullWeight: number
  /** The same while it counts: less in its slow start. */
  weight: number
  /** Requests and handshakes of this process that wait for it or read from it. */
  inFlight: number
  /** Spliced WebSockets of this process. */
  sockets: number
  /** When it joined or came back; null: it was there from the start. `Date.now()` milliseconds. */
  joinedAtMs: number | null
  /** Could not be reached: passed over until then, `Date.now()` milliseconds. */
  restsUntilMs: number
  /** What the active checks say; true before the first. */
  isReady: boolean
  /** Failed checks in a row. */
  failedChecks: number
  /** Set by the outlier detection, see `outliers.ts`. */
  readonly outlier: OutlierState
}

export interface OutlierState {
  /** Failures in a row. */
  failures: number
  /** Whose request failed first of those in a row; a single tenant's never count. */
  firstTenant: string | null
  isOfSeveralTenants: boolean
  /** How often it was ejected of late: each time for longer. */
  ejections: number
  ejectedUntilMs: number
  /** When its ejection ended, for the count to be forgotten. */
  returnedAtMs: number
}

export function makeReplica(origin: string, weight = 1, joinedAtMs: number | null = null): Replica {
  return {
    origin,
    isOwn: false,
    hash: hashText(origin),
    fullWeight: weight,
    weight,
    inFlight: 0,
    sockets: 0,
    joinedAtMs,
    restsUntilMs: 0,
    isReady: true,
    failedChecks: 0,
    outlier: {
      failures: 0,
      firstTenant: null,
      isOfSeveralTenants: false,
      ejections: 0,
      ejectedUntilMs: 0,
      returnedAtMs: 0,
    },
  }
}

/** True where nothing speaks against it now. */
export function isHealthy(replica: Replica, nowMs: number): boolean {
  return replica.isReady && replica.restsUntilMs <= nowMs && replica.outlier.ejectedUntilMs <= nowMs
}

/** Steps, so that tenants move a few at a time and their homes are not ranked anew all the time. */
const SLOW_START_STEPS = 10

/**
 * A replica that joins, or comes back, gets its tenants little by little: its pools are empty and its
 * code is cold. Its weight in tenths of the full one, from one tenth on.
 */
export function weightInSlowStart(replica: Replica, slowStartMs: number, nowMs: number): number {
  const { fullWeight, joinedAtMs } = replica
  if (joinedAtMs === null || nowMs - joinedAtMs >= slowStartMs) return fullWeight
  const step = 1 + Math.floor(((nowMs - joinedAtMs) / slowStartMs) * SLOW_START_STEPS)
  return (fullWeight * Math.min(step, SLOW_START_STEPS)) / SLOW_START_STEPS
}
