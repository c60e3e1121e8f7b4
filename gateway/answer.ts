import {
  ERRORS,
  type Fault,
  faultBody,
  faultFields,
  OWN_ANSWER_FIELDS,
  toFault,
} from '../registry/lib/errors.ts'
import type { Cors } from './cors.ts'
import type { Exchange } from './exchange.ts'

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
  const body = faultBody(fault, exchange.requestId)
  answerOwn(exchange, status, faultFields(fault, status), body, options.cors)
  return fault
}

export function answerHealthy(exchange: Exchange, cors: Cors): void {
  const headers = ['content-type', 'application/json', ...OWN_ANSWER_FIELDS]
  answerOwn(exchange, 200, headers, '{"status":"ok"}', cors)
}

/** Answered by the gateway itself: no tenant is named, so no replica may be asked (RFC 9110 section 9.3.7). */
export function answerAboutServer(exchange: Exchange, cors: Cors): void {
  const headers = [...ERRORS.METHOD_NOT_ALLOWED.fields, ...OWN_ANSWER_FIELDS]
  answerOwn(exchange, 204, headers, '', cors)
}

/** In the envelope of the API (DESIGN 4.1). */
export function answerOwnResult(
  exchange: Exchange,
  message: string,
  result: unknown,
  cors: Cors,
): void {
  const headers = ['content-type', 'application/json; charset=utf-8', ...OWN_ANSWER_FIELDS]
  const body = { status: true, message, result, request_id: exchange.requestId }
  answerOwn(exchange, 200, headers, JSON.stringify(body), cors)
}

export function answerPreflight(exchange: Exchange, cors: Cors): void {
  const headers = [...cors.preflightFields(exchange), ...OWN_ANSWER_FIELDS]
  answerOwn(exchange, 204, headers, '', cors)
}

function answerOwn(
  exchange: Exchange,
  status: number,
  headers: string[],
  body: string,
  cors: Cors,
): void {
  if (exchange.requestId !== '') headers.push('x-request-id', exchange.requestId)
  headers.push(...cors.fields(exchange))
  exchange.status = status
  exchange.bytesOut = Buffer.byteLength(body)
  exchange.reply.send(status, headers, body)
}
