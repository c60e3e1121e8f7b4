import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import {
  type ErrorCode,
  Fault,
  faultBody,
  faultFields,
  OWN_ANSWER_FIELDS,
  toFault,
} from '../../lib/errors.ts'
import { messageForLog } from '../../lib/log-error.ts'
import type { Operation, Outcome, StreamOutcome } from './operation.ts'

/** The envelope of DESIGN 4.1. */
export function answer(
  reply: FastifyReply,
  operation: Operation,
  outcome: Outcome | StreamOutcome,
): FastifyReply {
  if ('events' in outcome) return answerStream(reply, outcome)
  const { message, result, status = operation.status, location } = outcome
  reply.code(status).header('content-type', 'application/json; charset=utf-8')
  setFields(reply, OWN_ANSWER_FIELDS)
  const {
    id,
    config_version,
    etag: tag = config_version,
  } = Object(result) as Record<string, unknown>
  if (operation.isVersioned && tag !== undefined) reply.header('etag', `"${tag}"`)
  if (location !== undefined) reply.header('location', `/api/admin${location}`)
  else if (status === 201) reply.header('location', `/api/admin/tenants/${id}`)
  return reply.send({ status: true, message, result })
}

/** WHATWG HTML section 9.2: a client does not come again after 204. */
function answerStream(reply: FastifyReply, { events }: StreamOutcome): FastifyReply {
  setFields(reply, OWN_ANSWER_FIELDS)
  if (events === null) return reply.code(204).send()
  // nginx keeps events back without it.
  reply.header('x-accel-buffering', 'no').header('content-type', 'text/event-stream')
  return reply.code(200).send(events)
}

export function answerFault(
  fault: Fault,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  // What is left of a body is not worth reading: the connection ends with this answer.
  if (!request.raw.complete) reply.header('connection', 'close')
  setFields(reply, faultFields(fault))
  return reply.code(fault.status).send(faultBody(fault, request.id))
}

const FRAMEWORK_FAULTS: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'BODY_TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'BODY_TYPE_UNSUPPORTED',
  FST_ERR_CTP_INVALID_JSON_BODY: 'BODY_INVALID',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'BODY_INVALID',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'BODY_INVALID',
  FST_ERR_BAD_URL: 'TARGET_INVALID',
  FST_ERR_MAX_PARAM_LENGTH: 'TARGET_INVALID',
}

/** Anything thrown, fastify's own errors included. */
export function faultOf(error: unknown): Fault {
  if (error instanceof Fault) return error
  const { code = '', statusCode = 500, message } = Object(error) as FastifyError
  const known = FRAMEWORK_FAULTS[code]
  if (known !== undefined) return new Fault(known, message)
  if (error instanceof SyntaxError && statusCode === 400) {
    return new Fault('BODY_INVALID', messageForLog(error))
  }
  if (statusCode >= 400 && statusCode < 500) return new Fault('BAD_REQUEST', messageForLog(error))
  return toFault(error)
}

function setFields(reply: FastifyReply, fields: readonly string[]): void {
  for (let i = 0; i < fields.length; i += 2) reply.header(fields[i] as string, fields[i + 1])
}
