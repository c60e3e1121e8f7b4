import type { Log } from '../../registry/lib/log.ts'
import type { GatewayConfig } from '../config.ts'
import type { UpstreamClient } from '../upstream/client.ts'
import { ActiveChecks } from './active-checks.ts'
import { Fleet } from './fleet.ts'
import { type MemberEntry, Members } from './members.ts'

/** The part of the gateway's environment that concerns the fleet. */
export function fleetConfig(config: GatewayConfig, log: Log): FleetConfig {
  const share = config.UPSTREAM_TENANT_SHARE_PERCENT / 100
  return {
    upstreams: config.APP_UPSTREAMS,
    spread: config.TENANT_SPREAD,
    slowStartMs: config.REPLICA_SLOW_START_MS,
    inFlightPerReplicaMax: Math.ceil(config.UPSTREAM_CONNECTIONS_MAX * share),
    homesMax: config.TENANT_CACHE_ENTRIES,
    healthPath: config.HEALTH_PATH,
    healthIntervalMs: config.HEALTH_INTERVAL_MS,
    log,
  }
}

export interface FleetConfig {
  readonly upstreams: readonly MemberEntry[]
  readonly spread: number
  readonly slowStartMs: number
  readonly inFlightPerReplicaMax: number
  readonly homesMax: number
  /** null: no active checks. */
  readonly healthPath: string | null
  readonly healthIntervalMs: number
  readonly log: Log
}

export interface RunningFleet {
  readonly fleet: Fleet
  readonly members: Members
  stop(): Promise<void>
}

/**
 * Membership, choice and health together; resolves when the members are known.
 *
 * @param checkClient for the active checks alone, with time-outs of theirs; closed by `stop`
 * @param traffic whose idle connections to a replica that is not ready are closed
 */
export async function startFleet(
  config: FleetConfig,
  checkClient: UpstreamClient,
  traffic: Pick<UpstreamClient, 'closeIdle'>,
): Promise<RunningFleet> {
  const { log } = config
  const members = new Members(config.upstreams, log)
  await members.start()
  const fleet = new Fleet({
    members: () => members.all,
    spread: config.spread,
    slowStartMs: config.slowStartMs,
    inFlightPerReplicaMax: config.inFlightPerReplicaMax,
    homesMax: config.homesMax,
    log,
  })
  fleet.start()
  const checks =
    config.healthPath === null
      ? null
      : new ActiveChecks({
          replicas: () => members.all,
          client: checkClient,
          path: config.healthPath,
          intervalMs: config.healthIntervalMs,
          onChange(replica) {
            fleet.refresh(Date.now())
            if (!replica.isReady) traffic.closeIdle(replica.origin)
          },
          log,
        })
  checks?.start()
  return {
    fleet,
    members,
    async stop() {
      members.stop()
      fleet.stop()
      checks?.stop()
      await checkClient.close()
    },
  }
}
