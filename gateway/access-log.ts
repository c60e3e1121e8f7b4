import { type ErrorCode, errorSpec } from '../registry/lib/errors.ts'
import type { Log } from '../registry/lib/log.ts'
import type { Exchange } from './exchange.ts'
import { addedMsOf } from './tally.ts'

/**
 * One line per request: of those that failed always, of the others `percent` in a hundred, evenly. The
 * path goes without its query, which may hold a key or a token; our own faults are warnings, so that
 * they can be seen among a client's.
 */
export function makeAccessLog(base: Log, percent: number) {
  // Looking for secrets in a line costs ten times what writing it does, and these fields hold none.
  const log = base.child({}, { redact: [] })
  let credit = 0
  const isSampled = () => {
    credit += percent
    if (credit < 100) return false
    credit -= 100
    return true
  }
  /** @param addressOf called only where a line is written */
  return (
    exchange: Exchange,
    addressOf: (exchange: Exchange) => string,
    tookMs: number,
    nowMs: number,
  ): void => {
    const { errorCode } = exchange
    const isOurs = errorCode !== null && errorSpec(errorCode as ErrorCode).blame !== 'client'
    const level = isOurs ? 'warn' : 'info'
    if (isDebugged(exchange, nowMs)) {
      const line = lineOf(exchange, addressOf(exchange), tookMs)
      // Somebody waits for it, whatever LOG_LEVEL leaves out.
      const shown = log.isLevelEnabled(level) ? level : 'warn'
      return log[shown]({ ...line, ...detailsOf(exchange) }, 'request')
    }
    if (!log.isLevelEnabled(level)) return
    if (errorCode === null && exchange.status < 400 && !isSampled()) return
    log[level](lineOf(exchange, addressOf(exchange), tookMs), 'request')
  }
}

/** An operator wants to see each request of its tenant for a while (registry/admin/debug.ts). */
export function isDebugged({ tenant }: Exchange, nowMs: number): boolean {
  return tenant !== null && tenant.debugUntilMs !== 0 && tenant.debugUntilMs > nowMs
}

/** What more a line says then: still no field, body, token or secret. */
function detailsOf({ tenant, route, tokenIssuer, attempts, upgrade, traceFlags }: Exchange) {
  return {
    debug: true,
    tenant_version: tenant?.configVersion,
    tenant_status: tenant?.status,
    plan: tenant?.plan ?? undefined,
    credential: route?.credential,
    token_issuer: tokenIssuer?.issuer,
    attempts,
    is_upgrade: upgrade !== null,
    trace_flags: traceFlags,
  }
}

function lineOf(exchange: Exchange, address: string, tookMs: number) {
  return {
    request_id: exchange.requestId,
    tenant: exchange.tenant?.key,
    tenant_id: exchange.tenant?.id,
    user: visible(exchange.principal?.sub),
    method: exchange.method,
    path: exchange.path,
    route: exchange.route?.name,
    status: exchange.status,
    code: exchange.errorCode ?? undefined,
    reason: exchange.errorReason ?? undefined,
    upstream: exchange.upstream ?? undefined,
    attempts: exchange.attempts > 1 ? exchange.attempts : undefined,
    client: address,
    trace_id: exchange.traceId === '' ? undefined : exchange.traceId,
    ms: round(tookMs),
    ...phasesOf(exchange, tookMs),
    bytes_in: exchange.bytesIn,
    bytes_out: exchange.bytesOut,
  }
}

/**
 * Where the time went, in milliseconds: `identify_ms`, `resolve_ms` and `sign_ms` where that phase had to wait for
 * something, all three in `admit_ms`; then the wait for a connection, or in line behind a hold, the replica's answer
 * head, and the rest until the end.
 */
export function phasesOf(exchange: Exchange, tookMs: number) {
  const { startedAt, identifiedAt, resolvedAt, signedAt, sentAt, upstreamHeadAt } = exchange
  return {
    identify_ms: between(startedAt, identifiedAt),
    resolve_ms: between(identifiedAt || startedAt, resolvedAt),
    sign_ms: resolvedAt > 0 ? between(resolvedAt, signedAt) : undefined,
    admit_ms: between(startedAt, signedAt),
    wait_ms: between(signedAt, sentAt),
    upstream_ms: between(sentAt || startedAt, upstreamHeadAt),
    body_ms: between(upstreamHeadAt, upstreamHeadAt > 0 ? startedAt + tookMs : 0),
    added_ms: exchange.answeredAt > 0 && sentAt > 0 ? round(addedMsOf(exchange)) : undefined,
  }
}

function between(from: number, to: number): number | undefined {
  return from > 0 && to > 0 ? round(to - from) : undefined
}

/**
 * What JSON lets stand in a string and readers of a log take for more than text: line and paragraph
 * separators (Node's readline ends a line there), C1 controls and DEL (a terminal obeys them), and the
 * signs that turn the direction of a line (CVE-2021-42574).
 */
const UNSEEN = /[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** A claim is whatever the issuer was given: it must not end, hide or forge a line. */
function visible(claim: string | undefined): string | undefined {
  return claim?.replace(UNSEEN, char => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100
}
