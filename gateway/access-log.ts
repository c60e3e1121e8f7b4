import { type ErrorCode, errorSpec } from '../registry/lib/errors.ts'
import type { Log } from '../registry/lib/log.ts'
import type { Exchange } from './exchange.ts'

/**
 * One line per request. The path goes without its query, which may hold a key or a token; our own
 * faults are warnings, so that they can be seen among a client's.
 */
export function logExchange(log: Log, exchange: Exchange, address: string, tookMs: number): void {
  const { errorCode } = exchange
  const isOurs = errorCode !== null && errorSpec(errorCode as ErrorCode).blame !== 'client'
  const level = isOurs ? 'warn' : 'info'
  if (!log.isLevelEnabled(level)) return
  log[level](
    {
      request_id: exchange.requestId,
      tenant: exchange.tenant?.key,
      tenant_id: exchange.tenant?.id,
      user: exchange.principal?.sub,
      method: exchange.method,
      path: exchange.path,
      route: exchange.route?.name,
      status: exchange.status,
      code: errorCode ?? undefined,
      reason: exchange.errorReason ?? undefined,
      upstream: exchange.upstream ?? undefined,
      attempts: exchange.attempts > 1 ? exchange.attempts : undefined,
      client: address,
      ms: round(tookMs),
      upstream_ms:
        exchange.upstreamHeadAt > 0
          ? round(exchange.upstreamHeadAt - exchange.startedAt)
          : undefined,
      bytes_in: exchange.bytesIn,
      bytes_out: exchange.bytesOut,
    },
    'request',
  )
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100
}
