import type { AddressPolicy } from '../../registry/lib/address.ts'
import type { GatewayConfig } from '../config.ts'
import type { TimerWheel } from '../http1/timer-wheel.ts'
import { Http1UpstreamClient } from '../http1/upstream-client.ts'
import { ClientByScheme } from './by-scheme.ts'
import type { UpstreamClient } from './client.ts'
import { UndiciClient } from './undici-client.ts'

/** For active checks alone: one connection to each replica, and time-outs of theirs. */
export function makeCheckClient(config: GatewayConfig, wheel: TimerWheel): UpstreamClient {
  return makeUpstreamClient(
    {
      ...config,
      UPSTREAM_CONNECT_TIMEOUT_MS: config.HEALTH_TIMEOUT_MS,
      UPSTREAM_HEAD_TIMEOUT_MS: config.HEALTH_TIMEOUT_MS,
      UPSTREAM_BODY_IDLE_TIMEOUT_MS: config.HEALTH_TIMEOUT_MS,
      UPSTREAM_CONNECTIONS_MAX: 1,
    },
    wheel,
    null,
  )
}

/** For questions to the app about a tenant: two connections to each replica, and none that stays. */
export function makeQuestionClient(
  config: GatewayConfig,
  wheel: TimerWheel,
  addresses: AddressPolicy | null,
  timeoutMs: number,
): UpstreamClient {
  return makeUpstreamClient(
    {
      ...config,
      UPSTREAM_CONNECT_TIMEOUT_MS: timeoutMs,
      UPSTREAM_HEAD_TIMEOUT_MS: timeoutMs,
      UPSTREAM_BODY_IDLE_TIMEOUT_MS: timeoutMs,
      UPSTREAM_IDLE_TIMEOUT_MS: 5_000,
      UPSTREAM_CONNECTIONS_MAX: 2,
    },
    wheel,
    addresses,
  )
}

/**
 * The client of one kind of upstream: its pools, and its policy on addresses, are shared with no
 * other kind, so that a connection that one may have made is never used by the other.
 *
 * @param addresses which ones may be connected to; null: all
 */
export function makeUpstreamClient(
  config: GatewayConfig,
  wheel: TimerWheel,
  addresses: AddressPolicy | null,
): UpstreamClient {
  const plain = new Http1UpstreamClient({
    wheel,
    addresses,
    timeouts: {
      connectMs: config.UPSTREAM_CONNECT_TIMEOUT_MS,
      headMs: config.UPSTREAM_HEAD_TIMEOUT_MS,
      bodyIdleMs: config.UPSTREAM_BODY_IDLE_TIMEOUT_MS,
      idleMs: config.UPSTREAM_IDLE_TIMEOUT_MS,
    },
    limits: { connectionsMax: config.UPSTREAM_CONNECTIONS_MAX },
  })
  const secure = new UndiciClient({
    addresses,
    connectTimeoutMs: config.UPSTREAM_CONNECT_TIMEOUT_MS,
    headTimeoutMs: config.UPSTREAM_HEAD_TIMEOUT_MS,
    bodyIdleTimeoutMs: config.UPSTREAM_BODY_IDLE_TIMEOUT_MS,
    keepAliveTimeoutMs: config.UPSTREAM_IDLE_TIMEOUT_MS,
    connectionsMax: config.UPSTREAM_CONNECTIONS_MAX,
    ca: config.UPSTREAM_SSL_CA,
  })
  return new ClientByScheme(plain, secure)
}
