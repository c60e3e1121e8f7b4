import { randomUUID } from 'node:crypto'
import { type HoldNotice, readHoldNotices } from './hold-notice.ts'
import { publicFault } from './lib/errors.ts'
import { type GatewayInstance, liveGateways } from './membership.ts'
import type { RegistryStore } from './store.ts'
import type { TenantId } from './tenant.ts'

/** A hold ends by itself after this, unless it was asked for with another length. */
export const HOLD_MS = 30_000
/** The longest that can be asked for: clients and proxies in front give up on a request by then. */
export const HOLD_MS_MAX = 120_000

export interface Hold {
  readonly id: string
  readonly tenantId: TenantId
  /** `Date.now()` milliseconds of this process, at which it ends by itself; early rather than late. */
  readonly expiresAtMs: number
}

/** What one live gateway says of a hold. */
export interface HoldAck {
  readonly gateway: GatewayInstance
  /** Requests and sockets of the tenant that are under way there; null: it has not heard of the hold. */
  readonly inFlight: number | null
}

type Store = Pick<RegistryStore, 'query'>

/** Where a hold of the tenant is in force already, nothing is returned. Old ones of all tenants go with it. */
const PLACE = `
  WITH gone AS (
    DELETE FROM tenant_holds WHERE tenant_id <> $1 AND expires_at < now() - interval '1 hour'
  ), forgotten AS (
    DELETE FROM tenant_hold_acks WHERE acked_at < now() - interval '1 hour'
  )
  INSERT INTO tenant_holds AS present (tenant_id, hold_id, seq, reason, requested_at, expires_at)
  VALUES ($1, $2, 0, $3, clock_timestamp(), clock_timestamp() + $4 * interval '1 ms')
  ON CONFLICT (tenant_id) DO UPDATE SET hold_id = excluded.hold_id, reason = excluded.reason,
      requested_at = excluded.requested_at, expires_at = excluded.expires_at, released_at = NULL
    WHERE present.released_at IS NOT NULL OR present.expires_at <= clock_timestamp()
  RETURNING hold_id`

/** $2: this hold alone; null: whichever is in force. Repeating it is harmless. */
const RELEASE = `
  UPDATE tenant_holds SET released_at = clock_timestamp()
  WHERE tenant_id = $1 AND ($2::uuid IS NULL OR hold_id = $2)
    AND released_at IS NULL AND expires_at > clock_timestamp()
  RETURNING hold_id`

const ACKS = 'SELECT gateway_id, in_flight FROM tenant_hold_acks WHERE hold_id = $1'

/** A late and higher count must not undo the word that nothing is under way. */
const ACK = `
  INSERT INTO tenant_hold_acks AS present (hold_id, gateway_id, in_flight) VALUES ($1, $2, $3)
  ON CONFLICT (hold_id, gateway_id) DO UPDATE SET in_flight = excluded.in_flight,
    acked_at = clock_timestamp() WHERE present.in_flight > excluded.in_flight`

const IN_FORCE = `
  SELECT json_agg(json_build_object('tenant', tenant_id, 'hold', hold_id, 'seq', seq, 'rest_ms',
    ceil(extract(epoch FROM expires_at - clock_timestamp()) * 1000))) AS holds
  FROM tenant_holds WHERE released_at IS NULL AND expires_at > clock_timestamp()`

/** @throws Fault CONFLICT where the tenant is held already */
export async function placeHold(
  store: Store,
  tenantId: TenantId,
  holdMs: number,
  reason: string | null,
): Promise<Hold> {
  const expiresAtMs = Date.now() + holdMs
  const id = randomUUID()
  const [row] = await store.query(PLACE, [tenantId, id, reason, holdMs])
  if (row === undefined) {
    const reason = 'the tenant is held already: wait, or release it'
    throw publicFault('CONFLICT', reason)
  }
  return { id, tenantId, expiresAtMs }
}

/**
 * @param holdId this one alone; null: whichever is in force
 * @returns false where there was none
 */
export async function releaseHold(
  store: Store,
  tenantId: TenantId,
  holdId: string | null,
): Promise<boolean> {
  return (await store.query(RELEASE, [tenantId, holdId])).length > 0
}

/** What the live gateways say of a hold, those included that say nothing. */
export async function holdAcks(store: Store, holdId: string): Promise<readonly HoldAck[]> {
  const gateways = await liveGateways(store)
  const rows = await store.query(ACKS, [holdId])
  const byGateway = new Map(rows.map(row => [String(row.gateway_id), Number(row.in_flight)]))
  return gateways.map(gateway => ({ gateway, inFlight: byGateway.get(gateway.id) ?? null }))
}

/** A gateway's word on a hold. */
export async function ackHold(
  store: Store,
  holdId: string,
  gatewayId: string,
  inFlight: number,
): Promise<void> {
  await store.query(ACK, [holdId, gatewayId, inFlight])
}

/** All holds that are in force. */
export async function holdsInForce(store: Store): Promise<readonly HoldNotice[]> {
  const [row] = await store.query(IN_FORCE, [])
  return readHoldNotices(row?.holds)
}
