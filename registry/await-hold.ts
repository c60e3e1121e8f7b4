import { setTimeout as delay } from 'node:timers/promises'
import { type Hold, type HoldAck, holdAcks } from './holds.ts'
import type { RegistryStore } from './store.ts'

const POLL_MS = 50
/** Who listens to the Registry is a gateway, of whatever version. Every role may see that much. */
const LISTENERS = `
  SELECT count(*)::int AS listeners FROM pg_stat_activity
  WHERE datname = current_database() AND application_name = 'doorman-watch'`

/** Gateways that do not hold a tenant in time, in words. */
export class HoldRefused extends Error {
  override readonly name = 'HoldRefused'
}

/**
 * Waits until every live gateway holds the tenant and has nothing of it under way. A gateway that falls silent counts
 * until it is no longer live: nobody knows what it still serves. One of a version that knows of no holds counts too.
 *
 * @returns what they said in the end
 * @throws HoldRefused after `waitMs`, or the error of `signal`
 */
export async function awaitHold(
  store: Pick<RegistryStore, 'query'>,
  hold: Hold,
  waitMs: number,
  signal: AbortSignal,
): Promise<readonly HoldAck[]> {
  const deadline = performance.now() + Math.min(waitMs, hold.expiresAtMs - Date.now())
  for (;;) {
    const acks = await holdAcks(store, hold.id)
    signal.throwIfAborted()
    const missing = acks.filter(({ inFlight }) => inFlight !== 0)
    const [row] = await store.query(LISTENERS, [])
    const unknown = Number(row?.listeners) - acks.length
    if (missing.length === 0 && unknown <= 0) return acks
    if (performance.now() > deadline) {
      const reasons = missing.map(inWords)
      if (unknown > 0) reasons.push(`${unknown} more listen to the Registry: of an older version?`)
      throw new HoldRefused(`not all gateways hold it in time: ${reasons.join('; ')}`)
    }
    await delay(POLL_MS, undefined, { signal })
  }
}

/** Where a gateway is, for an operator. */
export function nameOf({ gateway }: HoldAck): string {
  const { host, pid, worker, address } = gateway
  return `${host} pid ${pid}${worker > 0 ? ` worker ${worker}` : ''}${address ? ` (${address})` : ''}`
}

function inWords(ack: HoldAck): string {
  const state = ack.inFlight === null ? 'has not answered' : 'still has requests under way'
  return `${nameOf(ack)} ${state}`
}
