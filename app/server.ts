import { readFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import fastify, { type FastifyInstance } from 'fastify'
import { Fault } from '../registry/lib/errors.ts'
import { type Exposition, expose } from '../registry/lib/exposition.ts'
import type { Log } from '../registry/lib/log.ts'
import { SpanExporter } from '../registry/lib/trace/exporter.ts'
import { showExporter } from '../registry/lib/trace/exporter-metrics.ts'
import { makeTracer } from '../registry/lib/trace/tracer.ts'
import { authRoutes } from './api/auth.ts'
import { eventRoutes } from './api/events.ts'
import { fileRoutes } from './api/files.ts'
import { projectRoutes } from './api/projects.ts'
import { socketRoutes } from './api/sockets.ts'
import { TenantEvents } from './api/tenant-events.ts'
import { makeTokens } from './api/tokens.ts'
import { whoamiRoute } from './api/whoami.ts'
import type { AppConfig } from './config.ts'
import { Drain } from './drain.ts'
import { makeHandle } from './handle.ts'
import { tenantServerOptions } from './kit/fastify.ts'
import { openTenantKit } from './kit/open-kit.ts'
import type { TenantBuckets } from './kit/tenant-buckets.ts'
import type { TenantKit } from './kit/tenant-kit.ts'
import type { TenantPools } from './kit/tenant-pools.ts'
import { gaugeKit } from './kit-metrics.ts'
import { type AppMetrics, makeMetrics } from './metrics.ts'

/** JSON and form bodies; files are streamed and bounded by FILE_BYTES_MAX. */
const BODY_BYTES_MAX = 1024 * 1024
const FORM_FIELDS_MAX = 100
const HEAD_BYTES_MAX = 32 * 1024
/** Longer than the gateway keeps its idle connections (55 s), so that it is never us who close first. */
const KEEP_ALIVE_MS = 65_000
const HEAD_TIMEOUT_MS = 70_000
const SOCKET_IDLE_MS = 300_000
/** For the last spans; the process has 2 s for all that is left after the drain. */
const SPANS_CLOSE_MS = 1000

/** The public listener with all that stands behind it, not listening yet. */
export interface AppServer {
  readonly app: FastifyInstance
  readonly kit: TenantKit
  readonly pools: TenantPools
  readonly buckets: TenantBuckets
  readonly metrics: AppMetrics
  readonly drain: Drain
}

export async function makeAppServer(config: AppConfig, log: Log): Promise<AppServer> {
  const metrics = makeMetrics()
  const { traces } = config
  const spans = traces === null ? null : new SpanExporter({ ...traces.exporter, log })
  showExporter(metrics.registry, 'doorman_app_', spans)
  const { kit, pools, buckets } = await openTenantKit({
    ...config.kit,
    replica: { name: config.replica, version: await readVersion() },
    log,
    events: metrics.kitEvents,
    tracer: traces === null || spans === null ? null : makeTracer(spans, traces.sampler),
  })
  gaugeKit(metrics.registry, pools, buckets)
  const drain = new Drain()

  const app = fastify({
    logger: false,
    bodyLimit: BODY_BYTES_MAX,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionTimeout: SOCKET_IDLE_MS,
    // An upload of 5 GiB may take its time; a silent socket is cut by connectionTimeout.
    requestTimeout: 0,
    // Requests that come on kept connections while we stop are answered, and their connection closed.
    return503OnClosing: false,
    exposeHeadRoutes: false,
    // Dropped and not refused: a refusal before the handler would tell known tenants from unknown.
    onProtoPoisoning: 'remove',
    onConstructorPoisoning: 'remove',
    routerOptions: { maxParamLength: 1024, caseSensitive: true },
    ...tenantServerOptions,
    http: { maxHeaderSize: HEAD_BYTES_MAX, headersTimeout: HEAD_TIMEOUT_MS },
  })
  // Fastify says so to what arrives after the listener is closed; a request that was in flight by then
  // would keep its connection, and that the process, until the drain's deadline. Not earlier: the gateway
  // would open new connections, and those not yet accepted are reset when the listener closes.
  app.addHook('onSend', async (_request, reply) => {
    if (drain.isDraining && !app.server.listening) reply.header('connection', 'close')
  })
  parseForms(app)
  const routes = await makeHandle(app, kit, log, metrics)
  await socketRoutes(app, drain, metrics, {
    socketsMax: config.streamsMax,
    perTenantMax: config.streamsPerTenantMax,
  })
  app.get('/readyz', { config: { isOpen: true } }, async (_request, reply) => {
    reply.code(drain.isDraining ? 503 : 200)
    return { status: !drain.isDraining }
  })
  const events = new TenantEvents(config.streamsPerTenantMax)
  authRoutes(app, routes, makeTokens(config.tokens))
  projectRoutes(app, routes, events)
  fileRoutes(app, routes, config.fileBytesMax)
  eventRoutes(app, routes, events, drain, metrics, config.streamsMax)
  whoamiRoute(app, routes, config.replica)
  // The last of all: requests that end late have spans too.
  app.addHook('onClose', () => spans?.close(SPANS_CLOSE_MS))
  await app.ready()
  return { app, kit, pools, buckets, metrics, drain }
}

/** `/livez`, `/readyz` and `/metrics`, on a listener that the public never sees. */
export function makeAdminServer({ drain, metrics }: AppServer): Server {
  const server = createServer((request, response) => {
    response.on('error', () => {})
    const answer = (status: number, body: string, type = 'application/json') =>
      response.writeHead(status, { 'content-type': type }).end(body)
    const isRead = request.method === 'GET' || request.method === 'HEAD'
    if (isRead && request.url === '/livez') answer(200, '{"status":true}')
    else if (isRead && request.url === '/readyz') {
      answer(drain.isDraining ? 503 : 200, JSON.stringify({ status: !drain.isDraining }))
    } else if (isRead && request.url === '/metrics') {
      exposeOf(metrics, request.headers.accept).then(
        ({ text, contentType }) => answer(200, text, contentType),
        () => answer(503, '{"status":false}'),
      )
    } else answer(404, '{"status":false}')
  })
  server.headersTimeout = 10_000
  server.requestTimeout = 10_000
  server.maxConnections = 100
  return server
}

async function readVersion(): Promise<string> {
  const manifest = await readFile(join(import.meta.dirname, '../package.json'), 'utf8')
  return String((JSON.parse(manifest) as { version: unknown }).version)
}

async function exposeOf({ registry }: AppMetrics, accept: string | undefined): Promise<Exposition> {
  return expose(await registry.getMetricsAsJSON(), accept)
}

function parseForms(app: FastifyInstance): void {
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    (_request, body, done) => {
      const fields = new Map<string, string>()
      for (const [name, value] of new URLSearchParams(String(body))) {
        if (fields.has(name) || fields.size >= FORM_FIELDS_MAX) {
          done(new Fault('BODY_INVALID', 'a form field stands twice, or there are too many'))
          return
        }
        fields.set(name, value)
      }
      // fromEntries defines properties, so that a field named __proto__ is a field like any other.
      done(null, Object.fromEntries(fields))
    },
  )
}
