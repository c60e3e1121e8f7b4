import type { IncomingHttpHeaders, ServerResponse } from 'node:http'
import type {
  FastifyError,
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  RouteHandlerMethod,
  RouteOptions,
} from 'fastify'
import fastifyPlugin from 'fastify-plugin'
import {
  type ErrorCode,
  Fault,
  faultBody,
  faultFields,
  toFault,
} from '../../registry/lib/errors.ts'
import { messageForLog } from '../../registry/lib/log-error.ts'
import { REPLICA_PATH, STATE_PATH } from '../../registry/lib/reserved-path.ts'
import type { Admitted } from './gate.ts'
import { requestIdOf } from './request-id.ts'
import type { Scope, TenantKit } from './tenant-kit.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the first hook; null on open routes. */
    admitted: Admitted | null
    /** The tenant's resources, while the handler runs. Throws on open routes and afterwards. */
    readonly scope: Scope
    /** For an access log, set where the request failed. */
    fault: Fault | null
  }
  interface FastifyContextConfig {
    /** Served without a tenant context. */
    isOpen?: boolean
    /** One transaction around the handler. Default: for every method but GET, HEAD, OPTIONS. */
    isTransactional?: boolean
  }
}

export interface TenantPluginOptions {
  /** Closed with the fastify instance. */
  readonly kit: TenantKit
  /** Errors of the API's own libraries as a Fault; null where it does not know the error. */
  readonly mapError?: (error: unknown) => Fault | null
}

/** What `fastify()` must be given, for these two cannot be set later. */
export const tenantServerOptions = {
  genReqId: (request: { readonly headers: IncomingHttpHeaders }) =>
    requestIdOf(request.headers['x-request-id']),
  frameworkErrors: (error: FastifyError, request: FastifyRequest, reply: FastifyReply) => {
    respondFault(faultOf(error), request, reply)
  },
} as const

const READING = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Puts a fastify API behind the gateway. Register it before the routes. From then on:
 *
 * - every request, upgrades included, is verified before a byte of its body is read, unless its route
 *   has `config: { isOpen: true }`;
 * - an async handler finds the tenant in `request.scope`; the database is leased at the first statement, and
 *   given back when the handler settles, whatever happens. One that sends a stream by itself returns `reply`;
 * - a client that leaves before its answer cancels the statement that runs for it, and `request.scope.signal`
 *   aborts; what is being committed by then is committed;
 * - a handler that may change something runs in one transaction, committed when it resolves and before its
 *   result is sent: it returns the answer instead of calling `reply.send`;
 * - `STATE_PATH` and `REPLICA_PATH` tell the gateway what is open here, for operators;
 * - whatever is thrown becomes the envelope of DESIGN 4.1;
 * - `app.close()` ends the pools after the last request.
 *
 * A WebSocket route (`websocket: true`) has no end to wait for: it is verified, and calls `kit.run` with
 * `request.admitted` for each piece of work.
 */
export const tenantPlugin = fastifyPlugin(
  async (app: FastifyInstance, { kit, mapError = () => null }: TenantPluginOptions) => {
    const scopes = new WeakMap<FastifyRequest, Scope>()
    const wrapped = new WeakSet<RouteHandlerMethod>()
    app.decorateRequest('admitted', null)
    app.decorateRequest('fault', null)
    app.decorateRequest('scope', {
      getter(this: FastifyRequest) {
        const scope = scopes.get(this)
        if (scope === undefined)
          throw new Fault('INTERNAL', 'no scope: open route, or it has ended')
        return scope
      },
    })

    app.addHook('onRequest', async (request, reply) => {
      reply.header('x-request-id', request.id)
      if (request.routeOptions.config.isOpen === true) return
      const { method = '', url = '', rawHeaders } = request.raw
      request.admitted = await kit.admit({ method, target: url, rawHeaders })
    })
    app.addHook('onRoute', route => {
      if (route.config?.isOpen === true || (route as { websocket?: boolean }).websocket) return
      // The HEAD route that fastify adds to a GET route comes with that one's handler.
      if (wrapped.has(route.handler)) return
      route.handler = scoped(route, kit, scopes)
      wrapped.add(route.handler)
    })
    app.setErrorHandler((error, request, reply) =>
      respondFault(mapError(error) ?? faultOf(error), request, reply),
    )
    app.setNotFoundHandler((request, reply) =>
      respondFault(new Fault('ROUTE_NOT_FOUND', 'no route of the app'), request, reply),
    )
    const tellGateway = (path: string, tell: (admitted: Admitted) => unknown) => {
      app.get(path, { exposeHeadRoute: false }, async ({ admitted }) => {
        if (admitted === null) throw new Fault('CONTEXT_INVALID', 'no context')
        return { status: true, message: 'State.', result: tell(admitted) }
      })
    }
    tellGateway(STATE_PATH, admitted => kit.stateOf(admitted))
    tellGateway(REPLICA_PATH, admitted => kit.replicaState(admitted))
    app.addHook('onClose', () => kit.close())
  },
  { name: 'doorman-tenant', fastify: '5.x' },
)

/** The route's handler within the tenant's resources. */
function scoped(
  { handler, method, config }: RouteOptions,
  kit: TenantKit,
  scopes: WeakMap<FastifyRequest, Scope>,
): RouteHandlerMethod {
  const methods = typeof method === 'string' ? [method] : method
  const isTransactional =
    config?.isTransactional ?? methods.some(name => !READING.has(name.toUpperCase()))
  return async function scopedHandler(this: FastifyInstance, request, reply) {
    const { admitted } = request
    if (admitted === null) throw new Fault('CONTEXT_INVALID', 'no context')
    const work = async (scope: Scope) => {
      scopes.set(request, scope)
      try {
        const answer = handler.call(this, request, reply)
        // One that answers by and by: nobody knows when it is done with the tenant's resources.
        if (answer === undefined) throw new Fault('INTERNAL', 'the handler is no async function')
        return await answer
      } finally {
        scopes.delete(request)
      }
    }
    let signal: AbortSignal | undefined
    return kit.run(admitted, isTransactional, work, () => {
      signal ??= leaveSignal(reply.raw)
      return signal
    })
  }
}

/** Aborts where the connection ends before the answer does: the client left, or the gateway gave up. */
function leaveSignal(answer: ServerResponse): AbortSignal {
  const controller = new AbortController()
  const leave = () => {
    if (!answer.writableFinished) controller.abort()
  }
  if (answer.destroyed) leave()
  else answer.once('close', leave)
  return controller.signal
}

/** Answers with the envelope of `fault`. */
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

function faultOf(error: unknown): Fault {
  if (error instanceof Fault) return error
  const { code = '', statusCode = 500, message, validation } = Object(error) as FastifyError
  // A route's own JSON schema: its text names the field.
  if (validation) return new Fault('VALIDATION_FAILED', message, { publicMessage: message })
  const known = FRAMEWORK_FAULTS[code]
  if (known !== undefined) return new Fault(known, message)
  if (error instanceof SyntaxError && statusCode === 400)
    return new Fault('BODY_INVALID', messageForLog(error))
  if (statusCode >= 400 && statusCode < 500) return new Fault('BAD_REQUEST', message)
  return toFault(error)
}
