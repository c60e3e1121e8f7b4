import {
  type FleetAnswer,
  REPLICAS_MAX,
  type ReplicaSaid,
  type ReplicasAnswer,
} from '../../registry/live/answers.ts'
import { packFigures } from '../../registry/live/figures.ts'
import { isHealthy } from '../fleet/replica.ts'
import type { LiveParts } from './open-live.ts'
import { type ReplicaLook, tenantsOf } from './replica-look.ts'

/**
 * What a process tells of itself, of the replicas as it sees them, and of its busiest tenants.
 *
 * @param asksApps the replicas are asked as well
 */
export async function lookAtFleet(
  parts: LiveParts,
  top: number,
  asksApps: boolean,
): Promise<FleetAnswer> {
  const { pulse, gauges, members, traffic, overload } = parts
  const told = members.all.slice(0, REPLICAS_MAX)
  const looks = asksApps ? await parts.replicaLooks.of(told, parts) : null
  const askable = tenantsOf(told, parts)
  const nowMs = Date.now()
  const { figures, coversS } = pulse.total(nowMs)
  const all = members.all
  const { max: perReplicaMax } = gauges.upstream
  const connections = all.map(({ origin }) => traffic.connectionCount(origin))
  return {
    figures: packFigures(figures),
    covers_s: coversS,
    uptime_ms: Math.round(process.uptime() * 1000),
    requests_in_flight: gauges.inFlight(),
    requests_held: parts.holds.waiting,
    tenants_held: parts.holds.tenants,
    client_connections: gauges.clientConnections(),
    client_connections_max: gauges.clientConnectionsMax,
    open_sockets: parts.sockets.count,
    loop_delay_ms: overload.delayMs,
    shed_share: overload.share,
    rss_bytes: process.memoryUsage.rss(),
    cpu_share: parts.cpuShare(),
    is_ready: gauges.isReady(),
    registry: {
      is_listener_healthy: gauges.isListenerHealthy(),
      contact_age_ms: Math.max(0, Math.round(gauges.registryContactAgeMs())),
    },
    caches: gauges.caches().map(([name, size, max]) => ({ name, size, max })),
    upstream: {
      connections: connections.reduce((sum, count) => sum + count, 0),
      connections_per_replica_max: perReplicaMax,
      replicas: all.length,
    },
    replicas: told.map((replica, i) => ({
      origin: replica.origin,
      is_healthy: isHealthy(replica, nowMs),
      is_ready: replica.isReady,
      ejected_ms: Math.max(0, replica.outlier.ejectedUntilMs - nowMs),
      resting_ms: Math.max(0, replica.restsUntilMs - nowMs),
      weight: replica.weight,
      full_weight: replica.fullWeight,
      requests_in_flight: replica.inFlight,
      websockets: replica.sockets,
      connections: connections[i] ?? 0,
      is_askable: askable.has(replica),
      app: saidBy(looks?.get(replica.origin)),
    })),
    top: pulse.top(top, nowMs),
  }
}

/** What the replicas tell of themselves, those that this process can ask. */
export async function lookAtReplicas(parts: LiveParts): Promise<ReplicasAnswer> {
  const told = parts.members.all.slice(0, REPLICAS_MAX)
  const looks = await parts.replicaLooks.of(told, parts)
  return {
    replicas: told.flatMap(({ origin }) => {
      const app = saidBy(looks.get(origin))
      return app === null ? [] : [{ origin, app }]
    }),
  }
}

function saidBy(look: ReplicaLook | undefined): ReplicaSaid | null {
  if (look === undefined) return null
  const { problem, state, atMs } = look
  return { problem, state, age_ms: Math.round(performance.now() - atMs) }
}

/** Share of one core that this process used since it was asked last. */
export function makeCpuShare(): () => number {
  let used = process.cpuUsage()
  let atMs = performance.now()
  return () => {
    const nowMs = performance.now()
    const more = process.cpuUsage(used)
    const share = (more.user + more.system) / 1000 / Math.max(1, nowMs - atMs)
    used = process.cpuUsage()
    atMs = nowMs
    return share
  }
}
