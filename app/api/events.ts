import type { FastifyInstance } from 'fastify'
import { Fault } from '../../registry/lib/errors.ts'
import type { Drain } from '../drain.ts'
import type { Routes } from '../handle.ts'
import { requireUser } from '../kit/tenant-kit.ts'
import type { AppMetrics } from '../metrics.ts'
import type { TenantEvents } from './tenant-events.ts'
import { untilExpiry } from './until-expiry.ts'

/** A comment line so often keeps every proxy on the way from giving the stream up. */
const HEARTBEAT_MS = 15_000
/** A client that reads slower than its tenant works is cut; it comes back and reads anew. */
const BACKLOG_BYTES_MAX = 256 * 1024

/** Server-sent events: `ready` with the tenant, then every change of a project on this replica. */
export function eventRoutes(
  app: FastifyInstance,
  { reading }: Routes,
  events: TenantEvents,
  drain: Drain,
  metrics: AppMetrics,
  streamsMax: number,
) {
  let streams = 0
  app.get(
    '/api/events',
    reading(async (scope, _request, reply) => {
      const user = requireUser(scope.principal)
      if (drain.isClosing) throw new Fault('SHUTTING_DOWN', 'draining')
      if (streams >= streamsMax) throw new Fault('TENANT_UNAVAILABLE', 'too many event streams')
      const { raw } = reply
      const send = (event: string, data: unknown) => {
        raw.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)
        if (raw.writableLength > BACKLOG_BYTES_MAX) raw.destroy()
      }
      const unsubscribe = events.subscribe(scope.tenant.id, send)
      reply.hijack()
      streams += 1
      metrics.streams.inc({ kind: 'sse' })
      const heartbeat = setInterval(() => raw.write(': still here\n\n'), HEARTBEAT_MS)
      const stopClock = untilExpiry(user.expiresAtS, () => raw.end())
      const forget = drain.onDrain(() => raw.end())
      raw.on('error', () => {})
      raw.once('close', () => {
        streams -= 1
        metrics.streams.dec({ kind: 'sse' })
        clearInterval(heartbeat)
        stopClock()
        forget()
        unsubscribe()
      })
      raw.writeHead(200, {
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-store',
        'x-accel-buffering': 'no',
        'x-request-id': scope.requestId,
      })
      send('ready', { tenant: scope.tenant.key, user: user.id })
      return null
    }),
  )
}
