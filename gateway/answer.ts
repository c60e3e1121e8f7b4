import { type Fault, faultBody, toFault } from '../registry/lib/errors.ts'
import type { Cors } from './cors.ts'
import type { Exchange } from './exchange.ts'

/** On everything that the gateway answers itself. */
const OWN_ANSWER_FIELDS = [
  'cache-control',
  'no-store',
  'x-content-type-options',
  'nosniff',
  'referrer-policy',
  'no-referrer',
  'content-security-policy',
  "default-src 'none'; frame-ancestors 'none'",
] as const

export interface AnswerOptions {
  readonly cors: Cors
  /** EXPIRED_TOKEN_STATUS: clients of the API that Doorman replaces expect 440. */
  readonly expiredTokenStatus: number
}

/** The one place where a failure becomes bytes. A head already sent can only be cut. */
export function answerFault(exchange: Exchange, error: unknown, options: AnswerOptions): Fault {
  const fault = toFault(error)
  exchange.errorCode = fault.code
  exchange.errorReason = fault.reason
  if (exchange.reply.isDone) return fault
  if (exchange.reply.isHeadSent) {
    exchange.reply.abort()
    return fault
  }
  const status = fault.code === 'TOKEN_EXPIRED' ? options.expiredTokenStatus : fault.status
  const headers = ['content-type', 'application/json; charset=utf-8']
  if (fault.retryAfterS !== undefined) headers.push('retry-after', String(fault.retryAfterS))
  // RFC 9110 section 15.5.2: a 401 names the scheme.
  if (status === 401) headers.push('www-authenticate', 'Bearer')
  answerOwn(exchange, status, headers, faultBody(fault, exchange.requestId), options.cors)
  return fault
}

export function answerHealthy(exchange: Exchange, cors: Cors): void {
  answerOwn(exchange, 200, ['content-type', 'application/json'], '{"status":"ok"}', cors)
}

export function answerPreflight(exchange: Exchange, cors: Cors): void {
  answerOwn(exchange, 204, cors.preflightFields(exchange), '', cors)
}

function answerOwn(
  exchange: Exchange,
  status: number,
  headers: string[],
  body: string,
  cors: Cors,
): void {
  headers.push(...OWN_ANSWER_FIELDS, ...cors.fields(exchange))
  if (exchange.requestId !== '') headers.push('x-request-id', exchange.requestId)
  exchange.status = status
  exchange.bytesOut = body.length
  exchange.reply.send(status, headers, body)
}
