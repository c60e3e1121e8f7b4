import { ackHold, holdsInForce } from '../../registry/holds.ts'
import type { Log } from '../../registry/lib/log.ts'
import type { Membership } from '../../registry/membership.ts'
import type { RegistryStore } from '../../registry/store.ts'
import type { TenantId } from '../../registry/tenant.ts'
import type { GatewayConfig } from '../config.ts'
import type { Fleet } from '../fleet/fleet.ts'
import type { TimerWheel } from '../http1/timer-wheel.ts'
import type { OpenSockets } from '../open-sockets.ts'
import { HoldAcks } from './hold-acks.ts'
import { Holds } from './holds.ts'

export interface OpenHoldsOptions {
  readonly config: GatewayConfig
  readonly store: RegistryStore
  readonly membership: Membership
  readonly wheel: TimerWheel
  readonly fleet: Fleet
  readonly sockets: OpenSockets
  readonly tenants: { suspect(id: TenantId): void }
  readonly log: Log
}

export interface OpenHolds {
  readonly holds: Holds
  /** Holds that began before this process did. Before they are known no tenant may be served. */
  load(): Promise<void>
  close(): void
}

/** The holds of a gateway, tied to what is under way in it and to the Registry. */
export function openHolds(options: OpenHoldsOptions): OpenHolds {
  const { config, store, membership, wheel, fleet, sockets, tenants, log } = options
  const acks = new HoldAcks({
    write: (holdId, inFlight) => ackHold(store, holdId, membership.id, inFlight),
    log,
  })
  const holds = new Holds({
    wheel,
    waitMaxMs: config.HOLD_WAIT_MAX_MS,
    waitersMax: config.HELD_REQUESTS_MAX,
    waitersPerTenantMax: config.HELD_REQUESTS_PER_TENANT_MAX,
    // Event streams and long answers count twice; only whether it is none matters.
    inFlight: tenant => fleet.inFlightOf(tenant) + sockets.countOf(tenant),
    onHold(tenantId) {
      log.info({ tenantId }, 'tenant is held')
      // The app may write for them at any time, and nobody waits for their end. Clients connect anew, and wait then.
      sockets.cutLasting(tenantId)
    },
    onProgress: (holdId, inFlight, restMs) => acks.tell(holdId, inFlight, restMs),
    onOver(tenantId) {
      log.info({ tenantId, waiting: holds.waiting }, 'tenant is held no longer')
      // Where the notice of the change was lost with that of the release.
      tenants.suspect(tenantId)
    },
  })
  return {
    holds,
    async load() {
      for (const notice of await holdsInForce(store)) holds.learn(notice)
    },
    close() {
      acks.close()
      holds.close()
    },
  }
}
