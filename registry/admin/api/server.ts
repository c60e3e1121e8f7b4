import { randomUUID } from 'node:crypto'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { z } from 'zod'
import { holderOf, serveSessions } from '../../console/session-routes.ts'
import type { ConsoleSessions } from '../../console/sessions.ts'
import { Fault } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { GatewayQuestions } from '../../live/questions.ts'
import { parseTenantId } from '../../tenant.ts'
import { type Actor, covers } from '../actor.ts'
import type { Authenticator } from '../authenticate.ts'
import type { AdminDeps } from '../deps.ts'
import { readFields } from '../fields.ts'
import { answer, answerFault, faultOf } from './answer.ts'
import { openApiDocument } from './openapi.ts'
import type { Operation } from './operation.ts'
import { OPERATIONS } from './operations.ts'
import {
  codeOf,
  expectedOf,
  idempotencyKeyOf,
  idOf,
  keyOf,
  lastEventIdOf,
  nameOf,
  queryOf,
  saneRequestId,
} from './request.ts'

/** Where the API is on the internal listener. */
export const ADMIN_BASE = '/api/admin'

const BODY_BYTES_MAX = 64 * 1024
/** Each may hold connections to a Registry, a database and a bucket. */
const ADMIN_REQUESTS_MAX = 64

declare module 'fastify' {
  interface FastifyRequest {
    /** Set by the key; null where it was refused. */
    actor: Actor | null
    /** What the request failed with, for the log. */
    adminFault: Fault | null
  }
}

/**
 * The admin API, ready to be handed requests (`app.routing`); it does not listen by itself. The life of a
 * request: key → scope → body → handler → envelope → log line.
 */
export async function makeAdminApp(
  deps: AdminDeps,
  doors: Authenticator,
  sessions: ConsoleSessions,
  log: Log,
): Promise<FastifyInstance> {
  const app = fastify({
    logger: false,
    bodyLimit: BODY_BYTES_MAX,
    genReqId: raw => saneRequestId(raw.headers['x-request-id']) ?? randomUUID(),
    requestIdHeader: false,
    exposeHeadRoutes: true,
    routerOptions: { maxParamLength: 256, caseSensitive: true },
    frameworkErrors: (error, request, reply) => {
      answerFault(faultOf(error), request, reply as FastifyReply)
    },
  })
  app.decorateRequest('actor', null)
  app.decorateRequest('adminFault', null)
  parseJson(app)
  let inFlight = 0
  // Before the body: nothing of a stranger's is read.
  app.addHook('onRequest', async (request, reply) => {
    const startedAt = performance.now()
    inFlight += 1
    reply.raw.once('close', () => {
      inFlight -= 1
      logRequest(log, request, reply, performance.now() - startedAt)
    })
    reply.header('x-request-id', request.id)
    if (inFlight > ADMIN_REQUESTS_MAX)
      throw new Fault('OVERLOADED', 'too many admin requests at once')
    if (request.routeOptions.config.isSignIn === true) return
    const holder = await holderOf(request, keyOf(request), doors, sessions)
    request.actor = { ...holder, requestId: request.id }
  })
  app.setErrorHandler((error, request, reply) => {
    const fault = faultOf(error)
    request.adminFault = fault
    return answerFault(fault, request, reply)
  })
  app.setNotFoundHandler((request, reply) => {
    request.adminFault = new Fault('ROUTE_NOT_FOUND', 'no such operation')
    return answerFault(request.adminFault, request, reply)
  })
  const gateways = new GatewayQuestions(deps.store)
  for (const operation of OPERATIONS) serve(app, deps, gateways, operation)
  const document = openApiDocument(ADMIN_BASE, OPERATIONS)
  serveSessions(app, ADMIN_BASE, doors, sessions)
  app.get(`${ADMIN_BASE}/openapi.json`, async () => document)
  await app.ready()
  return app
}

function serve(
  app: FastifyInstance,
  deps: AdminDeps,
  gateways: GatewayQuestions,
  operation: Operation,
): void {
  app.route({
    method: operation.method,
    url: `${ADMIN_BASE}${operation.path}`,
    preParsing: async request => {
      if (!covers(actorOf(request).scope, operation.scope)) {
        throw new Fault('ADMIN_SCOPE_TOO_NARROW', `${operation.name} needs ${operation.scope}`)
      }
    },
    handler: async (request, reply) => {
      const gone = new AbortController()
      reply.raw.once('close', () => gone.abort())
      const outcome = await operation.run({
        ...{ deps, gateways },
        actor: actorOf(request),
        // An operation without a tenant in its path does not look at it.
        id: operation.path.includes(':id') ? idOf(request.params) : ('' as never),
        code: operation.path.includes(':code') ? codeOf(request.params) : '',
        query: readFields(operation.query ?? NOTHING, queryOf(request)),
        body: readFields(
          operation.bodyFor?.(request.body) ?? operation.body ?? NOTHING,
          request.body ?? undefined,
        ),
        expected: expectedOf(request),
        idempotencyKey: idempotencyKeyOf(request),
        name: operation.path.includes(':name') ? nameOf(request.params) : '',
        lastEventId: lastEventIdOf(request),
        gone: gone.signal,
      })
      return answer(reply, operation, outcome)
    },
  })
}

const NOTHING = z.strictObject({}).default({})

/** Set by the hook that every request of a route has passed. */
function actorOf({ actor }: FastifyRequest): Actor {
  if (actor === null) throw new Fault('INTERNAL', 'no actor')
  return actor
}

/** JSON and nothing else. Some clients announce it and send nothing. */
function parseJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined)
    else parse(request, String(body), done)
  })
}

/** One line per request: who, what, how it ended. Neither query nor body. */
function logRequest(log: Log, request: FastifyRequest, reply: FastifyReply, ms: number): void {
  const { actor, adminFault: fault } = request
  const { id } = Object(request.params) as { id?: unknown }
  const line = {
    request_id: request.id,
    actor: actor?.name,
    address: request.socket.remoteAddress,
    method: request.method,
    route: request.routeOptions.url ?? 'none',
    tenant_id: parseTenantId(id) ?? undefined,
    status: reply.raw.statusCode,
    ms: Math.round(ms * 10) / 10,
    code: fault?.code,
    reason: fault?.reason,
  }
  if (fault?.code === 'INTERNAL') log.error({ ...line, err: fault.cause ?? fault }, 'admin request')
  else log.info(line, 'admin request')
}
