import type {
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  RouteShorthandOptionsWithHandler,
} from 'fastify'
import { ZodError } from 'zod'
import { Fault } from '../registry/lib/errors.ts'
import type { Log } from '../registry/lib/log.ts'
import type { Attributes } from '../registry/lib/trace/span.ts'
import { tenantPlugin } from './kit/fastify.ts'
import type { Scope, TenantKit } from './kit/tenant-kit.ts'
import type { AppMetrics } from './metrics.ts'

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
  (handler: Handler) => RouteShorthandOptionsWithHandler
>

/**
 * The life of a request, in order:
 *
 *   verify → (body parsed) → pool lease, at the first statement → transaction → handler → respond
 *   → finally release, meter, access log
 *
 * All but the last line is the kit's plugin; what is added here is this API's envelope, log and metrics.
 */
export async function makeHandle(
  app: FastifyInstance,
  kit: TenantKit,
  log: Log,
  metrics: AppMetrics,
): Promise<Routes> {
  // Its lines hold no secret, and looking for some costs ten times what writing them does; an error's
  // own fields are another matter and go by `log`.
  const lines = log.child({}, { redact: [] })
  // Before the plugin's hook, which refuses requests that are logged too.
  app.addHook('onRequest', async (request, reply) => {
    const startedAt = performance.now()
    // 'close' comes after a full answer and after an abort alike; Fastify's onResponse does not. Of an
    // upgrade it is the socket's: the answer is never finished.
    const ending = request.raw.headers.upgrade === undefined ? reply.raw : request.raw.socket
    ending.once('close', () =>
      finish(request, reply, performance.now() - startedAt, { log, lines }, metrics),
    )
  })
  await app.register(tenantPlugin, { kit, mapError: zodFault })

  const route = (isTransactional: boolean) => (handler: Handler) => ({
    config: { isTransactional },
    handler: async (request: FastifyRequest, reply: FastifyReply) => {
      const answer = await handler(request.scope, request, reply)
      if (answer === null) return reply
      reply.code(answer.status ?? 200)
      return { status: true, message: answer.message, result: answer.result }
    },
  })
  return { reading: route(false), mutating: route(true) }
}

function zodFault(error: unknown): Fault | null {
  if (!(error instanceof ZodError)) return null
  const [issue] = error.issues
  const where = issue?.path.join('.') || 'body'
  return new Fault('VALIDATION_FAILED', `${where}: ${issue?.message}`, {
    publicMessage: `${where}: ${issue?.message ?? 'not valid'}`,
  })
}

/** By the semantic conventions for HTTP servers; neither the query nor the path, whose pattern says enough. */
function spanAttributes(request: FastifyRequest, route: string, status: number): Attributes {
  const { fault, admitted } = request
  return [
    ...['http.request.method', request.method, 'http.route', route, 'url.scheme', 'http'],
    ...['http.response.status_code', status, 'error.type', fault?.code],
    ...['doorman.request_id', request.id],
    ...['doorman.tenant.id', admitted?.claims.tid, 'doorman.tenant.key', admitted?.claims.key],
  ]
}

function finish(
  request: FastifyRequest,
  reply: FastifyReply,
  ms: number,
  logs: { readonly log: Log; readonly lines: Log },
  metrics: AppMetrics,
): void {
  // The pattern, never the path: it is the label of a metric.
  const route = request.routeOptions.url ?? 'none'
  const { fault, admitted } = request
  const isUpgraded = request.raw.headers.upgrade !== undefined && !reply.raw.headersSent
  const statusCode = isUpgraded ? 101 : reply.raw.statusCode
  metrics.requests.inc({ method: request.method, route, status: String(statusCode) })
  const trace_id = admitted?.trace?.traceId
  const exemplarLabels: { trace_id?: string } = trace_id === undefined ? {} : { trace_id }
  metrics.seconds.observe({ labels: { route }, value: ms / 1000, exemplarLabels })
  if (fault !== null) metrics.faults.inc({ code: fault.code })
  if (fault?.tenantFault !== undefined) metrics.tenantFaults.inc({ reason: fault.tenantFault })
  admitted?.trace?.end(
    `${request.method} ${route}`,
    performance.now() - ms,
    spanAttributes(request, route, statusCode),
    statusCode >= 500,
  )
  const line = {
    request_id: request.id,
    trace_id,
    tenant_id: admitted?.claims.tid,
    method: request.method,
    route,
    status: statusCode,
    ms: Math.round(ms * 10) / 10,
    aborted: reply.raw.writableFinished || isUpgraded ? undefined : true,
    code: fault?.code,
    tenant_fault: fault?.tenantFault,
    reason: fault?.reason,
  }
  if (fault?.code === 'INTERNAL') logs.log.error({ ...line, err: fault.cause ?? fault }, 'request')
  else if (request.routeOptions.config.isOpen === true) logs.lines.debug(line, 'request')
  else logs.lines.info(line, 'request')
}
