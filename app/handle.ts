import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ZodError } from 'zod'
import { type ErrorCode, Fault, faultBody, faultFields, toFault } from '../registry/lib/errors.ts'
import type { Log } from '../registry/lib/log.ts'
import type { Admitted } from './kit/gate.ts'
import type { Scope, TenantKit } from './kit/tenant-kit.ts'
import type { AppMetrics } from './metrics.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the first hook; null on the few routes that need no tenant. */
    admitted: Admitted | null
    /** For the access log, set where a request failed. */
    fault: Fault | null
  }
  interface FastifyContextConfig {
    /** Served without a tenant context. */
    isOpen?: boolean
  }
}

/** What a handler answers, to be put into the envelope. */
export interface Answer {
  readonly status?: number
  readonly message: string
  readonly result: unknown
}

/** `null`: the handler answered by itself (a stream). */
export type Handler = (
  scope: Scope,
  request: FastifyRequest,
  reply: FastifyReply,
) => Promise<Answer | null>

/** Makes a handler a route. `mutating` runs it in one transaction. */
export type Routes = Record<
  'reading' | 'mutating',
  (handler: Handler) => (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>
>

/**
 * The life of a request, in order:
 *
 *   verify → (body parsed) → pool lease, at the first statement → transaction → handler → respond
 *   → finally release, meter, access log
 *
 * Verification is a hook, so that it comes before a byte of the body is read and for upgrades too.
 */
export function makeHandle(
  app: FastifyInstance,
  kit: TenantKit,
  log: Log,
  metrics: AppMetrics,
): Routes {
  app.decorateRequest('admitted', null)
  app.decorateRequest('fault', null)

  app.addHook('onRequest', async (request, reply) => {
    const startedAt = performance.now()
    // 'close' comes after a full answer and after an abort alike; Fastify's onResponse does not. Of an
    // upgrade it is the socket's: the answer is never finished.
    const ending = request.raw.headers.upgrade === undefined ? reply.raw : request.raw.socket
    ending.once('close', () => finish(request, reply, performance.now() - startedAt, log, metrics))
    reply.header('x-request-id', request.id)
    if (request.routeOptions.config.isOpen === true) return
    const { method = '', url = '', rawHeaders } = request.raw
    request.admitted = await kit.admit({ method, target: url, rawHeaders })
  })

  app.setErrorHandler((error, request, reply) => respondFault(faultOf(error), request, reply))
  app.setNotFoundHandler((request, reply) =>
    respondFault(new Fault('ROUTE_NOT_FOUND', 'no route of the app'), request, reply),
  )

  const route = (isTransactional: boolean) => (handler: Handler) => {
    return async (request: FastifyRequest, reply: FastifyReply) => {
      const { admitted } = request
      if (admitted === null) throw new Fault('CONTEXT_INVALID', 'no context')
      const answer = await kit.run(admitted, isTransactional, scope =>
        handler(scope, request, reply),
      )
      if (answer === null) return reply
      reply.code(answer.status ?? 200)
      return { status: true, message: answer.message, result: answer.result }
    }
  }
  return { reading: route(false), mutating: route(true) }
}

export function respondFault(
  fault: Fault,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply {
  request.fault = fault
  // What is left of an upload is not worth reading: the connection ends with this answer.
  if (!request.raw.complete) reply.header('connection', 'close')
  // Of an upgrade Node has let the socket go: nobody else would ever close it.
  if (request.raw.headers.upgrade !== undefined) {
    reply.header('connection', 'close')
    reply.raw.once('finish', () => request.raw.socket.destroySoon())
  }
  const fields = faultFields(fault)
  reply.removeHeader('content-length')
  // A handler that failed may have set it already, and the order of the fields must not tell.
  reply.removeHeader('content-type')
  for (let i = 0; i < fields.length; i += 2) reply.header(fields[i] as string, fields[i + 1])
  return reply.code(fault.status).send(faultBody(fault, request.id))
}

/** Fastify's own errors of a bad request, by its code; the rest by status. */
const FRAMEWORK_FAULTS: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'BODY_TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'BODY_TYPE_UNSUPPORTED',
  FST_ERR_CTP_INVALID_JSON_BODY: 'BODY_INVALID',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'BODY_INVALID',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'BODY_INVALID',
  FST_ERR_BAD_URL: 'TARGET_INVALID',
  FST_ERR_MAX_PARAM_LENGTH: 'TARGET_INVALID',
}

export function faultOf(error: unknown): Fault {
  if (error instanceof Fault) return error
  if (error instanceof ZodError) {
    const [issue] = error.issues
    const where = issue?.path.join('.') || 'body'
    return new Fault('VALIDATION_FAILED', `${where}: ${issue?.message}`, {
      publicMessage: `${where}: ${issue?.message ?? 'not valid'}`,
    })
  }
  const { code = '', statusCode = 500, message } = error as FastifyError
  const known = FRAMEWORK_FAULTS[code]
  if (known !== undefined) return new Fault(known, message)
  if (error instanceof SyntaxError && statusCode === 400) return new Fault('BODY_INVALID', message)
  if (statusCode >= 400 && statusCode < 500) return new Fault('BAD_REQUEST', message)
  return toFault(error)
}

function finish(
  request: FastifyRequest,
  reply: FastifyReply,
  ms: number,
  log: Log,
  metrics: AppMetrics,
): void {
  // The pattern, never the path: it is the label of a metric.
  const route = request.routeOptions.url ?? 'none'
  const { fault, admitted } = request
  const isUpgraded = request.raw.headers.upgrade !== undefined && !reply.raw.headersSent
  const statusCode = isUpgraded ? 101 : reply.raw.statusCode
  metrics.requests.inc({ method: request.method, route, status: String(statusCode) })
  metrics.seconds.observe({ route }, ms / 1000)
  if (fault !== null) metrics.faults.inc({ code: fault.code })
  const line = {
    request_id: request.id,
    tenant_id: admitted?.claims.tid,
    method: request.method,
    route,
    status: statusCode,
    ms: Math.round(ms * 10) / 10,
    aborted: reply.raw.writableFinished || isUpgraded ? undefined : true,
    code: fault?.code,
    reason: fault?.reason,
  }
  if (fault?.code === 'INTERNAL') log.error({ ...line, err: fault.cause ?? fault }, 'request')
  else if (request.routeOptions.config.isOpen === true) log.debug(line, 'request')
  else log.info(line, 'request')
}
